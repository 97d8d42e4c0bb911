"""Checks of a command's inputs before a model library is loaded. Knows files and run folders, no model.

Each check raises one WorkbenchError; `workbench.run.errors.Problems` collects those of a whole command.
"""

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.data.base_files import BaseFiles, check_quantisation, fit_positions, read_base_files
from workbench.data.embedded import resolve_data
from workbench.data.files.rows import stream_rows
from workbench.data.records import Preference, Prompt, RatedAnswer
from workbench.data.refusals import check_template
from workbench.data.rules import RowRules
from workbench.data.splits import AnswerSplit, PairSplit, load_answers, load_pairs
from workbench.run.config import Section, read_values
from workbench.run.divergence import require_finite_file
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.sections import OptimizerSection, RunSection, SourceSection

ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
KINDS = {"PROMPT_TUNING": "a soft prompt", "PREFIX_TUNING": "a prefix", "DORA": "DoRA"}
"""peft's name of a kind of adapter → ours, for messages."""
WEIGHTS = ("*.safetensors", "*.bin")


def usable_run(path: str | Path, phase: str | tuple[str, ...]) -> RunFolder:
    """A finished run of one of these phases, with every file that later phases load.

    Raises:
        WorkbenchError: it is missing, of another phase, or unfinished; or its adapter or score head is missing, or
            holds a number that is not finite.
    """
    folder = RunFolder.open(path, phase=phase).require_finished()
    for member in folder.members:
        absent = [] if any((member.adapter / name).is_file() for name in ADAPTERS) else [str(member.adapter)]
        if folder.has_head and not member.head_path.is_file():
            absent.append(str(member.head_path))
        if absent:
            raise WorkbenchError(
                member.path,
                f"is finished, but {' and '.join(absent)} is missing",
                expected="a run folder as the run left it",
                remedy=f"copy the whole folder again, or repeat the run: python -m {folder.package} "
                f"{shlex.quote(str(folder.config_path))} run.overwrite=true",
            )
        for file in (member.adapter / ADAPTERS[0], member.head_path):
            if file.is_file():
                require_finite_file(file, member.path)
    return folder


def adapter_shape(folder: RunFolder) -> dict[str, Any]:
    """peft's description of a run's adapter.

    Raises:
        WorkbenchError: it is missing or unreadable.
    """
    path = folder.adapter / "adapter_config.json"
    try:
        shape: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkbenchError(
            path, f"cannot be read: {error}", expected="the adapter/ folder of a finished run", remedy="copy it again"
        ) from None
    return shape


def check_plain_lora(folder: RunFolder) -> None:
    """Check that a run's adapter can be copied into other roles, merged and scaled: LoRA without DoRA's lengths.

    Raises:
        WorkbenchError: it is a soft prompt, a prefix, or DoRA.
    """
    shape = adapter_shape(folder)
    kind = "DORA" if shape.get("use_dora") else shape.get("peft_type", "LORA")
    if kind != "LORA":
        raise WorkbenchError(
            folder.path,
            f"its adapter is {KINDS.get(kind, kind)}, and a later phase cannot start from it",
            expected="an sft or ppo run with a LoRA adapter",
            remedy="train it again with adapter=lora lora.variant=plain (python -m sft)",
        )


def usable_base(name: str | None, revision: str | None = None) -> BaseFiles | None:
    """The files of a base with a configuration, a tokenizer and weights; None for a hub id that is not cached.

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
    """The files of the base `given`, or else of the base that a run was trained on; None for a hub id.

    Raises:
        WorkbenchError: it is not there; the remedy says how to name its new location.
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
    """Check that a base fits the configuration; returns a line that describes it.

    Args:
        problems: collects the errors.
        files: of the base; None: not on this machine yet, and nothing is checked.
        lengths: configuration key → tokens; together they are one row.
        quantise: `model.quantise`; None: the run that the base comes from decided.
    """
    if files is None:
        return []
    problems.attempt(fit_positions, files.positions, lengths)
    if quantise is not None:
        problems.attempt(check_quantisation, files, quantise)
    return [f"base: {files.name}: {files.describe()}"]


def check_run_folder(run: RunSection, phase: str, config: Section, *, resume: bool) -> None:
    """Check that a run can be written to its folder.

    With several processes, only the first checks: it may have started to write before the others look.

    Raises:
        WorkbenchError: it holds another run, or is not a folder.
    """
    if int(os.environ.get("RANK", "0")) == 0:
        RunFolder.check_startable(run.dir, phase=phase, config=config, overwrite=run.overwrite, resume=resume)


def check_micro_batch(optimizer: OptimizerSection) -> None:
    """Check that the micro-batch size divides the batch size.

    Raises:
        WorkbenchError: it does not.
    """
    check_divides("train.micro_batch_size", optimizer.micro_batch_size, "train.batch_size", optimizer.batch_size)


def check_divides(key: str, small: int, large_key: str, large: int) -> None:
    """Check that `small` divides `large`.

    Raises:
        WorkbenchError: it does not; the remedy is the largest smaller size that does.
    """
    if large % small:
        fits = next(size for size in range(min(small, large), 0, -1) if large % size == 0)
        raise WorkbenchError(key, f"{small} does not divide {large_key} {large}", remedy=f"{key}={fits}")


def parents(
    problems: Problems, runs: Sequence[str | Path], phase: str | tuple[str, ...], base: str | None
) -> list[RunFolder]:
    """The runs that are usable; errors of the others and of the bases are collected."""
    found = [folder for run in runs if (folder := problems.attempt(usable_run, run, phase)) is not None]
    for folder in found:
        problems.attempt(base_of_run, folder, base)
    return found


