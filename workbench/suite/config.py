"""What `python -m workbench evaluate RUN … --suite FILE` reads from the suite's YAML file."""

from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from workbench.data.perturb import DIMENSIONS, PERTURBATIONS
from workbench.run.config import Section
from workbench.run.errors import did_you_mean
from workbench.run.sections import NonNegativeInt


def _known(names: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is unknown; {did_you_mean(name, known)}")
    return names


class SuiteDataSection(Section):
    """What the runs are measured on."""

    references: str
    """Held-out demonstrations, or `tiny:demonstrations_heldout`: prompts with a reference response."""
    limit: NonNegativeInt = 200
    """Use this many prompts (and pairs, for reward runs), the first ones; 0: all."""
    choices: str | None = None
    """File in the form of RewardBench 2 for reward runs: each row has a prompt, right responses and wrong ones."""


class FewShotSection(Section):
    """The untuned base with examples in its prompt, next to the base without."""

    shots: NonNegativeInt = 0
    """Demonstrations before each prompt; 0: no such column."""
    examples: str | None = None
    """File of demonstrations that the shots are taken from, its first ones."""

    @model_validator(mode="after")
    def _has_examples(self) -> "FewShotSection":
        if self.shots and self.examples is None:
            raise ValueError(f"shots={self.shots} needs examples: a file of demonstrations, or shots: 0")
        return self


class StressSection(Section):
    """Changes of the prompts: how far the metrics fall, and how far answers depend on who asks."""

    perturbations: Annotated[tuple[str, ...], AfterValidator(lambda names: _known(names, tuple(PERTURBATIONS)))] = (
        tuple(PERTURBATIONS)
    )
    """Names of workbench/data/perturb.py; each one samples all answers again."""
    dimensions: Annotated[tuple[str, ...], AfterValidator(lambda names: _known(names, tuple(DIMENSIONS)))] = tuple(
        DIMENSIONS
    )
    """Counterfactual swaps of the person who asks."""


class LexiconSection(Section):
    """Phrases that are searched in answers as whole words, in addition to the shipped ones; case is ignored."""

    toxic: tuple[str, ...] = ()
    """Insults and rude phrases of this task."""
    refusal: tuple[str, ...] = ()
    """Phrases of a refusal, searched in the first 200 characters."""
    leak: tuple[str, ...] = ()
    """Texts that no answer may contain unless its prompt does, such as names and internal addresses."""


class GateSection(Section):
    """A limit on one end of a metric's 95 % interval: the whole interval must keep it."""

    metric: str
    """A name of the table, such as `toxic_rate`, `change/perplexity` or `drop/typos/gold`."""
    at_least: float | None = None
    """The lower end must not be below this."""
    at_most: float | None = None
    """The upper end must not be above this."""

    @model_validator(mode="after")
    def _has_a_limit(self) -> "GateSection":
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"the gate on {self.metric!r} has no limit: give at_least or at_most")
        return self


class SuiteReportSection(Section):
    """Where the results go."""

    dir: str
    """Folder of suite.json and suite.html."""
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """W&B mode for the table, as in `tracking.wandb` of the phases."""


class SuiteConfig(Section):
    """Everything that `--suite FILE` reads."""

    data: SuiteDataSection
    few_shot: FewShotSection = FewShotSection()
    stress: StressSection = StressSection()
    lexicon: LexiconSection = LexiconSection()
    report: SuiteReportSection
    gates: tuple[GateSection, ...] = ()
    """Limits that every run must keep: each has a `metric` and `at_least`, `at_most` or both. Gates on `reward/…` and
    `classifier/…` are for such runs, all others for policies."""
