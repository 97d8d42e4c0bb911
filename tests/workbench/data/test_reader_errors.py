"""Refused files: each message must tell a person how to fix the file."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.data.readers import (
    read_demonstrations,
    read_items,
    read_preferences,
    read_prompts,
)
from workbench.data.rules import RowRules
from workbench.run.errors import WorkbenchError

PAIR = {"prompt": "Hi", "chosen": "Yes", "rejected": "No"}
DEMONSTRATION = {"prompt": "Hi", "response": "Hello"}


def refused(read: Callable[[Path], Any], path: Path) -> str:
    with pytest.raises(WorkbenchError) as caught:
        read(path)
    return str(caught.value)


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def says(message: str, *parts: str) -> None:
    for part in parts:
        assert part in message, f"{part!r} is not in:\n{message}"


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    lines(tmp_path / "preferences.jsonl", PAIR)
    says(refused(read_preferences, tmp_path / "preference.jsonl"), "no such file", "did you mean", "preferences.jsonl")
    says(refused(read_preferences, tmp_path / "nowhere/p.jsonl"), "no such file", "its folder does not exist")


def test_a_folder_of_several_data_sets_names_its_files(tmp_path: Path) -> None:
    says(refused(read_preferences, tmp_path), "it is a folder, not a file", "it holds: nothing")
    lines(tmp_path / "train-0.jsonl", PAIR)
    lines(tmp_path / "test-0.jsonl", PAIR)
    says(refused(read_preferences, tmp_path), "several data sets", "name one of its files: test-0.jsonl, train-0.jsonl")


def test_a_folder_of_several_splits_names_them(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text("{}")
    (tmp_path / "train").mkdir()
    says(refused(read_preferences, tmp_path), "several splits: train", f"for example {tmp_path / 'train'}")


@pytest.mark.parametrize("name", ["e.jsonl", "e.json", "e.csv"])
@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    says(refused(read_preferences, tmp_path / name), name, "it is empty", "at least one record")


def test_an_empty_list_and_a_bare_header_are_empty_too(tmp_path: Path) -> None:
    says(refused(read_preferences, lines(tmp_path / "e.json", "[]")), "it is empty")
    says(refused(read_preferences, lines(tmp_path / "e.csv", "prompt,chosen,rejected")), "it is empty")


def test_broken_json_names_the_line(tmp_path: Path) -> None:
    path = lines(tmp_path / "p.jsonl", PAIR, '{"prompt": "Hi", "chosen": "Yes" "rejected": "No"}', PAIR)
    says(refused(read_preferences, path), "p.jsonl, line 2: broken JSON", "column 34", "one JSON object per line")
    path = lines(tmp_path / "p.json", "[", json.dumps(PAIR) + ",", '{"prompt": }', "]")
    says(refused(read_preferences, path), "p.json, line 3: broken JSON")


def test_a_line_that_is_not_an_object(tmp_path: Path) -> None:
    says(refused(read_preferences, lines(tmp_path / "p.jsonl", PAIR, "[1, 2]")), "line 2: a JSON list, not an object")


def test_half_a_character(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", '{"prompt": "Hi", "response": "\\ud83d"}')
    says(refused(read_demonstrations, path), "line 1", "'response' holds half a character")


def test_a_misspelt_field_names_the_right_one(tmp_path: Path) -> None:
    path = lines(tmp_path / "p.jsonl", {"prompt": "Hi", "chosen": "Yes", "regected": "No"})
    message = refused(read_preferences, path)
    says(message, "p.jsonl, line 1: field 'rejected' is missing; found: prompt, chosen, regected")
    says(message, "did you mean 'regected'? rename 'regected' to 'rejected'")


def test_a_misspelt_field_on_a_later_line(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", DEMONSTRATION, {"prompt": "Hi", "respnse": "Hello"}, {"prompt": "Hi"})
    message = refused(read_demonstrations, path)
    says(message, "line 2: field 'response' is missing", "(and 1 more bad rows of 3)", "rename 'respnse' to 'response'")


def test_a_missing_field_with_nothing_like_it(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", {"instruction": "Hi", "when": 3})
    message = refused(read_demonstrations, path)
    says(message, "field 'output' is missing", "demonstrations with the fields instruction, output", "add 'output'")
    assert "did you mean" not in message


def test_another_kind_of_file_lists_the_forms(tmp_path: Path) -> None:
    message = refused(read_items, lines(tmp_path / "c.jsonl", {"label": "spam", "number": 3}))
    says(message, "no fields of items; found: label, number", "expected: prompt, responses; or prompt, response_a")


def test_null_counts_as_an_empty_cell(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", DEMONSTRATION, {"prompt": "Hi", "response": None})
    says(refused(read_demonstrations, path), "line 2: 'response' is empty")


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"prompt": "Hi", "response": 5}, ["'response' is a number: 5", "'response' as text"]),
        ({"prompt": 5, "response": "x"}, ["'prompt' is a number: 5"]),
        ({"prompt": [], "response": "x"}, ["'prompt' is an empty list"]),
        ({"prompt": [3], "response": "x"}, ["'prompt[0]' is a number: 3", '"role": "user"']),
        ({"messages": "Hi"}, ["'messages' is text", "list of"]),
        (
            {"messages": [{"role": "critic", "content": "Hi"}]},
            ["'messages[0].role' is 'critic'", "user, human", "assistant, gpt", "system, developer"],
        ),
        ({"messages": [{"role": "asistant", "content": "Hi"}]}, ["did you mean 'assistant'?"]),
        ({"messages": [{"from": "user", "content": "Hi"}]}, ["'messages[0]' has no 'role'", "rename 'from' to 'role'"]),
        ({"messages": [{"role": "user", "content": 3}]}, ["'messages[0].content' is a number"]),
        (
            {"messages": [{"role": "user", "content": "Hi"}]},
            ["'messages' has only the turns user", "at least one assistant message"],
        ),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, ["ends with 'nothing'", "a user message"]),
        ({"prompt": [{"role": "assistant", "content": "Hi"}], "response": "x"}, ["'prompt' ends with 'assistant'"]),
    ],
)
def test_a_wrong_type_or_turn(tmp_path: Path, row: dict[str, Any], parts: list[str]) -> None:
    says(refused(read_demonstrations, lines(tmp_path / "d.jsonl", row)), "d.jsonl, line 1: ", *parts)


def test_chosen_the_same_as_rejected(tmp_path: Path) -> None:
    path = lines(tmp_path / "p.jsonl", PAIR, {**PAIR, "rejected": "Yes"})
    message = refused(read_preferences, path)
    says(message, "p.jsonl, line 2: 'chosen' and 'rejected' are the same: 'Yes'", "two different responses", "remedy")


@pytest.mark.parametrize("empty", ["", "  \n"])
def test_an_empty_response(tmp_path: Path, empty: str) -> None:
    path = lines(tmp_path / "d.jsonl", DEMONSTRATION, {"prompt": "Hi", "response": empty})
    says(refused(read_demonstrations, path), "line 2: 'response' is empty")
    path = lines(tmp_path / "p.jsonl", {**PAIR, "chosen": empty})
    says(refused(read_preferences, path), "line 1: 'chosen' is empty")
    path = lines(tmp_path / "q.jsonl", {"prompt": empty})
    says(refused(read_prompts, path), "line 1: 'prompt' is empty")


def test_rare_bad_rows_are_left_out_counted_and_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    same, short = {**PAIR, "rejected": "Yes"}, {"prompt": "Hi", "chosen": "Yes"}
    path = lines(tmp_path / "p.jsonl", *[PAIR] * 297, same, "{broken", short)
    rules = RowRules()
    with caplog.at_level(logging.WARNING):
        assert len(read_preferences(path, rules)) == 297
    says(caplog.text, "left out 3 of 300 rows", "1 × 'chosen' and 'rejected' are the same (line 298)")
    says(caplog.text, "1 × broken JSON (line 299)", "1 × field 'rejected' is missing (line 300)")
    assert [row["place"] for row in rules.left_out] == [f"{path}, line {n}" for n in (298, 299, 300)]
    rules.write_left_out(tmp_path)
    written = [json.loads(line) for line in (tmp_path / "bad_rows.jsonl").read_text().splitlines()]
    assert written == rules.left_out
    RowRules().write_left_out(tmp_path)
    assert not (tmp_path / "bad_rows.jsonl").exists(), "nothing is left out now"


def test_the_rules_for_bad_rows(tmp_path: Path) -> None:
    same = {**PAIR, "rejected": "Yes"}
    few, many = [PAIR] * 199, [PAIR] * 97
    says(refused(read_preferences, lines(tmp_path / "p.jsonl", *many, same, same)), "line 98", "1 more bad rows of 99")
    assert len(read_preferences(tmp_path / "p.jsonl", RowRules(bad_rows="skip"))) == 97
    path = lines(tmp_path / "q.jsonl", *few, same)
    assert len(read_preferences(path)) == 199
    says(refused(lambda file: read_preferences(file, RowRules(bad_rows="error")), path), "line 200")
    path = lines(tmp_path / "r.jsonl", same, same)
    says(refused(lambda file: read_preferences(file, RowRules(bad_rows="skip")), path), "line 1", "bad rows of 2")


def test_transcripts_and_conversations_that_answer_different_prompts(tmp_path: Path) -> None:
    row = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}
    says(refused(read_preferences, lines(tmp_path / "p.jsonl", row)), "line 1", "the conversations differ before")
    start = "\n\nHuman: a\n\nAssistant:"
    row = {"chosen": start + " b\n\nHuman: c\n\nAssistant: d", "rejected": start + " e"}
    says(refused(read_preferences, lines(tmp_path / "p.jsonl", row)), "differ before their last answer")
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    other = [{"role": "user", "content": "z"}, {"role": "assistant", "content": "y"}]
    path = lines(tmp_path / "p.jsonl", {"chosen": turns, "rejected": other})
    says(refused(read_preferences, path), "the conversations differ before their last answer")


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (DEMONSTRATION, {"instruction": "Hi", "output": "x"}, "instruction, output (text)"),
        (
            DEMONSTRATION,
            {"prompt": [{"role": "user", "content": "Hi"}], "response": "x"},
            "prompt, response (messages)",
        ),
        (DEMONSTRATION, {"prompt": "Hi", "completion": "x"}, "prompt, completion (text)"),
    ],
)
def test_mixed_forms(tmp_path: Path, first: dict[str, Any], second: dict[str, Any], found: str) -> None:
    message = refused(read_demonstrations, lines(tmp_path / "d.jsonl", first, second))
    says(message, f"line 2: mixed forms in one file: this row has {found}", "prompt, response (text), as in", "line 1")


def test_our_own_records_are_checked_field_by_field(tmp_path: Path) -> None:
    turn, said = {"role": "user", "content": "Hi"}, [{"role": "assistant", "content": "Yes"}]
    own = {"id": "a", "group": "g", "prompt": [turn], "chosen": said, "rejected": [{**said[0], "content": "No"}]}
    path = lines(tmp_path / "p.jsonl", {**own, "strength": 7})
    says(refused(read_preferences, path), "line 1: 'strength': ", "less than or equal to 3, found '7'")
    path = lines(tmp_path / "p.jsonl", {**own, "strenght": 1})
    says(refused(read_preferences, path), "unknown field 'strenght'", "did you mean 'strength'?")
    assert len(read_preferences(lines(tmp_path / "p.jsonl", {**own, "note": "extra columns are fine"}))) == 1


def test_items(tmp_path: Path) -> None:
    item = {
        "id": "i",
        "group": "g",
        "prompt": [{"role": "user", "content": "Hi"}],
        "responses": [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}],
    }
    path = lines(tmp_path / "i.jsonl", item, {**item, "group": "other"})
    says(refused(read_items, path), "line 2: another record has the id 'i'", "line 1", "data.ignore=[id]")
    assert len(read_items(lines(tmp_path / "i.jsonl", item, item))) == 1
    path = lines(tmp_path / "i.jsonl", {**item, "responses": item["responses"][:1]})
    says(refused(read_items, path), "line 1: 'responses'", "at least 2")


def test_csv_errors_name_row_and_line(tmp_path: Path) -> None:
    path = lines(tmp_path / "p.csv", "prompt,chosen,rejected", '"two\nlines",yes,no', "Hi,Yes")
    says(refused(read_preferences, path), "p.csv, row 2 (line 4): it has 2 cells, the header 3")
    path = lines(tmp_path / "p.csv", "prompt,chosen,rejectd", "Hi,Yes,No")
    says(refused(read_preferences, path), "p.csv, row 1 (line 2): field 'rejected' is missing", "rename 'rejectd'")
    path = lines(tmp_path / "p.csv", "prompt,chosen,rejected", 'Hi,"Yes,No')
    says(refused(read_preferences, path), "p.csv, row 1: broken CSV")


def test_parquet_errors_name_the_row(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "p.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([PAIR, {**PAIR, "chosen": None}]), path)
    says(refused(read_preferences, path), "p.parquet, row 2: 'chosen' is empty")
    says(refused(read_preferences, lines(path, "no parquet")), "p.parquet: not a Parquet file")


def test_a_kind_of_file_that_holds_no_records(tmp_path: Path) -> None:
    says(refused(read_prompts, lines(tmp_path / "notes.txt", "hello")), "'.txt' holds no records", "JSONL")
    says(refused(read_prompts, lines(tmp_path / "notes.md", "hello")), "'.md' holds no records")


def test_a_hub_name_while_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("offline mode is on")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(WorkbenchError) as caught:
        read_preferences("hub:owner/name")
    says(str(caught.value), "hub:owner/name: it could not be loaded from the hub: offline", "name a local file")


def test_no_message_shows_internals(tmp_path: Path) -> None:
    """Messages are for people: no class names of ours or of pydantic, no addresses of objects."""
    rows = [{"prompt": 5, "response": "x"}, {"messages": [3]}, {"prompt": "Hi", "response": ""}, {"foo": 1}, {}]
    for row in rows:
        message = refused(read_demonstrations, lines(tmp_path / "d.jsonl", row))
        assert not re.search(r"pydantic|0x[0-9a-f]{8}|<class|Traceback|NoneType", message), message
        assert "expected:" in message


@pytest.mark.parametrize(("read", "row"), [(read_demonstrations, DEMONSTRATION), (read_preferences, PAIR)])
def test_an_id_that_is_not_valid_text_is_a_bad_row(tmp_path: Path, read: Callable[..., Any], row: Any) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({**row, "id": "\ud800"}) + "\n")
    says(refused(read, path), "line 1: 'id': Input should be a valid string", "found '\\ud800'")
