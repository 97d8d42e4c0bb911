"""Configuration of supervised tuning."""

from typing import Annotated, Literal

from pydantic import Field

from workbench.run.config import Section
from workbench.run.sections import (
    AugmentSection,
    BaseSection,
    CheckpointSection,
    LoraSection,
    NonNegativeFloat,
    NonNegativeInt,
    OptimizerSection,
    PersonalRowsSection,
    PositiveFloat,
    PositiveInt,
    RunSection,
    Share,
    Temperature,
    TrackingSection,
)


class MixSection(Section):
    """A further file of demonstrations."""

    file: str
    """File in any form of docs/data.md."""
    share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the demonstrations that are trained on."""


class DataSection(PersonalRowsSection):
    """Demonstrations."""

    train: str
    """File of demonstrations in any form of docs/data.md, or `tiny:demonstrations`."""
    validation: str | None = None
    """File of held-out demonstrations; None holds out `validation_share` of the training file."""
    validation_share: Share = 0.05
    """Share of the prompts that is held out if `validation` is not given."""
    max_length: PositiveInt = 1024
    """Tokens of prompt and response together; longer demonstrations are left out and counted."""
    loss_on: Literal["last", "all"] = "last"
    """Assistant turns whose tokens are in the loss: the last one of each conversation, or all. The others are context
    only; their number is printed at the start."""
    mix: tuple[MixSection, ...] = ()
    """Further files to train on, each with `file` and `share` (of all demonstrations; the rest is `train`)."""
    replay: Share = 0.2
    """With `model.start`: share of the demonstrations that come from that run's training data, against forgetting."""
    replay_train: str | None = None
    """Where the start run's `data.train` is now; None: where it was."""
    replay_validation: str | None = None
    """Where the start run's `data.validation` is now; None: where it was. It shows what is forgotten."""
    streaming: bool = False
    """Read training files row by row, and keep demonstrations and token rows in files ($WORKBENCH_CACHE): for data
    larger than memory. Validation files stay in memory."""
    packing: bool = False
    """Pack several demonstrations into one row of max_length tokens; they do not attend to each other."""


class ModelSection(BaseSection):
    """The frozen base that adapters are trained on, or the run that training goes on from."""

    start: str | None = None
    """A finished sft or ppo run: its adapter is copied and trained further on its base. `base` then says where that
    base is now (null: where it was); the other keys of the base and of a new adapter are those of the run."""


class AdapterLoraSection(LoraSection):
    """The shape of a new LoRA adapter, and how fast its two matrices learn."""

    variant: Literal["plain", "rslora", "dora"] = "plain"
    """`rslora`: scale by alpha / √r. `dora`: also train the length of each output's weights; no later phase can start
    from such a run."""
    b_lr_ratio: PositiveFloat = 1.0
    """Learning rate of B as a multiple of that of A (LoRA+)."""


class SoftPromptSection(Section):
    """The shape of a new soft prompt or prefix."""

    tokens: PositiveInt = 20
    """Virtual tokens; they take positions of the base."""


class TrainSection(OptimizerSection):
    """AdamW, its schedule, and when training counts as failed."""

    neftune_alpha: NonNegativeFloat = 0.0
    """Uniform noise on the embeddings in training, up to alpha / √(tokens · width) (NEFTune); 0: none."""

    fail_if_worse: bool = False
    """Fail without an adapter if the validation loss is worse than before training; otherwise only warn."""


class SampleSection(Section):
    """Answers sampled before and after training, to look at."""

    prompts: NonNegativeInt = 8
    """Held-out prompts to answer; 0: none."""
    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per answer."""
    temperature: Temperature = 1.0
    """Sampling temperature."""


class SftConfig(Section):
    """Everything `python -m sft` reads."""

    run: RunSection
    model: ModelSection
    adapter: Literal["lora", "prompt", "prefix"] = "lora"
    """What is trained: LoRA; learned embeddings before each row (`prompt`); or learned keys and values in each layer
    (`prefix`). Reward, ppo and contrastive training can start from LoRA alone."""
    lora: AdapterLoraSection = AdapterLoraSection()
    soft_prompt: SoftPromptSection = SoftPromptSection()
    data: DataSection
    augment: AugmentSection = AugmentSection()
    train: TrainSection = TrainSection()
    checkpoint: CheckpointSection = CheckpointSection()
    sample: SampleSection = SampleSection()
    tracking: TrackingSection = TrackingSection()
