"""Checks of what `pairs` and `campaign start` read, made before a model library is loaded."""

from pathlib import Path

from annotate.config import AnnotateConfig, needed
from annotate.store.address import sqlite_path
from annotate.store.files import files_of
from workbench.data.base_files import BaseFiles
from workbench.data.inputs import base_of_run, data_files, start_base
from workbench.data.readers import read_demonstrations, read_prompts
from workbench.data.refusals import check_template
from workbench.data.rules import RowRules
from workbench.run.errors import Problems
from workbench.run.folder import RunFolder
from workbench.run.outputs import check_outputs
from workbench.run.sources import locate


def check_pairs(config: AnnotateConfig, problems: Problems, follow: str) -> list[str]:
    """Collect what is missing or would be overwritten: the run that answers, its base, the prompts, the store.

    Returns a line about the prompts.

    Args:
        config: the sections `pairs` and `data`.
        problems: where they go.
        follow: a run that may still be training; empty: `pairs.run`, finished.
    """
    base = None
    if follow:
        run = problems.attempt(RunFolder.open, follow, phase=("sft", "ppo"))
        if run is not None:
            base = problems.attempt(base_of_run, run, None)
    elif problems.attempt(needed, "pairs.run", config.pairs.run):
        base = start_base(problems, str(config.pairs.run), None, any_adapter=True)
    if not follow and (out := problems.attempt(needed, "pairs.out", config.pairs.out)) is not None:
        store = sqlite_path(config.store_url)
        read = [Path(config.pairs.prompts), *(files_of(store) if store else ())]
        problems.attempt(check_outputs, {"pairs.out": Path(out)}, read, remedy="another pairs.out")
    return _check_prompts(problems, config, "pairs.prompts", config.pairs.prompts, base)


def check_campaign(config: AnnotateConfig, problems: Problems) -> list[str]:
    """Collect what is missing: compared runs or files of answers, their bases, or the prompts.

    Returns a line about the prompts.
    """
    base = None
    for run in config.campaign.runs:
        if Path(run).suffix == ".jsonl":
            problems.attempt(read_demonstrations, run, config.row_rules)
        elif (source := problems.attempt(locate, run)) is not None:
            base = problems.attempt(base_of_run, source.run, None) or base
    return _check_prompts(problems, config, "campaign.prompts", config.campaign.prompts, base)


def _check_prompts(
    problems: Problems, config: AnnotateConfig, key: str, name: str, base: BaseFiles | None
) -> list[str]:
    """Check that the prompts exist and that the base's template accepts each of them."""
    files = data_files({key: name}, problems)
    if files is None:
        return []
    records = problems.attempt(read_prompts, files[key], config.row_rules)
    if records is None:
        return []
    problems.attempt(check_template, base, records, source=files[key], rules=RowRules(bad_rows="error"))
    return [f"{key}: {files[key]}: {len(records):,} prompts"]
