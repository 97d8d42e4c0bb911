"""Rows of Parquet, in batches that stay small when they unfold."""

from collections.abc import Iterator
from pathlib import Path

from workbench.data.files.memory import free_memory
from workbench.data.files.rows import Row, row_of
from workbench.run.errors import WorkbenchError

_BATCH_ROWS = 1024
_BATCH_BYTES = 64 << 20
"""A batch in memory, at most: its rows are counted by the width of the first ones."""
_FIRST_ROWS = 8


def parquet_rows(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file.

    Raises:
        WorkbenchError: no Parquet, or a row group that unfolds to more than the free memory.
    """
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)]
            free = free_memory()
            if max(sizes, default=0) > free:
                raise WorkbenchError(
                    path,
                    f"a row group of {max(sizes) / 2**30:.1f} GiB when unfolded ({path.stat().st_size / 2**20:.1f} MiB "
                    f"on disk), and {free / 2**30:.1f} GiB of memory are free",
                    expected="row groups that fit into memory",
                    remedy="write the file again with smaller row groups, or fewer rows",
                )
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(batch_size=_batch_rows(file, group), row_groups=[group]):
                    for fields in batch.to_pylist():
                        number += 1
                        yield row_of(f"{path}, row {number}", fields)
    except MemoryError:  # pyarrow's own is an ArrowException, too
        raise
    except pyarrow.ArrowException as error:
        raise WorkbenchError(path, f"not a Parquet file, or a broken one: {error}", expected="Parquet") from None


def _batch_rows(file: object, group: int) -> int:
    """Rows of a batch: a text that is stored once and repeated unfolds to more than the file's own sizes say."""
    first = next(file.iter_batches(batch_size=_FIRST_ROWS, row_groups=[group]), None)  # type: ignore[attr-defined]
    width = first.nbytes / len(first) if first is not None and len(first) else 1
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(width, 1))))
