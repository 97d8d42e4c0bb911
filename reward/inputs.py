"""Checks everything that a reward run reads and writes before any model library is loaded."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from reward.config import PassportSection, RewardConfig
from workbench.data.files.rows import existing
from workbench.data.inputs import (
    check_base,
    check_micro_batch,
    check_pairs,
    check_run_folder,
    check_weights,
    parents,
    sha_of_labels,
    start_base,
)
from workbench.data.readers import count_answers, read_items, read_preferences
from workbench.data.rules import RowRules
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint
from workbench.run.outputs import check_outputs
from workbench.run.parents import find_data, find_parent
from workbench.run.partial import lines_of
from workbench.run.sources import check_one_base, locate


def check_inputs(config: RewardConfig, problems: Problems, resume: bool = False) -> list[str]:
    """Collect all problems of values, parent, files and folder; returns lines about the inputs."""
    section = config.data
    problems.attempt(check_micro_batch, config.train)
    base = start_base(problems, config.model.start, config.model.base)
    problems.attempt(_check_starts, config)
    found = check_base(problems, base, {"data.max_length": section.max_length})
    problems.attempt(check_run_folder, config.run, "reward", config, resume=resume)
    if config.passport.facts:
        problems.attempt(read_facts, Path(config.passport.facts))
    if config.passport.judge:
        labels = Path(section.train)
        own = str(data_fingerprint(labels)["sha256"]) if labels.exists() else None
        check_judge(problems, config.passport, own, config.model.base)
    split, of_pairs = check_pairs(
        problems,
        base,
        train=section.train,
        heldout=section.heldout,
        heldout_share=section.heldout_share,
        seed=config.run.seed,
        keep_ties=config.loss.kind == "ordinal",
        limit=section.limit,
        rules=RowRules(section.ignore, section.bad_rows),
    )
    if split is not None:
        check_weights(problems, section.train, split.train, soft=config.loss.soft_labels)
    few: list[str] = []
    if split is not None and config.passport.at_end:
        few = few_labels(len(split.train), len(split.heldout), config.passport.fewest)
    return [*found, *of_pairs, *few]


def _check_starts(config: RewardConfig) -> None:
    """The starts of an ensemble's members are usable, on one base, and all used."""
    starts, members = config.ensemble.starts, config.ensemble.members
    if not starts:
        return
    if len(starts) > members:
        raise WorkbenchError(
            "ensemble.starts",
            f"{len(starts)} runs for ensemble.members={members}",
            expected="at most one run per member",
            remedy=f"ensemble.members={len(starts)}",
        )
    problems = Problems()
    found = [config.model.start, *starts]
    for run in starts:
        start_base(problems, run, config.model.base)
    problems.raise_if_any()
    check_one_base([locate(run) for run in found], remedy="leave it out of ensemble.starts")


def check_judge(problems: Problems, section: PassportSection, labels: str | None, base: str | None) -> None:
    """Collect the problems of the passport's judge: a usable reward run on other labels, with answers to judge.

    Args:
        problems: where they go.
        section: with a judge.
        labels: SHA-256 of the preferences that the examined model is fitted on, if known.
        base: `model.base`.
    """
    if not section.samples:
        problems.add(
            "passport.judge",
            f"{section.judge} has no effect: with passport.samples=0 there are no answers to judge",
            expected="passport.samples of 1 or more",
            remedy="passport.samples=32, or passport.judge=null",
        )
    for run in parents(problems, [str(section.judge)], "reward", base):
        if labels is not None and sha_of_labels(run) == labels:
            problems.add(
                "passport.judge",
                f"{run.path} was fitted on the same labels and would share their mistakes",
                expected="a reward run on other labels",
                remedy="split the labels, fit one reward run on each part, and give the second one",
            )


def few_labels(train: int, heldout: int, fewest: int) -> list[str]:
    """A line that says how many labels a passing passport takes, if too few pairs are held out for one.

    Args:
        train: pairs to train on.
        heldout: pairs that are held out, at least one.
        fewest: held-out pairs below which a check of the passport is undefined.
    """
    if heldout >= fewest:
        return []
    labels = train + heldout
    needed = math.ceil(fewest * labels / heldout)
    return [
        f"{labels:,} labels, of which {heldout:,} are held out: a passport that passes needs {fewest:,} held-out pairs "
        f"(passport.fewest), about {needed:,} labels if the same share is held out. With fewer, checks are undefined, "
        "and `python -m ppo` refuses the run unless it is forced"
    ]


def read_facts(path: Path) -> dict[str, str]:
    """Right statement → a wrong one.

    Raises:
        WorkbenchError: no such file, or a line is not `{"right": "…", "wrong": "…"}`.
    """
    if not path.is_file():
        raise WorkbenchError(path, "no such file", remedy="passport.facts=FILE, or leave it out")
    facts = {}
    for number, line in enumerate(lines_of(path.read_text(encoding="utf-8")), start=1):
        try:
            row = json.loads(line)
            facts[str(row["right"])] = str(row["wrong"])
        except (ValueError, KeyError, TypeError) as error:
            raise WorkbenchError(
                f"{path}:{number}", f"is not a pair of statements ({error})", expected='{"right": "…", "wrong": "…"}'
            ) from None
    return facts


