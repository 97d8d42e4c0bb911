"""What `evaluate` reads, checked before a model library is loaded. Knows files and run folders, no model."""

from collections.abc import Callable, Sequence
from typing import Any

import yaml

from workbench.data.embedded import resolve_data
from workbench.data.inputs import base_of_run, usable_run
from workbench.data.readers import read_demonstrations, read_preferences, read_prompts
from workbench.data.refusals import check_template
from workbench.data.rules import RowRules
from workbench.run.errors import Problems
from workbench.run.folder import RunFolder

POLICIES = ("sft", "ppo")


def check_evaluation(
    runs: Sequence[str],
    *,
    prompts: Callable[[RunFolder], str],
    demonstrations: str | None,
    preferences: str | None,
    reward: str | None,
    against: str | None,
    base: str | None,
    rules: RowRules,
) -> list[RunFolder]:
    """The runs to evaluate, after everything that their evaluation reads was found to be there.

    Args:
        runs: run folders.
        prompts: the file of held-out prompts for a policy run.
        demonstrations: file, or None.
        preferences: file of pairs for reward runs, or None: those that a run held out itself.
        reward: run that scores answers, or None.
        against: run to win against, or None.
        base: where the base is now, or None: where the runs say.
        rules: how rows of the files are taken.

    Raises:
        WorkbenchError: all that is wrong, at once.
    """
    problems = Problems()
    folders = [found for run in runs if (found := problems.attempt(usable_run, run, (*POLICIES, "reward")))]
    judge = problems.attempt(usable_run, reward, "reward") if reward else None
    opponent = problems.attempt(usable_run, against, POLICIES) if against else None
    for folder in (*folders, *filter(None, (judge, opponent))):
        problems.attempt(base_of_run, folder, base)
    names = {problems.attempt(prompts, folder) for folder in folders if folder.record()["phase"] in POLICIES}
    files = problems.attempt(base_of_run, folders[0], base) if folders else None
    reads: list[tuple[str | None, Callable[..., list[Any]]]] = [(name, read_prompts) for name in names]
    for name, read in (*reads, (demonstrations, read_demonstrations), (preferences, read_preferences)):
        if name is not None and (path := problems.attempt(resolve_data, name)) is not None:
            records = problems.attempt(read, path, rules) or []
            problems.attempt(check_template, files, records, source=path, rules=RowRules(rules.ignore, "error"))
    problems.raise_if_any()
    return folders


SHORT = 64
"""Tokens of an answer where no run says how long its answers were in training."""


def answer_length(folders: Sequence[RunFolder]) -> int:
    """Tokens that an answer may have: as many as any of the runs sampled in training, the same for all of them."""
    lengths = []
    for folder in folders:
        config = yaml.safe_load(folder.config_path.read_text(encoding="utf-8"))
        sampling = config.get("rollout" if folder.record()["phase"] == "ppo" else "sample") or {}
        lengths += [int(sampling["max_new_tokens"])] if "max_new_tokens" in sampling else []
    return max(lengths, default=SHORT)
