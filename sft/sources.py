"""The demonstrations of a run: its own file, other files that are mixed in, and old ones of its start run.

A source's share is in demonstrations, not tokens. With n own ones and shares s₁ … s_k, source i contributes

    n_i = round(n · s_i / (1 − Σ s))

of them, drawn by hash; a source with fewer is repeated. Knows records and run folders, no model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from sft.config import DataSection, SftConfig
from workbench.data.hashing import unit_hash
from workbench.data.readers import read_demonstrations
from workbench.data.records import Demonstration
from workbench.data.rules import RowRules
from workbench.data.splits import group_of, is_held_out
from workbench.data.stored import store_demonstrations, taken
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint
from workbench.run.parents import find_data, find_parent


@dataclass(frozen=True)
class Old:
    """Where the demonstrations of an earlier run are, and how that run split them."""

    train: Path
    validation: Path | None
    share: float
    """Of the prompts, if there is no validation file."""
    seed: int
    max_length: int
    rules: RowRules


@dataclass(frozen=True)
class Source:
    """Demonstrations to train on that come from one file."""

    path: Path
    records: Sequence[Demonstration]
    repeated: int = 0
    """How many of them occur again because the file has too few."""
    overlap: int = 0
    """Demonstrations that were left out because their prompt is validated on."""


@dataclass(frozen=True)
class Sources:
    """All demonstrations of a run."""

    own: Source
    mixed: list[Source]
    replay: Source | None
    validation: Source
    old_validation: Source | None
    """What the run that this one goes on from was validated on."""

    @property
    def trained(self) -> list[Source]:
        """The sources that are trained on, the run's own first."""
        return [self.own, *self.mixed, *([self.replay] if self.replay else [])]

    def lines(self) -> list[str]:
        """A line about each source, for the start of a run."""
        found = [
            _line("data.train", self.own, "to train on"),
            _line("data.validation", self.validation, "to validate on"),
        ]
        found += [_line("data.mix", source, "mixed in") for source in self.mixed]
        if self.replay is not None:
            found.append(_line("data.replay", self.replay, "of the start run's data are trained on again"))
        if self.old_validation is not None:
            found.append(_line("old validation set", self.old_validation, "to measure what is forgotten"))
        return found

    def counts(self) -> dict[str, int]:
        """Demonstrations per source before encoding, for run.json."""
        named = {f"mix_{number}": source for number, source in enumerate(self.mixed, 1)}
        named |= {"replay": self.replay} if self.replay else {}
        return {name: len(source.records) for name, source in named.items()}


def _line(key: str, source: Source, use: str) -> str:
    more = f", {source.repeated:,} of them again" if source.repeated else ""
    left_out = f"; {source.overlap:,} left out because their prompt is validated on" if source.overlap else ""
    return f"{key}: {source.path}: {len(source.records):,} demonstrations {use}{more}{left_out}"


def file_names(config: SftConfig) -> dict[str, str | None]:
    """Name → data file of a run, as `data_files` takes them."""
    section = config.data
    mixed = {f"mix_{number}": one.file for number, one in enumerate(section.mix, 1)}
    return {"train": section.train, "validation": section.validation, **mixed}


def old_data(config: SftConfig) -> Old | None:
    """The demonstrations of the run that `model.start` names, or of the sft run that this one came from.

    Raises:
        WorkbenchError: they are not where they were, or they are others than the run was trained on.
    """
    if config.model.start is None:
        return None
    run: RunFolder | None = RunFolder.open(config.model.start, phase=("sft", "ppo"))
    while run is not None and run.record()["phase"] != "sft":
        run = find_parent(run, "start")
    if run is None:
        return None
    data = yaml.safe_load(run.config_path.read_text(encoding="utf-8"))["data"]
    train = _found(run, "train", config.data.replay_train)
    validation = _found(run, "validation", config.data.replay_validation) if data["validation"] else None
    known = RowRules.of(data)
    rules = replace(known, mask=tuple(dict.fromkeys((*known.mask, *config.data.mask_personal))))
    return Old(train, validation, data["validation_share"], run.record()["seed"], data["max_length"], rules)


def _found(run: RunFolder, name: str, given: str | None) -> Path:
    """The file that a run was trained or validated on; `given` is where it is now."""
    known = run.record()["data"][name]
    path = Path(given) if given else find_data(run, name)
    problem = None
    if not path.exists():
        problem = f"{path} is not here"
    elif data_fingerprint(path)["sha256"] != known["sha256"]:
        problem = f"{path} holds other content"
    if problem is not None:
        raise WorkbenchError(
            f"model.start={run.path}",
            f"was trained with data.{name}={known['path']}, and {problem}",
            expected="the same file: it is trained on again, and shows what is forgotten",
            remedy=f"data.replay_{name}=FILE says where it is now",
        )
    return path


