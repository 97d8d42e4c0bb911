"""What `evaluate` reads, checked before a model library is loaded. Knows files and run folders, no model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from workbench.data.embedded import TINY_BASE, resolve_data
from workbench.data.inputs import base_of_run, usable_run
from workbench.data.readers import read_demonstrations, read_preferences, read_prompts
from workbench.data.refusals import check_template
from workbench.data.rules import RowRules
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.folder import RunFolder

POLICIES = ("sft", "ppo")
SHORT = 64
"""Tokens per answer if no run says how long its answers were in training."""


@dataclass(frozen=True)
class EvaluationInputs:
    """Files and runs that an evaluation reads. Names of files may be `tiny:NAME`; None is each run's default."""

    prompts: str | None = None
    """Held-out prompts for policies. Default: the embedded ones, for a run on the embedded base."""
    demonstrations: str | None = None
    """Held-out demonstrations, for the perplexity. Default: likewise; without any, no perplexity."""
    preferences: str | None = None
    """Pairs for reward runs. Default: the pairs that the run held out itself."""
    reward: str | None = None
    """Reward run that scores the answers. Default: the one that the policy was trained against, if any."""
    against: str | None = None
    """Run to compare with. Default: the run that the policy started from, if any."""
    base: str | None = None
    """Where the base is now. Default: where the runs say."""
    rules: RowRules = field(default_factory=RowRules)
    """How rows of the files are read."""

    def prompts_of(self, folder: RunFolder) -> str:
        """The held-out prompts for a policy run.

        Raises:
            WorkbenchError: none are given, and the run is not on the embedded base.
        """
        name = self.prompts or _embedded(folder, "tiny:prompts_heldout")
        if name is None:
            raise WorkbenchError(folder.path, "no held-out prompts are known for this base", remedy="--prompts FILE")
        return name

    def demonstrations_of(self, folder: RunFolder) -> Path | None:
        """The held-out demonstrations for a policy run, if any."""
        name = self.demonstrations or _embedded(folder, "tiny:demonstrations_heldout")
        return resolve_data(name) if name else None

    def opponent_of(self, folder: RunFolder) -> Path | None:
        """The run to compare with, if one is given; no run is compared with itself."""
        return Path(self.against) if self.against and Path(self.against).resolve() != folder.path.resolve() else None


def _embedded(folder: RunFolder, name: str) -> str | None:
    """A file of the embedded default, for runs on its base."""
    return name if folder.record().get("base", {}).get("name") == TINY_BASE else None


def check_evaluation(runs: Sequence[str], inputs: EvaluationInputs) -> list[RunFolder]:
    """The runs to evaluate, after checking that everything their evaluation reads exists.

    Raises:
        WorkbenchError: everything that is wrong, at once.
    """
    problems = Problems()
    folders = [found for run in runs if (found := problems.attempt(usable_run, run, (*POLICIES, "reward")))]
    reward = problems.attempt(usable_run, inputs.reward, "reward") if inputs.reward else None
    opponent = problems.attempt(usable_run, inputs.against, POLICIES) if inputs.against else None
    for folder in (*folders, *filter(None, (reward, opponent))):
        problems.attempt(base_of_run, folder, inputs.base)
    names = {problems.attempt(inputs.prompts_of, folder) for folder in folders if folder.record()["phase"] in POLICIES}
    files = problems.attempt(base_of_run, folders[0], inputs.base) if folders else None
    rules = inputs.rules
    reads: list[tuple[str | None, Callable[..., list[Any]]]] = [(name, read_prompts) for name in names]
    reads += [(inputs.demonstrations, read_demonstrations), (inputs.preferences, read_preferences)]
    for name, read in reads:
        if name is not None and (path := problems.attempt(resolve_data, name)) is not None:
            records = problems.attempt(read, path, rules) or []
            problems.attempt(check_template, files, records, source=path, rules=RowRules(rules.ignore, "error"))
    problems.raise_if_any()
    return folders


def answer_length(folders: Sequence[RunFolder]) -> int:
    """The most tokens that any of the runs sampled per answer in training; all runs are evaluated with it."""
    lengths = []
    for folder in folders:
        config = yaml.safe_load(folder.config_path.read_text(encoding="utf-8"))
        sampling = config.get("rollout" if folder.record()["phase"] == "ppo" else "sample") or {}
        lengths += [int(sampling["max_new_tokens"])] if "max_new_tokens" in sampling else []
    return max(lengths, default=SHORT)
