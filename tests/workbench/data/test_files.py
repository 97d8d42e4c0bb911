"""Kinds of files: compression, encodings, delimiters, layouts of JSON, folders; and files without records."""

import bz2
import gzip
import json
import logging
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from workbench.data.files import encodings, memory, parquet_rows
from workbench.data.files import rows as file_rows
from workbench.data.files.rows import read_rows, stream_rows
from workbench.run.errors import WorkbenchError

ROWS = [{"prompt": f"q {n}", "response": f"ä東 {n}"} for n in range(3)]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def fields(path: Path) -> list[dict[str, Any]]:
    return [row.fields for row in read_rows(path)]


def refused(path: Path) -> str:
    with pytest.raises(WorkbenchError) as caught:
        list(stream_rows(path))
    return str(caught.value)


def zstd(content: bytes) -> bytes:
    return pyarrow.compress(content, codec="zstd", asbytes=True)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("r.jsonl.gz", gzip.compress),
        ("r.jsonl", gzip.compress),
        ("r.jsonl.zst", zstd),
        ("r.json.bz2", bz2.compress),
        ("r.xz", lzma.compress),
    ],
)
def test_compression_is_recognised_by_the_first_bytes(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / name).write_bytes(pack(JSONL.encode()))
    assert fields(tmp_path / name) == ROWS


def test_a_compressed_csv_file_and_one_that_is_cut_off(tmp_path: Path) -> None:
    whole = gzip.compress(b"prompt,response\n" + b"".join(f"q {n},a {n}\n".encode() for n in range(9999)))
    (tmp_path / "r.csv.gz").write_bytes(whole)
    assert len(fields(tmp_path / "r.csv.gz")) == 9999
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    assert "compressed content is broken or cut off" in refused(tmp_path / "cut.csv.gz")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
@pytest.mark.parametrize("name", ["r.jsonl", "r.csv", "r.json", "r.txt.jsonl"])
def test_wide_encodings(tmp_path: Path, name: str, encoding: str) -> None:
    text = {"r.csv": "prompt,response\n" + "".join(f"{r['prompt']},{r['response']}\n" for r in ROWS)}.get(name, JSONL)
    text = json.dumps(ROWS, ensure_ascii=False) if name == "r.json" else text
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert fields(tmp_path / name) == ROWS


@pytest.mark.parametrize(
    ("encoding", "said", "text"),
    [
        ("gbk", "gb18030", "请介绍一下北京的历史文化。北京是中国的首都。"),
        ("big5", "big5", "請介紹一下台北的歷史文化，這個城市是什麼時候建立的？"),
        ("shift_jis", "cp932", "東京の歴史について教えてください。これはテストです。"),
        ("euc_kr", "cp949", "서울의 역사에 대해 알려주세요. 이것은 시험입니다."),
        ("cp1251", "cp1251", "Расскажите о погоде в Москве сегодня, пожалуйста."),
        ("latin-1", "cp1252", "Où est le café? Il est à côté de l'hôtel."),
        ("cp1252", "cp1252", "Straße"),
    ],
)
def test_other_encodings_are_detected_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, encoding: str, said: str, text: str
) -> None:
    (tmp_path / "r.jsonl").write_bytes((json.dumps({"prompt": text}, ensure_ascii=False) + "\n").encode(encoding))
    with caplog.at_level(logging.WARNING):
        assert fields(tmp_path / "r.jsonl") == [{"prompt": text}]
    assert f"read as {said}, which was detected" in caplog.text


