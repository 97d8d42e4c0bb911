"""The configuration sections that several phases share."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from workbench.run.config import Section

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]
"""One name, or a list of them."""


class RunSection(Section):
    """Where a run is kept and how it is seeded."""

    dir: str
    """Run folder to write."""
    seed: NonNegativeInt = 0
    overwrite: bool = False
    """Delete an existing run of the same phase in this folder and start anew."""
    threads: NonNegativeInt = 0
    """CPU threads of torch; 0: its own choice. Results on a CPU are bit-identical for equal counts only."""


class TrackingSection(Section):
    """Where metrics go besides `metrics.jsonl`."""

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """`auto`: as the environment variable WANDB_MODE says; else online when logged in, offline otherwise."""
    project: str | None = None
    """W&B project. None: as WANDB_PROJECT says, else `alignment-workbench`."""
    log_every: PositiveInt = 10
    """Optimizer steps (iterations in ppo) between two rows of metrics."""


class RowsSection(Section):
    """How the rows of data files are read."""

    ignore: Names = ()
    """Columns to leave unread, such as [input, history]: a column of text that no form uses is otherwise an error."""
    bad_rows: Literal["auto", "error", "skip"] = "auto"
    """Rows that cannot be read: `skip` leaves them out, counted and listed; `auto` does while they are at most 1 %."""


class PairSection(RowsSection):
    """Preference pairs."""

    train: str
    """Preferences in any form of docs/data.md; records marked `split: heldout` are kept out."""
    heldout: str | None = None
    """Held-out preferences; None takes the marked records, or holds out `heldout_share` of the groups."""
    heldout_share: Share = 0.05
    """Share of the groups that is held out, if no pairs are named or marked as held out."""
    limit: NonNegativeInt = 0
    """Train on the first so many pairs; 0: on all."""
    max_length: PositiveInt = 1024
    """Tokens of the prompt with either response; longer pairs are left out, and counted."""


class CheckpointSection(Section):
    """How often a run is saved, and how much of it is kept."""

    every: NonNegativeInt = 0
    """Optimizer steps (iterations in ppo) between two checkpoints; 0: only at the end."""
    keep_last: PositiveInt = 2


class BaseSection(Section):
    """The frozen base that adapters are trained on."""

    base: str | None = None
    """`tiny` (the embedded default), a local Hugging Face folder, or a hub id. None: the parent's."""
    revision: str | None = None
    """Commit or branch of a hub id."""
    quantise: Literal["nf4", "none"] = "nf4"
    """NF4 with double quantisation, or the weights as they are."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of unquantised weights and of computation; `auto`: bfloat16 on a GPU, float32 on a CPU."""
    pad_token: str | None = None
    """Token to pad with; None: the base's own, or another special token that ends no answer."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""


class StartSection(Section):
    """The run that a phase starts from; it also says in which form the base was and is."""

    base: str | None = None
    """Where the start run's base is now: `tiny`, a local folder, or a hub id. None: where it was."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    start: str
    """The sft run (or a later policy) whose adapter is copied."""


class LoraSection(Section):
    """The shape of a new LoRA adapter; on all linear layers except the heads."""

    r: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: Share = 0.0


class OptimizerSection(Section):
    """AdamW and its schedule for one pass of supervised or contrastive training."""

    lr: PositiveFloat = 1e-4
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_share: Share = 0.05
    """Share of the steps in which the learning rate rises from 0."""
    epochs: PositiveFloat = 1.0
    max_steps: NonNegativeInt = 0
    """Stop after so many optimizer steps; 0: after the epochs."""
    batch_size: PositiveInt = 32
    """Examples in one optimizer step, over all micro-batches."""
    micro_batch_size: PositiveInt = 32
    """Examples in one forward pass; must divide batch_size."""
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat = 1.0
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    adam_eps: PositiveFloat = 1e-8
    optimizer: Literal["adamw_torch", "paged_adamw_8bit"] = "adamw_torch"
