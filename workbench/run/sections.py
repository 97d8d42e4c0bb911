"""The configuration sections that several phases share."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from workbench.run.config import Section
from workbench.run.options import MOST_SEED

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=0.01)]
"""Of sampling. Below 0.01 sampling is greedy, and the log-probabilities of the tempered distribution overflow."""
_ONE_OR_SEVERAL = BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)
Names = Annotated[tuple[str, ...], _ONE_OR_SEVERAL]
"""One name, or a list of them."""

PersonalKind = Literal["email", "iban", "card", "ip", "phone", "name"]
PersonalKinds = Annotated[tuple[PersonalKind, ...], _ONE_OR_SEVERAL]
"""One kind of personal data, or a list of them."""


class RunSection(Section):
    """The run folder, the seed and the CPU threads."""

    dir: str
    """Run folder to write."""
    seed: Seed = 0
    """Seed of the data split, the initial weights, the batches and sampling."""
    overwrite: bool = False
    """Delete an existing run of the same phase in this folder and start over."""
    threads: NonNegativeInt = 0
    """CPU threads of torch; 0: torch's default. CPU results are bit-identical only for equal numbers of threads."""


class SourceSection(Section):
    """Something that is made by running a configuration, or is there already."""

    use: str
    """A YAML file that is run once (per seed, or per round), or a finished run or file that is used as it is."""
    set: tuple[str, ...] = ()
    """Values `a.b=value` that replace the file's."""

    @property
    def is_config(self) -> bool:
        """Whether `use` is a configuration to run."""
        return self.use.endswith((".yaml", ".yml"))


class TrackingSection(Section):
    """Where metrics go besides `metrics.jsonl`."""

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """W&B mode. `auto`: WANDB_MODE if it is set; otherwise online if logged in, else offline."""
    project: str | None = None
    """W&B project. None: WANDB_PROJECT if it is set, else `alignment-workbench`."""
    log_every: PositiveInt = 10
    """Optimizer steps (iterations in ppo) between two rows of metrics."""


class RowsSection(Section):
    """How the rows of data files are read."""

    ignore: Names = ()
    """Columns to ignore, such as [input, history]. Otherwise a text column that no known form uses is an error."""
    bad_rows: Literal["auto", "error", "skip"] = "auto"
    """Unreadable rows. `skip`: leave out, count and list them. `auto`: skip up to 1 % of the rows, else an error."""


class PersonalRowsSection(RowsSection):
    """How the rows of data files are read, by phases that can mask personal data."""

    mask_personal: PersonalKinds = ()
    """Kinds of personal data to mask before anything else reads the texts: email, phone, iban, card, ip, name (see
    docs/privacy.md)."""


class AugmentSection(Section):
    """Changed copies of the training texts; held-out texts are never changed."""

    transforms: tuple[Literal["typos", "casing", "punctuation", "paraphrase", "words"], ...] = ()
    """Changes that keep the label or the answer right; each copy gets one of them, drawn by the seed of the run. None:
    no copies."""
    copies: PositiveInt = 1
    """Changed copies of each training text."""
    words: Names = ()
    """For the change `words`: words of the labels and of their subject that mean the same here, such as
    [spam=junk, app=application]. Each becomes the other."""

    @model_validator(mode="after")
    def _has_words(self) -> "AugmentSection":
        if ("words" in self.transforms) != bool(self.words):
            raise ValueError("transforms with `words`, and words such as [spam=junk], or neither")
        wrong = [pair for pair in self.words if not all(side.strip() for side in pair.partition("=")[::2])]
        if wrong:
            raise ValueError(f"words as WORD=WORD, not {wrong[0]!r}")
        return self


class PairSection(RowsSection):
    """Preference pairs."""

    train: str
    """Preferences in any form of docs/data.md; records marked `split: heldout` are kept out."""
    heldout: str | None = None
    """Held-out preferences; None takes the marked records, or holds out `heldout_share` of the groups."""
    heldout_share: Share = 0.05
    """Share of the groups that is held out, if no pairs are named or marked as held out."""
    limit: NonNegativeInt = 0
    """Train on this many pairs, the first ones; 0: on all."""
    max_length: PositiveInt = 1024
    """Tokens of the prompt with either response; longer pairs are left out and counted."""


class CheckpointSection(Section):
    """How often a run is saved, and how many checkpoints are kept."""

    every: NonNegativeInt = 0
    """Optimizer steps (iterations in ppo) between two checkpoints; 0: only at the end."""
    keep_last: PositiveInt = 2
    """Newest checkpoints to keep; older ones are deleted."""


Kernels = Literal["auto", "modules", "cpu"]


class ModelSection(Section):
    """How the model is computed, whatever it starts from."""

    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    kernels: Kernels = "auto"
    """`modules`: the forward pass of transformers, peft and bitsandbytes. `cpu`: our kernels for a Llama in float32 on
    a CPU; an error if they do not apply. `auto`: the CPU kernels if they apply, else the modules."""


class BaseSection(ModelSection):
    """The frozen base that adapters are trained on."""

    base: str | None = None
    """`tiny` (the embedded default), a local Hugging Face folder, or a hub id."""
    revision: str | None = None
    """Commit or branch of a hub id."""
    quantise: Literal["nf4", "none"] = "nf4"
    """`nf4`: 4-bit NF4 with double quantisation. `none`: the weights as stored."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of unquantised weights and of computation. `auto`: bfloat16 on a GPU, float32 on a CPU."""
    pad_token: str | None = None
    """Padding token. None: the base's own, or another special token that does not end an answer."""


class StartSection(ModelSection):
    """The run that a phase starts from. Its record also says how the base is loaded."""

    base: str | None = None
    """Where the start run's base is now: `tiny`, a local folder, or a hub id. None: where it was then."""
    start: str
    """The sft run (or a later policy) whose adapter is copied."""


class LoraSection(Section):
    """The shape of a new LoRA adapter, which is added to all linear layers except the heads."""

    r: PositiveInt = 16
    """Rank."""
    alpha: PositiveInt = 32
    """The adapter's output is multiplied by alpha / r."""
    dropout: Share = 0.0
    """Dropout of the adapter's input during training."""


class OptimizerSection(Section):
    """AdamW and its schedule for one pass of supervised or contrastive training."""

    lr: PositiveFloat = 1e-4
    """Peak learning rate."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the learning rate after the warm-up; linear and cosine fall to 0."""
    warmup_share: Share = 0.05
    """Share of the steps over which the learning rate rises from 0; none in a run of one step."""
    epochs: PositiveFloat = 1.0
    """Passes over the training data."""
    max_steps: NonNegativeInt = 0
    """Stop after this many optimizer steps; 0: after the epochs."""
    batch_size: PositiveInt = 32
    """Examples per optimizer step, over all micro-batches."""
    micro_batch_size: PositiveInt = 32
    """Examples per forward pass; must divide batch_size."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of AdamW."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are clipped to this norm."""
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """AdamW's β₂."""
    adam_eps: PositiveFloat = 1e-8
    """AdamW's ε."""
    optimizer: Literal["adamw_torch", "paged_adamw_8bit"] = "adamw_torch"
    """`paged_adamw_8bit` keeps 8-bit states, which a GPU can page out to main memory."""
