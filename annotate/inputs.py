"""Checks of what `pairs` and `campaign start` read, made before a model library is loaded."""

from pathlib import Path

from annotate.config import AnnotateConfig, needed
from workbench.data.base_files import BaseFiles
from workbench.data.inputs import base_of_run, data_files, start_base
from workbench.data.readers import read_demonstrations, read_prompts
from workbench.data.refusals import check_template
from workbench.data.rules import RowRules
from workbench.run.errors import Problems
from workbench.run.folder import RunFolder
from workbench.run.sources import locate


def check_pairs(config: AnnotateConfig, follow: str) -> None:
    """Check that the run that answers, its base and the prompts exist.

    Args:
        config: the sections `pairs` and `data`.
        follow: a run that may still be training; empty: `pairs.run`, finished.

    Raises:
        WorkbenchError: every problem, in one message.
    """
    problems = Problems()
    base = None
    if follow:
        run = problems.attempt(RunFolder.open, follow, phase=("sft", "ppo"))
        if run is not None:
            base = problems.attempt(base_of_run, run, None)
    elif problems.attempt(needed, "pairs.run", config.pairs.run):
        base = start_base(problems, str(config.pairs.run), None, any_adapter=True)
    if not follow:
        problems.attempt(needed, "pairs.out", config.pairs.out)
    _check_prompts(problems, config, "pairs.prompts", config.pairs.prompts, base)
    problems.raise_if_any()


def check_campaign(config: AnnotateConfig) -> None:
    """Check that the compared runs or files of answers, their bases and the prompts exist.

    Raises:
        WorkbenchError: every problem, in one message.
    """
    problems = Problems()
    base = None
    for run in config.campaign.runs:
        if Path(run).suffix == ".jsonl":
            problems.attempt(read_demonstrations, run)
        elif (source := problems.attempt(locate, run)) is not None:
            base = problems.attempt(base_of_run, source.run, None) or base
    _check_prompts(problems, config, "campaign.prompts", config.campaign.prompts, base)
    problems.raise_if_any()


def _check_prompts(problems: Problems, config: AnnotateConfig, key: str, name: str, base: BaseFiles | None) -> None:
    """Check that the prompts exist and that the base's template accepts each of them."""
    files = data_files({key: name}, problems)
    if files is not None:
        records = problems.attempt(read_prompts, files[key], config.row_rules) or []
        problems.attempt(check_template, base, records, source=files[key], rules=RowRules(bad_rows="error"))
