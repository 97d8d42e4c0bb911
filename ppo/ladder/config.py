"""What `python -m ppo pairs` reads from a YAML file."""

from typing import Annotated

from pydantic import Field, field_validator

from workbench.run.config import Section
from workbench.run.sections import NonNegativeFloat, PositiveInt, RowsSection, Seed, Share, Temperature


class RungSection(Section):
    """One way to answer, weaker or stronger than its neighbours."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """In the output's `chosen_run` and `rejected_run`."""
    run: str | None = None
    """Run folder that answers; None: `ladder.start`."""
    scale: NonNegativeFloat = 1.0
    """Factor on the adapter's update: 0 is the bare base, ½ half of what training changed."""
    temperature: Temperature = 1.0
    """Sampling temperature."""
    best_of: PositiveInt = 1
    """Answers sampled per prompt, of which the reward model takes the best."""


WITHOUT_LABELS = (
    RungSection(name="base", scale=0.0),
    RungSection(name="hot", temperature=1.3),
    RungSection(name="sft", temperature=0.7),
)


class LadderSection(Section):
    """How answers of different strength are sampled."""

    start: str
    """Run folder of the supervised model."""
    reward: str | None = None
    """Reward run that measures the ladder and chooses the best of several answers. None: the order of the rungs is
    taken on trust, and no label is used."""
    rungs: Annotated[tuple[RungSection, ...], Field(min_length=2)] = WITHOUT_LABELS
    """Ways to answer, the weakest first. Each has a `name` and may have `run` (default: `ladder.start`), `scale`
    (factor on the adapter's update, 0 is the bare base), `temperature` and `best_of`."""
    prompts: str
    """File of prompts, or `tiny:prompts` (the embedded default)."""
    number: PositiveInt = 1000
    """Prompts to answer, from the start of the file."""
    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per answer."""
    batch_size: PositiveInt = 64
    """Answers sampled at one time."""
    seed: Seed = 0
    """Seed of sampling, and of the choice of pairs."""
    out: str
    """Folder for the answers of each rung, `ladder.json` and `preferences.jsonl`."""

    @field_validator("rungs")
    @classmethod
    def _have_names_of_their_own(cls, rungs: tuple[RungSection, ...]) -> tuple[RungSection, ...]:
        names = [rung.name for rung in rungs]
        if len(set(names)) < len(names):
            raise ValueError(f"two rungs have the name {max(names, key=names.count)!r}")
        return rungs


class SelectSection(Section):
    """Which pairs of answers become preferences."""

    win_rate: Share = 0.6
    """A rung that does not win so often against the rung kept below it is dropped."""
    margin: NonNegativeFloat = 0.0
    """By how much the chosen answer's score exceeds the rejected one's, at least, in deviations of the scores."""
    length_ratio: Annotated[float, Field(ge=1)] = 1.5
    """Tokens of the longer answer over those of the shorter one, at most."""
    per_prompt: PositiveInt = 3
    """Pairs per prompt, at most; which ones depends on a hash."""


class PairsConfig(Section):
    """Everything `python -m ppo pairs` reads."""

    ladder: LadderSection
    select: SelectSection = SelectSection()
    data: RowsSection = RowsSection()
