"""Labelled texts in every kind of file, the columns that name them, and what is refused."""

import logging

import pandas as pd
import pytest

from tests.conftest import write_jsonl
from workbench.data.labelled import Columns, read_labelled, stream_texts
from workbench.data.rules import RowRules
from workbench.run.errors import WorkbenchError

ROWS = [{"id": "t1", "text": "buy now", "label": "spam"}, {"id": "t2", "text": "see you 東京", "label": "ham"}]


def read(path, **columns):
    return read_labelled(path, Columns(**columns), RowRules(bad_rows="error"))


def values(file):
    return [(record.id, record.text, record.labels) for record in file.records]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_kinds_of_files(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    table = pd.DataFrame(ROWS)
    if suffix == ".jsonl":
        write_jsonl(path, ROWS)
    elif suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep="\t" if suffix == ".tsv" else ",", index=False)
    found = read(path)
    assert values(found) == [("t1", "buy now", ("spam",)), ("t2", "see you 東京", ("ham",))]
    assert not found.multi_label
    assert found.counts == {"spam": 1, "ham": 1}


@pytest.mark.parametrize(
    ("rows", "columns", "labels"),
    [
        ([{"Comment Text": "a", "Is Troll": 1}], {"text": "Comment Text", "labels": ("is_troll",)}, ("1",)),
        ([{"text": "a", "label": True}], {}, ("True",)),
        ([{"text": "a", "label": 2.0}], {}, ("2",)),
        ([{"text": "a", "label": ["y", "x", "y"]}], {}, ("x", "y")),
        ([{"text": "a", "label": []}], {}, ()),
        ([{"text": "a", "toxic": 1, "insult": "0", "threat": True}], {"labels": ("toxic", "insult", "threat")}, None),
    ],
)
def test_columns_and_labels(tmp_path, rows, columns, labels):
    found = read(write_jsonl(tmp_path / "t.jsonl", rows), **columns)
    assert found.records[0].labels == (("threat", "toxic") if labels is None else labels)
    several = isinstance(rows[0].get("label"), list) or len(columns.get("labels", ())) > 1
    assert found.multi_label == several


@pytest.mark.parametrize(
    ("row", "columns", "parts"),
    [
        ({"text": "a"}, {}, ["no column 'label'; found: text", "data.labels=COLUMN"]),
        ({"txet": "a", "label": "x"}, {}, ["no column 'text'", "did you mean 'txet'"]),
        ({"text": "", "label": "x"}, {}, ["'text' is empty"]),
        ({"text": 3, "label": "x"}, {}, ["'text' is a number: 3"]),
        ({"text": "a", "label": None}, {}, ["'label' is empty"]),
        ({"text": "a", "label": " "}, {}, ["'label' is ' '", "a class as text"]),
        ({"text": "a", "label": 0.5}, {}, ["'label' is 0.5"]),
        ({"text": "a", "label": {"x": 1}}, {}, ["'label' is {'x': 1}"]),
        ({"text": "a", "x": 2, "y": 0}, {"labels": ("x", "y")}, ["'x' is '2'", "0 or 1"]),
        ({"text": "\ud800", "label": "x"}, {}, ["holds half a character"]),
    ],
)
def test_a_bad_row_has_its_place(tmp_path, row, columns, parts):
    import json

    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(WorkbenchError) as caught:
        read(path, **columns)
    for part in ("t.jsonl, line 1: ", *parts):
        assert part in str(caught.value)


def test_one_label_and_lists_of_labels_do_not_mix(tmp_path):
    rows = [*ROWS, {"text": "c", "label": ["spam"]}]
    with pytest.raises(WorkbenchError, match=r"line 3: this row has a list of labels, unlike the first row"):
        read(write_jsonl(tmp_path / "t.jsonl", rows))


def test_bad_rows_unused_columns_and_contradictions_are_counted(tmp_path, caplog):
    rows = [{"text": f"text {n}", "label": "a", "user": "u"} for n in range(200)]
    rows += [{"text": "text 0", "label": "b"}, {"text": "", "label": "a"}]
    rules = RowRules()
    with caplog.at_level(logging.WARNING):
        found = read_labelled(write_jsonl(tmp_path / "t.jsonl", rows), Columns(), rules)
    assert len(found.records) == 201
    assert [row["problem"] for row in rules.left_out] == ["'text' is empty"]
    assert "left out 1 of 202 rows" in caplog.text
    assert "left unused: user" in caplog.text
    assert "1 texts occur with different labels" in caplog.text


def test_streamed_texts_need_no_label_and_keep_bad_rows_in_place(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"id": 7, "text": "a"}\nnot json\n{"text": "b", "label": "x"}\n')
    first, second, third = stream_texts(path, "text")
    assert first == ("7", "a")
    assert isinstance(second, WorkbenchError)
    assert third[1] == "b"
