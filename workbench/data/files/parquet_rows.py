"""Rows of Parquet, in batches that stay small in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.data.files.memory import free_memory
from workbench.data.files.row import Row, row_of
from workbench.run.errors import WorkbenchError

_BATCH_ROWS = 1024
_BATCH_BYTES = 64 << 20
"""Most bytes of a batch in memory; the first rows of a group tell how many rows that is."""
_FIRST_ROWS = 4
_UNFOLDS = 1000
"""A row group of more than `_UNSUSPICIOUS` bytes may unfold to this multiple of its size on disk."""
_UNSUSPICIOUS = 1 << 30


def parquet_rows(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file.

    Raises:
        WorkbenchError: not Parquet, or a row group unfolds to more than the free memory.
    """
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                width = _row_bytes(file, group)
                _check_size(path, file.metadata.row_group(group), width)
                size = max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / width)))
                for batch in file.iter_batches(batch_size=size, row_groups=[group]):
                    for fields in batch.to_pylist():
                        number += 1
                        yield row_of(f"{path}, row {number}", fields)
    except MemoryError:  # pyarrow's is also an ArrowException
        raise
    except pyarrow.ArrowException as error:
        raise WorkbenchError(path, f"not a Parquet file, or a broken one: {error}", expected="Parquet") from None


def _row_bytes(file: Any, group: int) -> float:
    """Bytes of a row in memory. A repeated text is stored once, so the sizes in the file are too small."""
    first = next(file.iter_batches(batch_size=_FIRST_ROWS, row_groups=[group]), None)
    if first is None or not len(first):
        return 1.0
    unfolded = sum(len(str(fields)) for fields in first.to_pylist())  # `nbytes` counts a dictionary's text once
    return max(first.nbytes, unfolded) / len(first)


def _check_size(path: Path, group: Any, width: float) -> None:
    """Check that a row group fits into memory, and that a small file does not unfold to gigabytes."""
    unfolded, stored, free = max(group.total_byte_size, width * group.num_rows), path.stat().st_size, free_memory()
    if unfolded <= free and unfolded <= max(_UNSUSPICIOUS, _UNFOLDS * stored):
        return
    raise WorkbenchError(
        path,
        f"a row group of {unfolded / 2**30:.1f} GiB when unfolded ({stored / 2**20:.3f} MiB on disk), and "
        f"{free / 2**30:.1f} GiB of memory are free",
        expected=f"row groups that fit into memory and unfold to at most {_UNFOLDS} times the file",
        remedy="write the file with smaller row groups, or fewer rows",
    )
