"""What a command will read and write, checked before a model library is loaded. Knows files and run folders, no model.

Each check raises one WorkbenchError; `workbench.run.errors.Problems` collects those of a whole command.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.data.base_files import BaseFiles, check_positions, check_quantisation, read_base_files
from workbench.data.embedded import resolve_data
from workbench.data.records import Prompt
from workbench.data.refusals import check_template
from workbench.data.rules import RowRules
from workbench.data.splits import PairSplit, load_pairs
from workbench.run.config import Section
from workbench.run.divergence import require_finite_file
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.sections import OptimizerSection, RunSection

ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
WEIGHTS = ("*.safetensors", "*.bin")


def usable_run(path: str | Path, phase: str | tuple[str, ...]) -> RunFolder:
    """A finished run of one of these phases, with all that later phases load from it.

    Raises:
        WorkbenchError: it is missing, of another phase, unfinished, or its adapter or score head is gone or not finite.
    """
    folder = RunFolder.open(path, phase=phase).require_finished()
    for member in folder.members:
        absent = [] if any((member.adapter / name).is_file() for name in ADAPTERS) else [str(member.adapter)]
        if folder.record()["phase"] == "reward" and not member.head_path.is_file():
            absent.append(str(member.head_path))
        if absent:
            raise WorkbenchError(
                member.path,
                f"is finished, but {' and '.join(absent)} is missing",
                expected="a run folder as the run left it",
                remedy=f"copy the whole folder again, or repeat the run: python -m {folder.record()['phase']} "
                f"{folder.config_path} run.overwrite=true",
            )
        for file in (member.adapter / ADAPTERS[0], member.head_path):
            if file.is_file():
                require_finite_file(file, member.path)
    return folder


def usable_base(name: str | None, revision: str | None = None) -> BaseFiles | None:
    """The files of a base, which holds a configuration, a tokenizer and weights; None for a hub id not fetched yet.

    Raises:
        WorkbenchError: no name, no such folder, or a part is missing or unreadable.
    """
    if name is None:
        raise WorkbenchError("model.base", "has no value", expected="`tiny`, a local folder, or a hub id")
    files = read_base_files(name, revision)
    if files is None:
        return None
    folder = files.folder
    if not any((folder / file).is_file() for file in TOKENIZERS):
        raise WorkbenchError(
            folder, "holds no tokenizer", expected=f"one of {', '.join(TOKENIZERS)}", remedy="copy it from the base"
        )
    if not any(True for pattern in WEIGHTS for _ in folder.glob(pattern)):
        raise WorkbenchError(folder, "holds no weights", expected=" or ".join(WEIGHTS), remedy="copy the base again")
    return files


def base_of_run(folder: RunFolder, given: str | None) -> BaseFiles | None:
    """The files of the base that a run was trained on, or of the one given in its place; None for a hub id.

    Raises:
        WorkbenchError: it is not there; the remedy says how to name its new place.
    """
    recorded = folder.record().get("base", {})
    name = given or recorded.get("name")
    try:
        return usable_base(name, None if given else recorded.get("revision"))
    except WorkbenchError as error:
        if given is not None or name is None:
            raise
        raise WorkbenchError(
            folder.path,
            f"was trained on a base that is not here: {error.place}: {error.problem}",
            expected=error.expected,
            remedy="say where the base is now: model.base=FOLDER (evaluate and the verbs of reward: --base FOLDER)",
        ) from None


def check_base(
    problems: Problems, files: BaseFiles | None, lengths: Mapping[str, int], *, quantise: str | None = None
) -> list[str]:
    """A line that describes a base; that it has positions for such rows, and may be quantised so, is checked.

    Args:
        problems: what is wrong is added.
        files: of the base.
        lengths: configuration key → tokens; together one row.
        quantise: how its weights are to be loaded; None: as the run that it comes from did.
    """
    problems.attempt(check_positions, files, lengths)
    if quantise is not None:
        problems.attempt(check_quantisation, files, quantise)
    return [f"base: {files.name}: {files.describe()}"] if files is not None else []


def check_run_folder(run: RunSection, phase: str, config: Section, *, resume: bool) -> None:
    """The folder that a run is to be written to can be written to.

    Of processes that were launched together, only the first looks: it may have begun to write already.

    Raises:
        WorkbenchError: it holds another run, or is no folder.
    """
    if int(os.environ.get("RANK", "0")) == 0:
        RunFolder.check_startable(run.dir, phase=phase, config=config, overwrite=run.overwrite, resume=resume)


def check_micro_batch(optimizer: OptimizerSection) -> None:
    """Micro-batches add up to a batch.

    Raises:
        WorkbenchError: the micro-batch size does not divide the batch size.
    """
    check_divides("train.micro_batch_size", optimizer.micro_batch_size, "train.batch_size", optimizer.batch_size)


def check_divides(key: str, small: int, large_key: str, large: int) -> None:
    """One size divides another.

    Raises:
        WorkbenchError: it does not; the remedy is the largest size below that does.
    """
    if large % small:
        fits = next(size for size in range(min(small, large), 0, -1) if large % size == 0)
        raise WorkbenchError(key, f"{small} does not divide {large_key} {large}", remedy=f"{key}={fits}")


def parents(
    problems: Problems, runs: Sequence[str | Path], phase: str | tuple[str, ...], base: str | None
) -> list[RunFolder]:
    """Those of the runs that are usable; what is wrong with the others, or with their base, is collected."""
    found = [folder for run in runs if (folder := problems.attempt(usable_run, run, phase)) is not None]
    for folder in found:
        problems.attempt(base_of_run, folder, base)
    return found


def start_base(problems: Problems, run: str, base: str | None) -> BaseFiles | None:
    """The base of the run that a phase starts from; what is wrong with either is collected."""
    found = parents(problems, [run], ("sft", "ppo"), base)
    return problems.attempt(base_of_run, found[0], base) if found else None


def check_sides(
    problems: Problems,
    files: BaseFiles | None,
    sides: Sequence[tuple[Path, Sequence[Prompt]]],
    rules: RowRules,
) -> None:
    """The base's own template takes the conversations to train on and those held out; what it refuses is collected."""
    for place, records in sides:
        problems.attempt(check_template, files, records, source=place, rules=rules)


