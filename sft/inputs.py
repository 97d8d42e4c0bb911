"""Checks of everything that a run of supervised tuning reads and writes, before any model library is imported."""

from pathlib import Path

from sft.config import SftConfig
from workbench.data.batching import earlier_turns
from workbench.data.inputs import (
    check_base,
    check_micro_batch,
    check_run_folder,
    check_sides,
    data_files,
    left_out_line,
    usable_base,
)
from workbench.data.readers import read_demonstrations
from workbench.data.records import Demonstration
from workbench.data.rules import RowRules
from workbench.data.splits import split_by_group
from workbench.run.errors import Problems, WorkbenchError


def check_inputs(config: SftConfig, problems: Problems, resume: bool = False) -> list[str]:
    """Collect the problems of values, base, files and folder; returns one line about each input."""
    section = config.data
    problems.attempt(check_micro_batch, config.train)
    base = problems.attempt(usable_base, config.model.base, config.model.revision)
    found = check_base(problems, base, {"data.max_length": section.max_length}, quantise=config.model.quantise)
    problems.attempt(check_run_folder, config.run, "sft", config, resume=resume)
    files = data_files({"train": section.train, "validation": section.validation}, problems)
    if files is None:
        return found
    rules = RowRules(section.ignore, section.bad_rows)
    sides = problems.attempt(
        read_sides,
        files["train"],
        files.get("validation"),
        share=section.validation_share,
        seed=config.run.seed,
        rules=rules,
    )
    if sides is None:
        return found
    train, validation = sides
    places = files["train"], files.get("validation", files["train"])
    check_sides(problems, base, list(zip(places, sides, strict=True)), rules)
    earlier, conversations = earlier_turns(train)
    if earlier:
        use = "in the loss too" if section.loss_on == "all" else "context only (data.loss_on=all trains on them)"
        counted = f"{earlier:,} earlier assistant turns in {conversations:,} conversations"
        found.append(f"data.loss_on={section.loss_on}: {counted} are {use}")
    return [
        *found,
        f"data.train: {places[0]}: {len(train):,} demonstrations to train on",
        f"data.validation: {places[1]}: {len(validation):,} to validate on",
        *left_out_line(rules),
    ]


def read_sides(
    train: Path, validation: Path | None, *, share: float, seed: int, rules: RowRules | None = None
) -> tuple[list[Demonstration], list[Demonstration]]:
    """Demonstrations to train on and to validate on: from two files, or from one that is split by prompt.

    Raises:
        WorkbenchError: from the readers, of both files; or one side is empty.
    """
    problems = Problems()
    records = problems.attempt(read_demonstrations, train, rules) or []
    held_out = problems.attempt(read_demonstrations, validation, rules) or [] if validation is not None else []
    problems.raise_if_any()
    if validation is None:
        records, held_out = split_by_group(records, share, seed)
    if not records or not held_out:
        raise WorkbenchError(
            train,
            f"{len(records)} demonstrations to train on and {len(held_out)} to validate on",
            expected="at least one of each",
            remedy="data.validation=FILE, or another data.validation_share",
        )
    return records, held_out
