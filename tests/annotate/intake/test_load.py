"""Users' files of items, in every format, and what is said of bad ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from annotate.config import QueueSection
from annotate.intake.items import fingerprint
from annotate.intake.load import load_file
from annotate.store.database import Store
from workbench.data.records import Message
from workbench.run.errors import WorkbenchError

ONCE = QueueSection(overlap=1, overlap_share=0)
ROWS: list[dict[str, Any]] = [
    {"prompt": "What is 2 + 2?", "response_a": "4", "response_b": "5", "priority": 2.5},
    {"prompt": 'A list, a\nline and "quotes"?', "response_a": "yes, <b>\n1. a", "response_b": "no", "priority": 0},
]


def _jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")


def _folder(path: Path) -> None:
    import datasets

    datasets.Dataset.from_list(ROWS).save_to_disk(path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "items.jsonl": _jsonl,
    "items.json": lambda path: path.write_text(json.dumps(ROWS), encoding="utf-8"),
    "items.csv": lambda path: pd.DataFrame(ROWS).to_csv(path, index=False),
    "items.tsv": lambda path: pd.DataFrame(ROWS).to_csv(path, index=False, sep="\t"),
    "items.parquet": lambda path: pd.DataFrame(ROWS).to_parquet(path),
    "folder": _folder,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_items(store: Store, tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    assert load_file(store, tmp_path / name, ONCE).new == 2
    _jsonl(tmp_path / "again.jsonl")
    assert load_file(store, tmp_path / "again.jsonl", ONCE).known == 2  # ids come from the contents
    with store.read() as transaction:
        items, answers = transaction.items(), transaction.all_responses()
    assert [json.loads(item.prompt)[0]["content"] for item in items] == [row["prompt"] for row in ROWS]
    assert [item.priority for item in items] == [2.5, 0]
    assert [answer.text for answer in answers[items[1].id]] == ["yes, <b>\n1. a", "no"]


@pytest.mark.parametrize("responses", [["x", "y", "z"], [{"text": "x"}, {"text": "y"}, {"text": "z"}]])
def test_lists_of_texts_are_ranked_or_paired(store: Store, tmp_path: Path, responses: list[Any]) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"id": 7, "prompt": "Q?", "responses": responses}) + "\n", encoding="utf-8")
    assert load_file(store, path, ONCE.model_copy(update={"compare": "ranking"})).new == 1
    assert load_file(store, path, ONCE).new == 3
    with store.read() as transaction:
        assert [item.item_id for item in transaction.items()] == ["7", "7:0-1", "7:0-2", "7:1-2"]


def test_preferences_become_gold_items_on_both_sides(store: Store, tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{n}?", "chosen": "good", "rejected": "bad"} for n in range(40)]
    path = tmp_path / "preferences.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert load_file(store, path, ONCE, gold=True).new == 40
    with store.read() as transaction:
        items, answers = transaction.items(kind="gold"), transaction.all_responses()
    for item in items:
        assert item.known_strength in (-1, 1)
        better = answers[item.id][0 if item.known_strength < 0 else 1]
        assert better.text == "good"
    assert 8 <= sum(item.known_strength == 1 for item in items) <= 32


def test_preferences_are_judged_anew_without_what_was_preferred(store: Store, tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{n}?", "chosen": "good", "rejected": "bad"} for n in range(40)]
    path = tmp_path / "preferences.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert load_file(store, path, ONCE, relabel=True).new == 40
    with store.read() as transaction:
        items, answers = transaction.items(kind="ordinary"), transaction.all_responses()
    assert {item.known_strength for item in items} == {None}
    assert 8 <= sum(answers[item.id][0].text == "good" for item in items) <= 32
    assert load_file(store, path, ONCE, relabel=True).known == 40


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"prompt": "Q?", "response_a": "x"}', "line 2: field 'response_b' is missing"),
        ('{"prompt": "Q?", "response_a": "x", "response_b": "y", "priority": "high"}', "line 2: 'priority'"),
        ('{"prompt": "Q?", "response_a": "x", "response_b": "y", "known_strength": 9}', "line 2: 'known_strength'"),
        ('{"prompt": "Q?", ', "line 2: broken JSON"),
    ],
)
def test_bad_rows_are_named_by_their_line(store: Store, tmp_path: Path, row: str, problem: str) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + row + "\n", encoding="utf-8")
    with pytest.raises(WorkbenchError, match=problem):
        load_file(store, path, ONCE)
    with store.read() as transaction:
        assert transaction.items() == []


def test_what_loading_did_is_said(store: Store, tmp_path: Path) -> None:
    rows = [*ROWS, {**ROWS[0], "id": "again"}, {**ROWS[0], "prompt": "same", "response_b": "4"}]
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    text = str(load_file(store, path, ONCE))
    assert text.startswith(
        "2 new, 0 known; 1 left out because all their answers are the same text; 1 left out because they repeat"
    )
    assert "'again'" in text


def test_a_leading_space_does_not_make_another_pair(store: Store, tmp_path: Path) -> None:
    """Readers of preferences remove one leading space of an answer, readers of pairs keep it: the store removes it."""
    preference = {"id": "p", "prompt": "Q?", "chosen": " good", "rejected": " bad"}
    (tmp_path / "preferences.jsonl").write_text(json.dumps(preference) + "\n", encoding="utf-8")
    assert load_file(store, tmp_path / "preferences.jsonl", ONCE, relabel=True).new == 1
    with store.read() as transaction:
        first, second = (answer.text for answer in transaction.responses(1))
    assert {first, second} == {"good", "bad"}
    pair = {"id": "a", "prompt": "Q?", "response_a": f" {first}", "response_b": f" {second}"}
    other = {**pair, "id": "b", "response_a": first}
    for name, answers in {"pair": pair, "other": other, "same": {**pair, "id": "same", "response_b": first}}.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(answers) + "\n", encoding="utf-8")
    assert load_file(store, tmp_path / "pair.jsonl", ONCE).new == 1
    loaded = load_file(store, tmp_path / "other.jsonl", ONCE)
    assert (loaded.new, loaded.first_duplicate) == (0, ("b", "a"))
    assert load_file(store, tmp_path / "same.jsonl", ONCE).identical == 1


def test_pairs_of_the_store_become_gold_and_are_judged_anew(store: Store, tmp_path: Path) -> None:
    """Those that an export names are in the store; which order their answers are drawn in may not matter."""
    rows = [{"id": f"{n}", "prompt": f"Q{n}?", "response_a": "good", "response_b": "bad"} for n in range(20)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = tmp_path / "preferences.jsonl"
    labels = [{"id": f"{n}", "prompt": f"Q{n}?", "chosen": "good", "rejected": "bad"} for n in range(20)]
    path.write_text("".join(json.dumps({**row, "id": row["id"] + end}) + "\n" for row in labels for end in ("", "x")))
    assert load_file(store, tmp_path / "items.jsonl", ONCE).new == 20
    for purpose in ({"relabel": True}, {"gold": True}):
        loaded = load_file(store, path, ONCE, **purpose)
        assert loaded.new >= 20
        assert loaded.new + loaded.duplicates == 40, "a pair twice in the file is one, if drawn in the same order"
        assert load_file(store, path, ONCE, **purpose).new == 0


def test_an_item_stored_with_leading_spaces_is_still_known(store: Store, tmp_path: Path) -> None:
    """Earlier versions kept the spaces, and so another fingerprint."""
    (tmp_path / "items.jsonl").write_text(
        json.dumps({"id": "a", "prompt": "Q?", "response_a": " yes", "response_b": "no"}) + "\n", encoding="utf-8"
    )
    load_file(store, tmp_path / "items.jsonl", ONCE)
    mark = fingerprint([Message(role="user", content="Q?")], [" yes", "no"])
    with store.connection(write=True) as connection:
        connection.exec_driver_sql(f"UPDATE item SET fingerprint = '{mark}'")
    assert load_file(store, tmp_path / "items.jsonl", ONCE).known == 1