def data_files(names: Mapping[str, str | None], problems: Problems) -> dict[str, Path] | None:
    """The files by key; None where one of them cannot be had. The embedded default is made if missing."""
    found = {key: problems.attempt(resolve_data, name) for key, name in names.items() if name is not None}
    return {key: path for key, path in found.items() if path is not None} if None not in found.values() else None


def left_out_line(rules: RowRules) -> list[str]:
    """How many rows the readers left out, where they did, and the first."""
    rows = rules.left_out
    if not rows:
        return []
    return [f"left out {len(rows):,} bad rows (data.bad_rows); the first: {rows[0]['place']}: {rows[0]['problem']}"]


def check_pairs(
    problems: Problems,
    base: BaseFiles | None,
    *,
    train: str,
    heldout: str | None,
    heldout_share: float,
    seed: int,
    limit: int,
    rules: RowRules,
    keep_ties: bool = False,
) -> tuple[PairSplit | None, list[str]]:
    """Read, split and check preference pairs, for reward and contrastive training.

    Returns:
        split: the pairs, or None where they cannot be had. found: what was found, a line each.
    """
    files = data_files({"train": train, "heldout": heldout}, problems)
    if files is None:
        return None, []
    split = problems.attempt(
        load_pairs,
        files["train"],
        files.get("heldout"),
        heldout_share=heldout_share,
        seed=seed,
        keep_ties=keep_ties,
        limit=limit,
        rules=rules,
    )
    if split is None:
        return None, []
    places = files["train"], files.get("heldout", files["train"])
    check_sides(problems, base, list(zip(places, (split.train, split.heldout), strict=True)), rules)
    return split, [
        f"data.train: {places[0]}: {len(split.train):,} pairs to train on",
        f"data.heldout: {places[1]}: {len(split.heldout):,} pairs held out",
        *left_out_line(rules),
    ]
