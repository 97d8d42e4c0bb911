"""What `pairs` and `campaign start` read, checked before a model library is loaded."""

from pathlib import Path

from annotate.config import AnnotateConfig
from annotate.sampling.sources import locate
from workbench.data.inputs import base_of_run, data_files, parents
from workbench.data.readers import read_demonstrations, read_prompts
from workbench.data.rules import RowRules
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.folder import RunFolder


def check_pairs(config: AnnotateConfig, follow: str) -> None:
    """The run that answers, its base, and the prompts are there.

    Args:
        config: the sections `pairs` and `data`.
        follow: a run that may still be training; empty: `pairs.run`, finished.

    Raises:
        WorkbenchError: all that is wrong, at once.
    """
    problems = Problems()
    if follow:
        run = problems.attempt(RunFolder.open, follow, phase=("sft", "ppo"))
        if run is not None:
            problems.attempt(base_of_run, run, None)
    elif problems.attempt(needed, "pairs.run", config.pairs.run):
        parents(problems, [str(config.pairs.run)], ("sft", "ppo"), None)
    if not follow:
        problems.attempt(needed, "pairs.out", config.pairs.out)
    _check_prompts(problems, config, "pairs.prompts", config.pairs.prompts)
    problems.raise_if_any()


def check_campaign(config: AnnotateConfig) -> None:
    """The runs or files of answers that are compared, their bases, and the prompts are there.

    Raises:
        WorkbenchError: all that is wrong, at once.
    """
    problems = Problems()
    for run in config.campaign.runs:
        if Path(run).suffix == ".jsonl":
            problems.attempt(read_demonstrations, run)
        elif (source := problems.attempt(locate, run)) is not None:
            problems.attempt(base_of_run, source.run, None)
    _check_prompts(problems, config, "campaign.prompts", config.campaign.prompts)
    problems.raise_if_any()


def _check_prompts(problems: Problems, config: AnnotateConfig, key: str, name: str) -> None:
    files = data_files({key: name}, problems)
    if files is not None:
        problems.attempt(read_prompts, files[key], RowRules(config.data.ignore, config.data.bad_rows))


def needed(key: str, value: str | None) -> str:
    """A value that this verb cannot do without.

    Raises:
        WorkbenchError: it was not given.
    """
    if value is None:
        raise WorkbenchError(key, "has no value", remedy=f"give {key}=… on the command line or in the file")
    return value
