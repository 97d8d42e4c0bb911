"""What `evaluate` reads, checked before a model library is loaded. Knows files and run folders, no model."""

from collections.abc import Callable, Sequence

from workbench.data.embedded import resolve_data
from workbench.data.inputs import base_of_run, usable_run
from workbench.data.readers import read_demonstrations, read_preferences, read_prompts
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
    for name, read in (
        *((name, read_prompts) for name in names),
        (demonstrations, read_demonstrations),
        (preferences, read_preferences),
    ):
        if name is not None and (path := problems.attempt(resolve_data, name)) is not None:
            problems.attempt(read, path, rules)
    problems.raise_if_any()
    return folders