def read_sources(
    section: DataSection, files: Mapping[str, Path], old: Old | None, *, seed: int, rules: RowRules
) -> Sources:
    """Read all demonstrations of a run.

    Args:
        section: shares and split.
        files: name → path, by the names of `file_names`.
        old: data of the start run.
        seed: of the split and of the draws.
        rules: what to do with rows that cannot be read; counts them.

    Raises:
        WorkbenchError: from the readers; a source is empty; the shares leave nothing for `data.train`.
    """
    train, held_out = read_sides(
        files["train"],
        files.get("validation"),
        share=section.validation_share,
        seed=seed,
        rules=rules,
        streaming=section.streaming,
    )
    validated = {group_of(record) for record in held_out}
    old_train, old_held_out = ([], []) if old is None else _old_sides(old, section.streaming)
    old_validated = {group_of(record) for record in old_held_out}
    own = _without(old_validated, files["train"], train)
    shares = [one.share for one in section.mix] + ([section.replay] if old and section.replay else [])
    whole = len(own.records) / _rest(shares)

    def draw(path: Path, records: Sequence[Demonstration], share: float) -> Source:
        return _drawn(_without(validated | old_validated, path, records), round(whole * share), seed)

    mixed = [
        draw(path := files[f"mix_{number}"], _reader(section.streaming)(path, rules), one.share)
        for number, one in enumerate(section.mix, 1)
    ]
    replay = draw(old.train, old_train, section.replay) if old and section.replay else None
    kept = None if old is None else Source(old.validation or old.train, old_held_out)
    return Sources(own, mixed, replay, Source(files.get("validation", files["train"]), held_out), kept)


def _rest(shares: Sequence[float]) -> float:
    """The share of the run's own demonstrations."""
    rest = 1 - sum(shares)
    if rest <= 0:
        raise WorkbenchError(
            "data.mix",
            f"the shares of data.mix and data.replay add up to {sum(shares):g}",
            expected="less than 1: the rest is the share of data.train",
        )
    return rest


def _reader(streaming: bool) -> Callable[[Path, RowRules | None], Sequence[Demonstration]]:
    return store_demonstrations if streaming else read_demonstrations


def _old_sides(old: Old, streaming: bool) -> tuple[Sequence[Demonstration], Sequence[Demonstration]]:
    return read_sides(old.train, old.validation, share=old.share, seed=old.seed, rules=old.rules, streaming=streaming)


def _without(groups: set[str], path: Path, records: Sequence[Demonstration]) -> Source:
    """The demonstrations whose prompt is in none of the groups."""
    kept = [index for index, record in enumerate(records) if group_of(record) not in groups] if groups else None
    if kept == []:
        raise WorkbenchError(path, "all of its prompts are validated on", expected="demonstrations to train on")
    without = records if kept is None else taken(records, kept)
    return Source(path, without, overlap=len(records) - len(without))


def _drawn(source: Source, number: int, seed: int) -> Source:
    """That many demonstrations of a source, by hash; they repeat if it has fewer."""
    order = np.argsort([unit_hash(seed, record.id, record.response) for record in source.records], kind="stable")
    repeated = max(0, number - len(order))
    return replace(source, records=taken(source.records, np.resize(order, number)), repeated=repeated)


def read_sides(
    train: Path,
    validation: Path | None,
    *,
    share: float,
    seed: int,
    rules: RowRules | None = None,
    streaming: bool = False,
) -> tuple[Sequence[Demonstration], Sequence[Demonstration]]:
    """Demonstrations to train on and to validate on: from two files, or from one that is split by prompt.

    Raises:
        WorkbenchError: from the readers, of both files; or one side is empty.
    """
    problems = Problems()
    records: Sequence[Demonstration] = problems.attempt(_reader(streaming), train, rules) or []
    held_out: Sequence[Demonstration] = []
    if validation is not None:
        held_out = problems.attempt(read_demonstrations, validation, rules) or []
    problems.raise_if_any()
    if validation is None:
        kept_out = np.array([is_held_out(group_of(record), share, seed) for record in records], dtype=bool)
        records, held_out = (
            taken(records, np.flatnonzero(~kept_out)),
            [records[int(n)] for n in np.flatnonzero(kept_out)],
        )
    if not records or not held_out:
        raise WorkbenchError(
            train,
            f"{len(records)} demonstrations to train on and {len(held_out)} to validate on",
            expected="at least one of each",
            remedy="data.validation=FILE, or another data.validation_share",
        )
    return records, held_out
