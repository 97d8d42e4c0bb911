"""Files of users, good ones and ones that are broken in a known way, for `benchmarks.malformed`."""

import csv
import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

from benchmarks.made_data import clean_row
from workbench.validate.reading import Purpose

FORMS: dict[str, Purpose] = {"demonstrations": "sft", "texts": "classify", "pairs": "reward", "items": "annotate"}
ROWS = 40
"""Rows of a file: one bad row is more than the 1 % that is left out by default."""
LONG = 50 << 20
"""Bytes of the long line."""
UNFOLDED = 8 << 30
"""Bytes that the Parquet file unfolds to."""
Rows = list[dict[str, Any]]


def good_rows(form: str, seed: int) -> Rows:
    """Rows that the command of a form accepts, with characters beyond ASCII."""
    draw = random.Random(f"{form}-{seed}")
    rows = [clean_row(draw, FORMS[form], number) for number in range(ROWS)]
    return [
        {name: value if name == "label" else f"{value} Voilà, déjà fini." for name, value in row.items()}
        for row in rows
    ]


def lines(rows: Rows) -> bytes:
    """JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _last(rows: Rows) -> str:
    """The column that is spoilt: not the one that makes a row recognisable first."""
    return list(rows[0])[-1 if "label" not in rows[0] else 0]


def _needed(rows: Rows) -> str:
    """A column that must not be empty: a response, a text, or the prompt of answers to compare, which may be empty."""
    return next(name for name in ("response", "text", "prompt") if name in rows[0])


def spoilt(
    change: Callable[[random.Random, Any], Any], column: Callable[[Rows], str] = _last
) -> Callable[[random.Random, Rows], bytes]:
    """Lines in which a field of some rows has another value."""

    def broken(draw: random.Random, rows: Rows) -> bytes:
        name = column(rows)
        chosen = set(draw.sample(range(1, len(rows)), draw.randint(1, 8)))
        return lines([{**row, name: change(draw, row[name])} if n in chosen else row for n, row in enumerate(rows)])

    return broken


def with_lines(change: Callable[[random.Random, bytes], bytes]) -> Callable[[random.Random, Rows], bytes]:
    """Lines of which some are other bytes."""

    def broken(draw: random.Random, rows: Rows) -> bytes:
        whole = lines(rows).splitlines()
        for number in draw.sample(range(1, len(whole)), draw.randint(1, 8)):
            whole[number] = change(draw, whole[number])
        return b"\n".join(whole) + b"\n"

    return broken


def _parquet(rows: Rows) -> bytes:
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def _unfolding(draw: random.Random, rows: Rows) -> bytes:
    """A megabyte of text per row, stored once."""
    import pyarrow
    import pyarrow.parquet

    count, big = UNFOLDED >> 20, "abcdefg " * (1 << 17)
    index = pyarrow.array([0] * count, pyarrow.int32())
    columns = {
        name: pyarrow.DictionaryArray.from_arrays(index, pyarrow.array([str(rows[0][name])])) for name in rows[0]
    }
    columns[_last(rows)] = pyarrow.DictionaryArray.from_arrays(index, pyarrow.array([big]))
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer, compression="zstd", row_group_size=count)
    return buffer.getvalue()


def _csv(rows: Rows) -> list[str]:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().splitlines()


def _csv_cells(draw: random.Random, rows: Rows) -> bytes:
    written = _csv(rows)
    for number in draw.sample(range(2, len(written)), 4):
        written[number] += ",one,more"
    return "\n".join(written).encode()


def _csv_quote(draw: random.Random, rows: Rows) -> bytes:
    written = _csv(rows)
    return "\n".join([*written[:20], '"' + written[20].replace('"', ""), *written[21:]]).encode()


def _csv_header(draw: random.Random, rows: Rows) -> bytes:
    written = _csv(rows)
    name = next(iter(rows[0]))
    return "\n".join([f"{written[0]},{name}", *(f"{line},x" for line in written[1:])]).encode()


def _zip(draw: random.Random, rows: Rows) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.jsonl", lines(rows))
    return file.getvalue()


def _mixed(draw: random.Random, rows: Rows) -> bytes:
    other = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Nobody."}]}
    return lines([other if number % 3 == 1 else row for number, row in enumerate(rows)])


def _long_line(draw: random.Random, rows: Rows) -> bytes:
    row = {**rows[0], _last(rows): "many words " * (LONG // 11)}
    return lines(rows[:5]) + lines([row])[:-20] + b"\n" + lines(rows[5:])


BREAKS: dict[str, tuple[str, Callable[[random.Random, Rows], bytes]]] = {
    "cut-lines": (".jsonl", lambda draw, rows: lines(rows)[: -draw.randint(10, 60)]),
    "cut-list": (".json", lambda draw, rows: json.dumps(rows).encode()[: -draw.randint(10, 2000)]),
    "cut-gzip": (".jsonl.gz", lambda draw, rows: gzip.compress(lines(rows))[: -draw.randint(10, 400)]),
    "cut-parquet": (".parquet", lambda draw, rows: _parquet(rows)[: -draw.randint(10, 400)]),
    "half-utf8": (".jsonl", with_lines(lambda draw, line: line.replace("à".encode(), b"\xc3"))),
    "utf16-mark-on-utf8": (".jsonl", lambda draw, rows: b"\xff\xfe" + lines(rows)),
    "cut-utf16": (".jsonl", lambda draw, rows: lines(rows).decode().encode("utf-16")[: -draw.choice([31, 33, 61])]),
    "marks-inside": (".jsonl", with_lines(lambda draw, line: b"\xef\xbb\xbf" + line)),
    "raw-line-ends": (".jsonl", with_lines(lambda draw, line: line.replace(b" the ", b" the\r\n", 1))),
    "deep-nulls": (
        ".jsonl",
        with_lines(lambda draw, line: b'{"prompt": ' + b"[" * 100_000 + b"null" + b"]" * 100_000 + b"}"),
    ),
    "null-messages": (
        ".jsonl",
        with_lines(lambda draw, line: b'{"messages": [null, {"role": null, "content": {"a": null}}]}'),
    ),
    "nulls": (".jsonl", spoilt(lambda draw, value: None, _needed)),
    "long-line": (".jsonl", _long_line),
    "nan": (".jsonl", spoilt(lambda draw, value: float("nan"), _needed)),
    "infinity": (".jsonl", spoilt(lambda draw, value: draw.choice([float("inf"), float("-inf")]))),
    "two-keys": (".jsonl", with_lines(lambda draw, line: line[:-1] + b", " + line[1:])),
    "mixed-forms": (".jsonl", _mixed),
    "wrong-types": (".jsonl", spoilt(lambda draw, value: draw.choice([17, True, {"text": value}, [[1], 2], -0.5]))),
    "half-characters": (".jsonl", with_lines(lambda draw, line: line.replace(b" the ", b" \\ud83d ", 1))),
    "unfolding-parquet": (".parquet", _unfolding),
    "csv-cells": (".csv", _csv_cells),
    "csv-quote": (".csv", _csv_quote),
    "csv-header": (".csv", _csv_header),
    "empty": (".jsonl", lambda draw, rows: draw.choice([b"", b"\n\n", b"   \n", b"\xef\xbb\xbf"])),
    "other-content": (
        ".jsonl",
        lambda draw, rows: draw.choice(
            [
                _zip(draw, rows),
                b"<!DOCTYPE html><html><body>404</body></html>",
                b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
                random.Random(0).randbytes(4000),
                b'17\n18\n"text"\n',
            ]
        ),
    ),
}
"""Way to break a file → the suffix, and (seeded draws, good rows) → the bytes."""
