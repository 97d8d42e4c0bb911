"""Files of any size, row after row."""

import itertools

import pandas
import pytest

from tests.conftest import write_jsonl
from workbench.data.files.rows import read_rows, stream_rows
from workbench.data.forms.fields import EmptyRow
from workbench.data.readers import read_preferences, stream_answers
from workbench.data.records import Demonstration, Item, Preference
from workbench.run.errors import WorkbenchError


def test_rows_come_before_the_end_of_the_file_is_read(tmp_path):
    path = tmp_path / "endless.jsonl"
    path.write_text('{"prompt": "a", "response": "b"}\n' * 3 + "broken", encoding="utf-8")
    three = list(itertools.islice(stream_answers(path), 3))
    assert [type(record) for record in three] == [Demonstration] * 3
    *_, last = stream_answers(path)
    assert isinstance(last, WorkbenchError)
    assert "line 4: broken JSON" in str(last)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "tsv"])
def test_every_format_streams_what_is_read_at_once(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("workbench.data.files.parquet_rows._BATCH_ROWS", 2)
    table = pandas.DataFrame({"prompt": list("abcde"), "response": ['x "y"', "two\nlines", "ü", "p", "q"]})
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    rows = stream_rows(path)
    assert not isinstance(rows, list)
    assert list(rows) == read_rows(path)
    assert [record.response for record in stream_answers(path)] == list(table["response"])


def test_pairs_items_and_rows_that_teach_nothing(tmp_path):
    pairs = write_jsonl(
        tmp_path / "pairs.jsonl",
        [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "a", "chosen": "b", "rejected": "b"}],
    )
    first, second = stream_answers(pairs)
    assert isinstance(first, Preference)
    assert isinstance(second, EmptyRow)
    items = write_jsonl(tmp_path / "items.jsonl", [{"prompt": "a", "responses": ["b", "c", "d"]}])
    assert [type(record) for record in stream_answers(items)] == [Item]


@pytest.mark.parametrize(
    ("columns", "category"),
    [
        ({"source": "llmbar"}, "llmbar"),
        ({"source": "llmbar", "subset": "Natural"}, "Natural"),
        ({"category": "chat", "subset": "Natural"}, "chat"),
        ({"source": 3, "votes": 3}, ""),
        ({}, ""),
    ],
)
def test_the_finest_column_is_the_category(tmp_path, columns, category):
    path = write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c", **columns}])
    assert read_preferences(path)[0].category == category
