"""What the guard reads besides the run: the judges, and the labels of a reward model. Loads no model."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from ppo.config import GuardSection
from workbench.data.inputs import parents, sha_of_labels
from workbench.data.rules import RowRules
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.parents import find_data

FEWEST_ANSWERS = 32
"""Answers in an observation. With fewer, correlations are mostly chance, and the guard stops sound runs."""


def labels_of(reward: RunFolder) -> tuple[Path, RowRules]:
    """The file of preferences that a reward run was fitted on, and how it read its rows.

    Raises:
        WorkbenchError: the file is no longer where it was.
    """
    path = find_data(reward, "train")
    if not path.exists():
        raise WorkbenchError(
            path,
            f"is gone: the guard compares the policy's answers with the labelled ones of {reward.path}",
            expected="the file that this reward run was fitted on",
            remedy="put it back, or train without a guard (guard.judge=[])",
        )
    section = yaml.safe_load(reward.config_path.read_text(encoding="utf-8"))["data"]
    return path, RowRules(tuple(section.get("ignore", ())), section.get("bad_rows", "auto"))


def check_guard(problems: Problems, section: GuardSection, learnt: Sequence[str | None], base: str | None) -> None:
    """Collect the problems of the judges: each is a usable reward run whose labels nothing else has read.

    Args:
        problems: where they go.
        section: the guard's configuration.
        learnt: SHA-256 of the files of preferences that training learns from, directly or through a reward model.
        base: `model.base`.
    """
    for judge in parents(problems, section.judge, "reward", base):
        if (own := sha_of_labels(judge)) is not None and own in learnt:
            problems.add(
                "guard.judge",
                f"{judge.path} was fitted on the labels that this run learns from, and would share its mistakes",
                expected="a reward run on other labels",
                remedy="split the labels, fit a reward run on each part, and use the second as judge (docs/guard.md)",
            )


def check_enough(key: str, answers: int) -> None:
    """Check the size of an observation.

    Args:
        key: what the size comes from.
        answers: its size.

    Raises:
        WorkbenchError: it is below FEWEST_ANSWERS.
    """
    if answers < FEWEST_ANSWERS:
        raise WorkbenchError(
            key,
            f"gives the guard {answers} answers to judge, too few to tell a change from chance",
            expected=f"{FEWEST_ANSWERS} or more with a guard; its limits were measured with 64",
            remedy=f"a larger {key}, or guard.judge=[]",
        )


def judge_runs(section: GuardSection) -> dict[str, RunFolder]:
    """Role (`judge_1` and so on) → run of each judge; an ensemble gives all its members."""
    runs = [RunFolder.open(path, phase="reward").require_finished() for path in section.judge]
    members = [member for run in runs for member in run.members]
    return {f"judge_{number}": member for number, member in enumerate(members, start=1)}