def test_an_uncertain_encoding_is_an_error_with_the_likely_readings(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes("prompt,response\na,Zażółć gęślą jaźń\n".encode("iso8859-2"))
    message = refused(tmp_path / "r.csv")
    assert "r.csv, line 2: not UTF-8, and its encoding is uncertain: as " in message
    assert "iconv -f ENCODING -t utf-8" in message


def test_one_broken_byte_in_a_utf8_file_is_a_bad_row_and_changes_no_other(tmp_path: Path) -> None:
    lines = JSONL.encode().splitlines(keepends=True)
    (tmp_path / "r.jsonl").write_bytes(b"".join([*lines, lines[0].replace("ä".encode(), b"\xe4"), *lines]))
    rows = read_rows(tmp_path / "r.jsonl")
    assert [row.fields for row in rows if row.error is None] == ROWS + ROWS
    assert "line 4: not UTF-8: byte 0xe4" in str(rows[3].error)


def test_an_encoding_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "r.jsonl").write_bytes('{"prompt": "Straße"}\n'.encode("cp1252"))
    with caplog.at_level(logging.WARNING):
        read_rows(tmp_path / "r.jsonl")
        read_rows(tmp_path / "r.jsonl")
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "text",
    [
        "prompt;response\nq 0;ä, ö\n",
        "sep=;\nprompt;response\nq 0;ä, ö\n",
        'sep=,\r\nprompt,response\r\nq 0,"ä, ö"\r\n',
        "prompt|response\nq 0|ä, ö\n",
        "prompt\tresponse\nq 0\tä, ö\n",
        '"prompt";"response"\n"q 0";"ä, ö"\n',
    ],
)
def test_delimiters_of_csv(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.csv").write_text(text, encoding="utf-8", newline="")
    assert fields(tmp_path / "r.csv") == [{"prompt": "q 0", "response": "ä, ö"}]


def test_a_header_that_names_a_column_twice(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("prompt,response,prompt\na,b,c\n")
    assert "the header names 'prompt' twice" in refused(tmp_path / "r.csv")


LAYOUTS: dict[str, Any] = {
    "wrapped": json.dumps({"version": 1, "data": ROWS}),
    "wrapped, pretty": json.dumps({"rows": ROWS}, indent=2),
    "pretty objects": "\n".join(json.dumps(row, indent=2) for row in ROWS),
    "objects on one line": "".join(map(json.dumps, ROWS)),
    "columns of lists": json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}),
    "columns of pandas": json.dumps({name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]}),
    "list": json.dumps(ROWS),
    "one split": json.dumps({"train": ROWS}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_layouts_of_json(tmp_path: Path, layout: str, suffix: str) -> None:
    (tmp_path / f"r.{suffix}").write_text(LAYOUTS[layout], encoding="utf-8")
    assert fields(tmp_path / f"r.{suffix}") == ROWS


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"chosen": [{"from": "human", "value": "a"}], "rejected": [{"from": "human", "value": "b"}]},
        {"prompt": "a", "responses": ["b", "c"]},
    ],
)
def test_one_object_is_one_record(tmp_path: Path, record: dict[str, Any]) -> None:
    (tmp_path / "r.json").write_text(json.dumps(record, indent=1))
    assert fields(tmp_path / "r.json") == [record]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"prompt": "a"}, ]', "a trailing comma before ']'"),
        ('[\n{"prompt": "a"},\n{"prompt": "b",}\n]', "a trailing comma before '}'"),
        ('{"data": [{"prompt": "a"},]}', "a trailing comma before ']'"),
        (json.dumps({"train": ROWS, "test": ROWS}), "several lists of rows: train, test"),
    ],
)
def test_refused_json_names_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "r.json").write_text(text)
    assert reason in refused(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "b"},', "a trailing comma after the object"),
        ('{"prompt": "b",}', "a trailing comma before '}'"),
        ('{"prompt": "b", "prompt": "c"}', "the key 'prompt' appears twice in one object"),
        ('{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    ],
)
def test_a_refused_line_names_the_reason(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "r.jsonl").write_text('{"prompt": "a"}\n' + line + "\n")
    good, bad = read_rows(tmp_path / "r.jsonl")
    assert good.error is None
    assert reason in str(bad.error)


