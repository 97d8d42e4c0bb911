"""What `python -m workbench compare` reads from a YAML file."""

from typing import Annotated

from pydantic import Field, field_validator

from workbench.run.config import Section
from workbench.run.sections import NonNegativeInt, PositiveFloat, PositiveInt, Seed, SourceSection

BASELINE = "sft"
"""Name of the supervised model itself, with which every method is compared."""
OTHER_FOLDERS = ("annotate", "reward", "evaluations")
"""Folders of a seed that belong to no method."""


class MethodSection(Section):
    """One method: a phase's configuration, or the supervised model with more work at sampling time."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """In tables, and the name of its folder."""
    config: str | None = None
    """YAML file of `python -m ppo`. None: nothing is trained, the supervised model answers."""
    set: tuple[str, ...] = ()
    """Values `a.b=value` that replace the file's."""
    best_of: PositiveInt = 1
    """Answers sampled for each one that is kept, the one that the reward model scores highest."""
    shots: NonNegativeInt = 0
    """Demonstrations shown before each prompt."""


class CompareSection(Section):
    """What is compared."""

    out: str
    """Folder for all runs, the table `compare.json` and the page `compare.html`."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    """Each seed has its own supervised run, labels, reward model and run of each method. One seed shows nothing about
    the variance of training."""
    sft: SourceSection
    """The supervised model that every method starts from: YAML of `python -m sft`, or a run."""
    labels: SourceSection
    """The preferences that every method learns from: YAML of `python -m annotate`, whose simulated annotators label
    pairs, or a file."""
    reward: SourceSection
    """The reward model of the methods that need one, from the same labels: YAML of `python -m reward`, or a run."""
    methods: tuple[MethodSection, ...] = ()
    """The methods besides the supervised model itself, which is called `sft`: each has a `name` and may have `config`,
    `set`, `best_of` and `shots`."""

    @field_validator("methods")
    @classmethod
    def _have_names_of_their_own(cls, methods: tuple[MethodSection, ...]) -> tuple[MethodSection, ...]:
        for method in methods:
            if method.name in OTHER_FOLDERS or not method.name.strip("."):
                raise ValueError(
                    f"a method may not be called {method.name!r}: its folder would be another one of the comparison"
                )
        names = [BASELINE, *(method.name for method in methods)]
        if len(set(names)) < len(names):
            raise ValueError(f"two methods have the name {max(names, key=names.count)!r}")
        return methods

    @field_validator("seeds")
    @classmethod
    def _are_different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"a seed occurs twice: {list(seeds)}")
        return seeds


class MeasureSection(Section):
    """How every method is measured."""

    prompts: str
    """File of held-out prompts, or `tiny:prompts_heldout`."""
    demonstrations: str
    """File of held-out demonstrations, for the alignment tax."""
    examples: str | None = None
    """File of demonstrations that a row's `shots` are taken from, the first ones."""
    judge: str | None = None
    """Reward run that judges if no gold reward is known. It should be fitted on other labels than `compare.reward`, or
    it favours the methods that maximise that one. None: `compare.reward`."""
    answers: Annotated[int, Field(ge=2)] = 2
    """Answers per prompt. Two or more: the comparison tests itself by splitting them."""
    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per answer. Rankings can depend on it."""
    batch_size: PositiveInt = 64
    """Answers sampled at one time."""
    gain: PositiveFloat = 0.03
    """Difference, in units of the gold reward or score, whose chance of being found is computed."""


class CompareConfig(Section):
    """Everything `python -m workbench compare` reads."""

    compare: CompareSection
    measure: MeasureSection