def sha_of_labels(reward: RunFolder) -> str | None:
    """SHA-256 of the file of preferences that a reward run was fitted on; None if it did not record one."""
    found = reward.record().get("data", {}).get("train", {}).get("sha256")
    return None if found is None else str(found)


def start_base(problems: Problems, run: str, base: str | None, *, any_adapter: bool = False) -> BaseFiles | None:
    """The base of the run that a phase starts from; errors of either are collected.

    Args:
        problems: collects the errors.
        run: the folder of an sft or ppo run.
        base: where its base is now.
        any_adapter: the phase only samples from the run, so its adapter may be a soft prompt.
    """
    found = parents(problems, [run], ("sft", "ppo"), base)
    for folder in [] if any_adapter else found:
        problems.attempt(check_plain_lora, folder)
    return problems.attempt(base_of_run, found[0], base) if found else None


def check_sides(
    problems: Problems,
    files: BaseFiles | None,
    sides: Sequence[tuple[Path, Sequence[Prompt]]],
    rules: RowRules,
) -> None:
    """Check that the base's own template accepts the conversations of each file; errors are collected."""
    for path, records in sides:
        problems.attempt(check_template, files, records, source=path, rules=rules)


def check_source(
    problems: Problems, key: str, source: SourceSection, phase: str | tuple[str, ...] | None, base: str | None = None
) -> None:
    """Check one part of a series of commands: a configuration to run, a finished run, or without `phase` a file."""
    if source.is_config:
        problems.attempt(read_values, Path(source.use), source.set)
        return
    if source.set:
        problems.add(
            f"{key}.set",
            f"sets {', '.join(source.set)}, but {source.use} is no configuration",
            expected="a YAML file in `use`, or no `set`",
            remedy=f"leave {key}.set out",
        )
    if phase is None:
        check_records(problems, source.use)
    elif Path(source.use).exists():
        parents(problems, [source.use], phase, base)
    else:
        problems.add(f"{key}.use", f"{source.use}: no such run", expected="a YAML file of the phase, or a finished run")


def check_records(problems: Problems, name: str | None, read: Callable[[Path], object] | None = None) -> None:
    """Check that a data file is there and can be read, by default its first row, unless its name is None."""
    for path in (data_files({"": name}, problems) or {}).values():
        problems.attempt(read or _first_row, path)


def _first_row(path: Path) -> None:
    if next(stream_rows(path), None) is None:
        raise WorkbenchError(path, "it is empty", expected="at least one record")


def data_files(names: Mapping[str, str | None], problems: Problems) -> dict[str, Path] | None:
    """The files by key, or None if one is not available; the embedded default is made if missing."""
    found = {key: problems.attempt(resolve_data, name) for key, name in names.items() if name is not None}
    return {key: path for key, path in found.items() if path is not None} if None not in found.values() else None


def left_out_line(rules: RowRules) -> list[str]:
    """A line with the number of rows that were left out, and the first; nothing if there are none."""
    rows = rules.left_out
    counted = f"left out {len(rows):,} bad rows (data.bad_rows); the first: "
    return [f"{counted}{rows[0]['place']}: {rows[0]['problem']}"] if rows else []


def check_weights(
    problems: Problems, place: str | Path, records: Sequence[Preference | RatedAnswer], *, soft: bool = False
) -> None:
    """Check that not all records to train on have weight 0; `soft`: those with a `probability` have weight 1."""
    if records and not any(record.certainty(soft=soft)[1] for record in records):
        problems.add(
            place,
            f"all {len(records)} records to train on have weight 0, so that nothing would be learnt",
            expected="a `weight` above 0 in at least one record",
            remedy="data.ignore=[weight] gives every record the same weight",
        )


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
        split: the pairs, or None if they cannot be read.
        found: a line per finding.
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
    kept_out = files.get("heldout", files["train"])
    check_sides(problems, base, [(files["train"], split.train), (kept_out, split.heldout)], rules)
    return split, [
        f"data.train: {files['train']}: {len(split.train):,} pairs to train on",
        f"data.heldout: {kept_out}: {len(split.heldout):,} pairs held out{_leaked(split)}",
        *left_out_line(rules),
    ]


def check_answers(
    problems: Problems,
    base: BaseFiles | None,
    *,
    train: str,
    heldout: str | None,
    heldout_share: float,
    seed: int,
    limit: int,
    rules: RowRules,
) -> tuple[AnswerSplit | None, list[str]]:
    """The same for rated answers, which KTO reads."""
    files = data_files({"train": train, "heldout": heldout}, problems)
    if files is None:
        return None, []
    options = {"heldout_share": heldout_share, "seed": seed, "limit": limit, "rules": rules}
    split = problems.attempt(load_answers, files["train"], files.get("heldout"), **options)
    if split is None:
        return None, []
    kept_out = files.get("heldout", files["train"])
    check_sides(problems, base, [(files["train"], split.train), (kept_out, split.heldout)], rules)
    return split, [
        f"data.train: {files['train']}: {len(split.train):,} rated answers to train on",
        f"data.heldout: {kept_out}: {len(split.heldout):,} rated answers held out{_leaked(split)}",
        *left_out_line(rules),
    ]


def _leaked(split: PairSplit | AnswerSplit) -> str:
    return f"; {split.leaked:,} left out because their prompt is trained on" if split.leaked else ""
