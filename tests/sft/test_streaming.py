"""data.streaming: the same rows, split, draws and errors as in memory, with memory that does not grow with the file."""

import fcntl
import gzip
import json
import logging
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest
from trl.data_utils import pack_dataset

from sft.config import DataSection, MixSection
from sft.data import load_data
from sft.sources import Old
from tests.conftest import user, write_jsonl
from workbench.data import readers, stored
from workbench.data.reading import say
from workbench.data.rules import RowRules
from workbench.model.base import load_tokenizer
from workbench.run.errors import WorkbenchError
from workbench.run.sections import AugmentSection


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return load_tokenizer(str(tiny_base))


def rows(name, count, words=3):
    made = [
        {
            "id": f"{name}{n}",
            "prompt": user("Where is {}?", f"the {name} {n % (count - 3)}"),
            "response": "here " * words,
        }
        for n in range(count)
    ]
    made[5]["response"] = made[5]["response"] * 200  # longer than the limit
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three sources in three formats; one with a bad row and repeated prompts, two with few demonstrations."""
    folder = tmp_path_factory.mktemp("streaming")
    train = write_jsonl(folder / "train.jsonl", rows("cup", 120))
    with train.open("a", encoding="utf-8") as file:
        file.write('{"id": "bad", "prompt": [], "response": "x"}\n')
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows("hat", 30)), folder / "mix.parquet")
    old = write_jsonl(folder / "old.jsonl", rows("old", 40))
    with gzip.open(folder / "old.jsonl.gz", "wb") as file:
        file.write(old.read_bytes())
    return {"train": train, "mix_1": folder / "mix.parquet", "old": folder / "old.jsonl.gz"}


def loaded(tokenizer, files, *, streaming, rules, **options):
    section = DataSection(
        train=str(files["train"]),
        mix=(MixSection(file=str(files["mix_1"]), share=0.3),),
        validation_share=0.1,
        max_length=128,
        streaming=streaming,
    )
    old = Old(files["old"], None, 0.2, 1, 64, RowRules())
    return load_data(tokenizer, section, files, seed=0, rules=rules, old=old, **options)


def test_rows_order_draws_and_reports_are_those_of_memory(tokenizer, files, caplog, monkeypatch):
    monkeypatch.setattr(readers, "_REMEMBERED", {})
    monkeypatch.setattr(stored, "_STORED", {})
    found = {}
    for streaming in (False, True):
        caplog.clear()
        say.cache_clear()
        rules = RowRules()
        with caplog.at_level(logging.WARNING):
            data = loaded(
                tokenizer, files, streaming=streaming, rules=rules, augment=AugmentSection(transforms=("typos",))
            )
        rows = data.train.to_list()
        found[streaming] = (rows, data.validation.to_list(), data.old_validation.to_list(), data.counts, rules.left_out)
        messages = {record.getMessage() for record in caplog.records}
        found[streaming] += (data.validation_records, messages)
        packed = pack_dataset(data.train, seq_length=128, strategy="bfd").to_list()
        assert len(packed) < len(rows)
        found[streaming] += (packed,)
    assert found[True] == found[False]
    train, _, _, counts, left_out, _, messages, _ = found[True]
    assert len(train) == counts["train"] > 200
    assert counts["mix_1"] > 30
    assert counts["too_long"] > 0
    assert len(left_out) == 1
    assert left_out[0]["place"].endswith("line 121")
    assert any("dropped" in message for message in messages)


def peak_of(tokenizer, file, *, streaming):
    section = DataSection(train=str(file), validation_share=0.02, max_length=250, streaming=streaming)
    tracemalloc.start()
    load_data(tokenizer, section, {"train": file}, seed=0, rules=RowRules())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_file(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_REMEMBERED", {})
    short, long = (write_jsonl(tmp_path / f"{count}.jsonl", rows("cup", count, words=30)) for count in (500, 2000))
    peak_of(tokenizer, short, streaming=True)  # what is loaded once
    streamed = peak_of(tokenizer, long, streaming=True) - peak_of(tokenizer, short, streaming=True)
    in_memory = peak_of(tokenizer, long, streaming=False) - peak_of(tokenizer, short, streaming=False)
    assert in_memory > 2 * (long.stat().st_size - short.stat().st_size)
    assert streamed < in_memory / 10


CUPS = rows("cup", 9)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([*CUPS, {**CUPS[2], "prompt": user("Who is {}?", "it")}], "line 10.*the id 'cup2' .*line 3"),
        ([], "is empty"),
        ([{"nothing": number} for number in range(3000)], "line 1: no fields .*and 999 more bad rows of 1000"),
        ([*CUPS, {**CUPS[2], "id": "x", "prompt": []}], "line 10"),
    ],
    ids=["two prompts of one id", "empty", "no good row", "too many bad rows"],
)
def test_errors(tmp_path, lines, problem):
    with pytest.raises(WorkbenchError, match=problem):
        stored.store_demonstrations(write_jsonl(tmp_path / "bad.jsonl", lines))


def test_folders_of_killed_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    for name in ("rows-killed", "rows-alive"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".lock").write_text(json.dumps({"pid": 1, "host": "here", "since": "now"}))
    with (tmp_path / "rows-alive" / ".lock").open() as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        own = stored._folder.__wrapped__()
    assert own.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["rows-alive", own.name])