def check_average(run: str, out: str, base: str | None) -> None:
    """Check that a run is a finished ensemble and that the folder of its average is free.

    Raises:
        WorkbenchError: every problem at once.
    """
    problems = Problems()
    for folder in parents(problems, [run], "reward", base):
        if folder.members == [folder]:
            problems.add(run, "is one reward model", expected="an ensemble (ensemble.members=3)")
    if Path(out).exists():
        problems.add(out, "exists already", remedy="--out ANOTHER, or delete it")
    problems.raise_if_any()


def check_score(run: str, file: str, out: Path, base: str | None, rules: RowRules) -> int:
    """Check run, file and output of `score`; returns the number of rows to score.

    Raises:
        WorkbenchError: every problem at once.
    """
    problems = Problems()
    parents(problems, [run], "reward", base)
    if out.exists():
        problems.add(out, "exists already", remedy="--out ANOTHER.jsonl, or delete it")
    rows = problems.attempt(count_answers, file, rules)
    problems.raise_if_any()
    return rows or 0


def check_explain(
    run: str,
    texts: Mapping[str, str],
    preferences: str | None,
    base: str | None,
    rules: RowRules,
    outputs: Mapping[str, str | None],
) -> None:
    """Check what `explain` reads: the run, the pairs, and a prompt and response that are not empty; and its outputs.

    Raises:
        WorkbenchError: every problem at once.
    """
    problems = Problems()
    opened = parents(problems, [run], "reward", base)
    for name, text in texts.items():
        if not text.strip():
            problems.add(f"--{name}", "it is empty", expected="some text")
    if preferences:
        problems.attempt(read_preferences, preferences, rules)
    pairs = preferences or (problems.attempt(find_data, opened[0], "train") if opened else None)
    _outputs(problems, outputs, [pairs])
    problems.raise_if_any()


def check_spans(run: str, pairs: str, base: str | None, rules: RowRules, outputs: Mapping[str, str | None]) -> None:
    """Check what `explain --spans` reads: the run, and pairs of which at least one has a marked passage; its outputs.

    Raises:
        WorkbenchError: every problem at once.
    """
    problems = Problems()
    parents(problems, [run], "reward", base)
    records = problems.attempt(read_preferences, pairs, rules)
    if records is not None and not any(record.spans for record in records):
        problems.add(
            pairs,
            "no pair has a marked passage",
            expected="records with `spans`, which `python -m annotate export` writes if page.reasons is set",
        )
    _outputs(problems, outputs, [pairs])
    problems.raise_if_any()


def check_acquire(
    runs: Sequence[str],
    pool: str,
    without: str | None,
    base: str | None,
    rules: RowRules,
    outputs: Mapping[str, str | None],
) -> None:
    """Check what `acquire` reads, the runs, the pool of items and the pairs that are labelled already; and its outputs.

    Args:
        runs: reward runs.
        pool: items to label.
        without: preferences that are labelled already.
        base: `--base`.
        rules: how rows of the files are read.
        outputs: option → file to write, if it is given.

    Raises:
        WorkbenchError: every problem at once.
    """
    problems = Problems()
    parents(problems, runs, "reward", base)
    problems.attempt(read_items, pool, rules)
    if without:
        problems.attempt(read_preferences, without, rules)
    _outputs(problems, outputs, [pool, without])
    problems.raise_if_any()


def _outputs(problems: Problems, outputs: Mapping[str, str | None], inputs: Iterable[str | Path | None]) -> None:
    """Check the files that are written (option → file, if it is given) against each other and those that are read."""
    written = {option: Path(name) for option, name in outputs.items() if name}
    read = [Path(name) for name in inputs if name]
    problems.attempt(check_outputs, written, read, remedy=f"another file for each of {', '.join(outputs)}")


def _check_start_of_judged(folder: RunFolder) -> None:
    """Check that the start run is there, whose answers a judge judges."""
    why = "run.json names no start run"
    try:
        if find_parent(folder, "start") is not None:
            return
    except WorkbenchError as error:
        why = error.problem
    raise WorkbenchError(
        "passport.judge",
        f"would judge answers of the start run of {folder.path}, but {why}",
        expected="the run that the reward model was fitted from",
        remedy="copy the folders of both runs together, or passport.judge=null",
    )


def check_passport(run: str, base: str | None, section: PassportSection) -> RunFolder:
    """Check a reward run and all that its examination reads; returns the run.

    Raises:
        WorkbenchError: every problem at once.
    """
    problems = Problems()
    folders = parents(problems, [run], "reward", base)
    for folder in folders:
        for name in folder.record().get("data", {}):
            problems.attempt(existing, find_data(folder, name))
        if section.judge:
            check_judge(problems, section, sha_of_labels(folder), base)
            problems.attempt(_check_start_of_judged, folder)
    if section.facts:
        problems.attempt(read_facts, Path(section.facts))
    problems.raise_if_any()
    return folders[0]