def test_a_deeply_nested_list_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("[" * 100_000 + "]" * 100_000)
    assert "nested too deeply" in refused(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html></html>", "a web page, not data"),
        (b"PK\x03\x04rest", "a zip archive or an Excel workbook"),
    ],
)
@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet", "r.csv", "r"])
def test_files_that_are_not_data_are_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert says in refused(tmp_path / name)


def parquet(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, **options)
    return path


def test_a_folder_of_shards_is_one_data_set(tmp_path: Path) -> None:
    (tmp_path / "set/data").mkdir(parents=True)
    (tmp_path / "set/README.md").write_text("about")
    for n, row in enumerate(ROWS):
        parquet(tmp_path / f"set/data/train-{n:05}-of-00003.parquet", [row])
    assert fields(tmp_path / "set") == ROWS
    assert "train-00001-of-00003.parquet, row 1" in read_rows(tmp_path / "set")[1].place
    (tmp_path / "lines").mkdir()
    for n, row in enumerate(ROWS):
        (tmp_path / f"lines/part-{n}.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    assert fields(tmp_path / "lines") == ROWS


def test_parquet_whatever_its_name(tmp_path: Path) -> None:
    assert fields(parquet(tmp_path / "r.bin", ROWS)) == ROWS
    assert fields(parquet(tmp_path / "r.jsonl", ROWS)) == ROWS


def test_parquet_that_unfolds_to_more_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "r.parquet", [{"prompt": "x" * 100_000 + str(n)} for n in range(200)], compression="zstd")
    assert path.stat().st_size < 1_000_000
    assert parquet_rows._row_bytes(pyarrow.parquet.ParquetFile(path), 0) > 100_000
    assert len(read_rows(path)) == 200
    monkeypatch.setattr(parquet_rows, "free_memory", lambda: 10 << 20)
    message = refused(path)
    assert "unfolded" in message
    assert "smaller row groups" in message
    assert "micro_batch_size" not in message


def test_a_small_parquet_that_unfolds_to_gigabytes(tmp_path: Path) -> None:
    """One text of 1 MiB that 8 000 rows share: less than a kilobyte on disk, 8 GB as rows."""
    text = pyarrow.array(["x" * (1 << 20)])
    pointers = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 8000, pyarrow.int32()), text)
    path = tmp_path / "r.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"prompt": pointers}), path, compression="zstd")
    assert path.stat().st_size < 2000
    message = refused(path)
    assert "7.8 GiB when unfolded" in message
    assert "at most 1000 times the file" in message


def test_rows_that_do_not_fit_into_memory_are_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r.jsonl").write_text('{"prompt": "a"}\n' * 600)
    monkeypatch.setattr(file_rows, "free_memory", lambda: 1)
    with pytest.raises(WorkbenchError, match=r"does not fit into memory: 256 rows"):
        read_rows(tmp_path / "r.jsonl")


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    free = memory.free_memory()
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert memory.free_memory() == 600 < free
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory() > 600


def test_null_and_nan_are_not_values(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"prompt": null, "response": NaN, "n": 1}\n')
    (row,) = read_rows(tmp_path / "r.jsonl")
    assert (row.fields, row.nulls) == ({"n": 1}, frozenset({"prompt", "response"}))


def test_a_script_is_recognised_by_its_common_letters() -> None:
    assert encodings._script("Москва") == "Russian"
    assert encodings._script("東京の") == "Japanese"
    assert not encodings._reads_well("忯ﾓﾓﾋﾁﾖﾉﾔﾅ"), "KOI8-R read as Shift JIS"
    assert encodings._reads_well("Où est l’hôtel?")


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_file_in_utf16_that_is_cut_off_is_an_error_with_its_line(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    row = '{"prompt": "Who?", "response": "Nobody."}\n' if suffix == "jsonl" else "prompt,response\nWho?,Nobody.\n"
    path.write_bytes((row * 20).encode("utf-16")[:-3])
    with pytest.raises(WorkbenchError, match=r"cut\.\w+, line \d+: not utf-16.*\n.*\n.*copy or download it again"):
        read_rows(path)
