"""Rows that repeat one another within a file, and across the splits that several files are."""

from collections import Counter
from collections.abc import Sequence

from workbench.data.near_duplicates import near_duplicates
from workbench.validate.entries import Entry
from workbench.validate.findings import Finding, Spot, rows_finding


def check_repeats(files: Sequence[tuple[str, Sequence[Entry]]]) -> list[Finding]:
    """Exact and near duplicates within each file, and leakage between splits.

    Args:
        files: (path, entries); the first is trained on. A record's own `split` mark also makes a split.

    Within a file the whole row and its answers must both be nearly the same: pairs of other answers to one prompt are
    no repeats. A leaked row counts once: as a row, as a prompt, or as a near duplicate of another split. The rows of
    the earlier split are listed, since they are the ones to leave out.
    """
    every = [entry for _, entries in files for entry in entries]
    groups = near_duplicates([entry.text for entry in every]) if every else []
    group_of = {id(entry): group for entry, group in zip(every, groups, strict=True)}
    sizes = Counter(groups)
    alike = [entry for entry in every if sizes[group_of[id(entry)]] > 1]
    answers = near_duplicates(["\n".join(sorted(entry.answers)) for entry in alike]) if alike else []
    both = {id(entry): (group_of[id(entry)], group) for entry, group in zip(alike, answers, strict=True)}
    found: list[Finding] = []
    for path, entries in files:
        found += _within(path, entries, both)
    return found + _leaks(files, every, group_of)


def _within(path: str, entries: Sequence[Entry], group_of: dict[int, tuple[int, int]]) -> list[Finding]:
    first: dict[tuple[str, object], Entry] = {}
    exact, near = [], []
    seen: dict[tuple[str, tuple[int, int]], Entry] = {}
    for entry in entries:
        earlier = first.setdefault((entry.split, (entry.key, entry.judgement)), entry)
        if earlier is not entry:
            exact.append(Spot(entry.place, f"repeats {_line(earlier)}"))
            continue
        if id(entry) in group_of:
            alike = seen.setdefault((entry.split, group_of[id(entry)]), entry)
            if alike is not entry and alike.key != entry.key:
                near.append(Spot(entry.place, f"nearly repeats {_line(alike)}"))
    return [
        *rows_finding("exact-duplicate", path, exact, len(entries)),
        *rows_finding("near-duplicate", path, near, len(entries)),
    ]


def _leaks(
    files: Sequence[tuple[str, Sequence[Entry]]], every: Sequence[Entry], group_of: dict[int, int]
) -> list[Finding]:
    rank = {split: number for number, split in enumerate(dict.fromkeys(entry.split for entry in every))}
    last: dict[object, Entry] = {}
    """The entry of the last split, per row, prompt and group of near duplicates."""

    def keys(entry: Entry) -> dict[str, object]:
        group = group_of[id(entry)]
        return {"leaked-row": entry.key, "leaked-prompt": ("prompt", entry.prompt_key), "leaked-near": group}

    for entry in every:
        for key in keys(entry).values():
            if rank[entry.split] > rank[last.setdefault(key, entry).split]:
                last[key] = entry
    found: list[Finding] = []
    for path, entries in files:
        spots: dict[str, list[Spot]] = {"leaked-row": [], "leaked-prompt": [], "leaked-near": []}
        for entry in entries if len(rank) > 1 else ():
            for kind, key in keys(entry).items():
                if rank[last[key].split] > rank[entry.split]:
                    spots[kind].append(Spot(entry.place, f"also {last[key].place}"))
                    break
        for kind, own in spots.items():
            found += rows_finding(kind, path, own, len(entries))
    return found


def _line(entry: Entry) -> str:
    """The place within the file."""
    return entry.place.rpartition(", ")[2] or entry.place
