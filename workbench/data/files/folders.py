"""Rows of several files: a folder of shards, a folder saved by `datasets`, or a data set of the hub."""

import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from workbench.data.files.decoding import inner_suffix, stem
from workbench.data.files.row import Row, row_of
from workbench.run.errors import WorkbenchError

HUB = "hub:"
_SHARD = re.compile(r"[-_.]?(?:part[-_]?)?\d+(?:[-_]of[-_]\d+)?(?:[-_.][0-9a-f-]{8,})?$")
"""The end of a shard's name: `train-00000-of-00002`, `part-0001`, `data_3`."""


def folder_rows(path: Path, suffixes: tuple[str, ...], read: Callable[[Path], Iterator[Row]]) -> Iterator[Row]:
    """Rows of a folder saved by `datasets`, or of the shards of one data set.

    Raises:
        WorkbenchError: it holds several data sets, which the message names, or none.
    """
    if (path / "dataset_dict.json").exists():
        splits = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
        raise WorkbenchError(
            path,
            f"it holds several splits: {', '.join(splits)}",
            remedy=f"name one of them, for example {path / splits[0]}",
        )
    if (path / "state.json").exists():
        import datasets

        return _dataset_rows(str(path), datasets.load_from_disk(str(path)))
    return chain.from_iterable(map(read, shards_of(path, suffixes)))


def shards_of(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of one data set, by name, in a folder or in the only folder inside it that has any.

    Raises:
        WorkbenchError: files of several data sets or formats, or none.
    """
    found = _data_files(path, suffixes)
    if not found:
        folders = (_data_files(entry, suffixes) for entry in sorted(path.iterdir()) if entry.is_dir())
        inner = [files for files in folders if files]
        found = inner[0] if len(inner) == 1 else []
    names = {(_SHARD.sub("", stem(file)), inner_suffix(file)) for file in found}
    if len(names) != 1:
        listed = [str(file.relative_to(path)) for file in found] or sorted(entry.name for entry in path.iterdir())
        raise WorkbenchError(
            path,
            "it is a folder, not a file" if not found else "it is a folder of several data sets",
            expected="a file, or a folder with the shards of one data set",
            remedy=f"name one of its files: {', '.join(listed[:8])}"
            if found
            else f"it holds: {', '.join(listed[:8]) or 'nothing'}",
        )
    return found


def _data_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and not file.name.startswith(".") and inner_suffix(file) in suffixes and not _about(file)
    )


def _about(file: Path) -> bool:
    """Whether a file describes the data set, and is not a shard of it."""
    return file.name in ("dataset_info.json", "dataset_infos.json", "state.json", "metadata.json", "config.json")


def hub_rows(name: str) -> Iterator[Row]:
    """Rows of `hub:OWNER/NAME:SPLIT`; without a split, of `train`."""
    import datasets
    import httpx

    repository, _, split = name.removeprefix(HUB).partition(":")
    try:
        dataset = datasets.load_dataset(repository, split=split or "train")
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        raise WorkbenchError(
            name,
            f"it could not be loaded from the hub: {(str(error) or type(error).__name__).splitlines()[0]}",
            expected="a data set that is online or in the local cache",
            remedy="go online (and unset HF_HUB_OFFLINE), or name a local file instead",
        ) from error
    return _dataset_rows(name, dataset)


def _dataset_rows(place: str, dataset: Any) -> Iterator[Row]:
    for number, fields in enumerate(dataset, start=1):
        yield row_of(f"{place}, row {number}", fields)
