"""Judgements that came with users' files: read from every product's form, stored, counted apart or as people's."""

import json
from pathlib import Path
from typing import Any

import pytest

from annotate.config import ExportSection, QueueSection
from annotate.intake.labels import Origin
from annotate.intake.load import load_file
from annotate.labels.export import preferences
from annotate.labels.status import render, status
from annotate.people.accounts import add_account
from annotate.queue.rules import Card, Queue
from annotate.store.database import Store
from annotate.store.statements import Annotator
from workbench.data.rules import RowRules
from workbench.run.errors import WorkbenchError

ONCE = QueueSection(overlap=1, overlap_share=0)
RANKED = ONCE.model_copy(update={"compare": "ranking"})
QUESTION, GOOD, BAD = "Name a prime above 7.", "11 is prime.", "9 is prime."


def turns(answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer}]


def parts(answer: str) -> list[dict[str, Any]]:
    """The same as the arena writes it since 2025: contents are lists of parts."""
    return [
        {"role": turn["role"], "content": [{"type": "text", "text": turn["content"], "image": None, "mimeType": None}]}
        for turn in turns(answer)
    ]


def argilla(*answers: tuple[Any, str]) -> dict[str, Any]:
    given = [{"value": value, "user_id": who, "status": "submitted"} for value, who in answers]
    fields = {"prompt": QUESTION, "response1": GOOD, "response2": BAD}
    return {"id": "r1", "status": "completed", "fields": fields, "responses": {"preference": given}}


def label_studio(*selected: str) -> dict[str, Any]:
    annotations = [
        {
            "id": number,
            "completed_by": {"id": number, "email": f"person{number}@example.org"},
            "was_cancelled": False,
            "result": [
                {
                    "from_name": "pw",
                    "to_name": "answer1,answer2",
                    "type": "pairwise",
                    "value": {"selected": side},
                }
            ],
        }
        for number, side in enumerate(selected)
    ]
    return {"id": 3, "data": {"prompt": QUESTION, "answer1": GOOD, "answer2": BAD}, "annotations": annotations}


def open_webui(rating: int, *, siblings: int = 1) -> dict[str, Any]:
    others = [BAD, "13 is prime.", "17 is prime."][:siblings]
    messages: dict[str, Any] = {
        "q": {"id": "q", "parentId": None, "childrenIds": ["a0"], "role": "user", "content": QUESTION},
        "a0": {"id": "a0", "parentId": "q", "childrenIds": [], "role": "assistant", "content": GOOD, "model": "m0"},
    }
    for number, text in enumerate(others, 1):
        messages["q"]["childrenIds"].append(f"a{number}")
        messages[f"a{number}"] = {**messages["a0"], "id": f"a{number}", "content": text, "model": f"m{number}"}
    return {
        "id": "f1",
        "user_id": "7d9f2c1e-0000",
        "version": 0,
        "type": "rating",
        "data": {"rating": rating, "model_id": "m0", "sibling_model_ids": ["m1"], "comment": "clear", "tags": []},
        "meta": {"arena": True, "chat_id": "c", "message_id": "a0", "message_index": 1},
        "snapshot": {"chat": {"id": "c", "title": "Primes", "chat": {"history": {"messages": messages}}}},
        "created_at": 1_760_000_000,
        "updated_at": 1_760_000_000,
    }


def helpsteer(*ratings: int) -> list[dict[str, Any]]:
    """HelpSteer 1 and 2: a row per answer."""
    texts = [GOOD, BAD, "13 is prime."]
    return [
        {"prompt": QUESTION, "response": text, "helpfulness": rating, "correctness": 3, "coherence": 4}
        for text, rating in zip(texts, ratings, strict=False)
    ]


PAIR = {"prompt": QUESTION, "response_1": GOOD, "response_2": BAD}
BATTLE = {"model_a": "m0", "model_b": "m1", "conversation_a": turns(GOOD), "conversation_b": turns(BAD)}
FORMS: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str, int | None]]]] = {
    "argilla": (
        [argilla(("response1", "u1"), ("response2", "u2"))],
        [("in.u1", "compared", -1), ("in.u2", "compared", 1)],
    ),
    "argilla ranking": (
        [argilla(([{"value": "response1", "rank": 2}, {"value": "response2", "rank": 1}], "u1"))],
        [("in.u1", "compared", 1)],
    ),
    "label studio": (
        [label_studio("left", "right")],
        [("in.person0@example.org", "compared", -1), ("in.person1@example.org", "compared", 1)],
    ),
    "arena 33k": (
        [{**BATTLE, "question_id": "1", "winner": "tie (bothbad)", "judge": "arena_user_9", "turn": 1}],
        [("in.arena_user_9", "both_bad", None)],
    ),
    "arena 55k": (
        [
            {
                **{"id": 1, "model_a": "m0", "model_b": "m1", "prompt": [QUESTION]},
                **{"response_a": [GOOD], "response_b": [BAD]},
                **{"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
            }
        ],
        [("in", "compared", -1)],
    ),
    "arena 140k": (
        [{**BATTLE, "conversation_a": parts(GOOD), "conversation_b": parts(BAD), "winner": "both_bad"}],
        [("in", "both_bad", None)],
    ),
    "helpsteer 2": (helpsteer(1, 4), [("in", "compared", 1)]),
    "helpsteer 2 preference": ([{**PAIR, "preference_strength": 2}], [("in", "compared", 2)]),
    "helpsteer 3": (
        [
            {
                "domain": "general",
                "context": turns(GOOD)[:1],
                "response1": GOOD,
                "response2": BAD,
                "overall_preference": -3,
            }
        ],
        [("in", "compared", -3)],
    ),
    "open webui": ([open_webui(1)], [("in.7d9f2c1e-0000", "compared", -1)]),
    "open webui, thumb down": ([open_webui(-1)], [("in.7d9f2c1e-0000", "compared", 1)]),
    "table with annotators": (
        [
            {**PAIR, "winner": "response_1", "annotator": "eva"},
            {**PAIR, "winner": "tie", "annotator": "jan"},
        ],
        [("in.eva", "compared", -1), ("in.jan", "compared", 0)],
    ),
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def stored(store: Store) -> list[tuple[str, str, int | None]]:
    with store.read() as transaction:
        found = transaction.current_judgements()
        return [(judgement.annotator, judgement.choice, judgement.strength) for judgement in found]


@pytest.mark.parametrize("name", FORMS)
def test_items_and_judgements_of_every_product(store: Store, tmp_path: Path, name: str) -> None:
    rows, judgements = FORMS[name]
    path = write(tmp_path / "export.jsonl", rows)
    loaded = load_file(store, path, ONCE, labels_from=Origin("in"))
    assert (loaded.new, loaded.labels and loaded.labels.new) == (1, len(judgements))
    assert stored(store) == judgements
    with store.read() as transaction:
        (item,) = transaction.items()
        assert json.loads(item.prompt) == turns(GOOD)[:1]
        assert [answer.text for answer in transaction.responses(item.id)] == [GOOD, BAD]
    again = load_file(store, path, ONCE, labels_from=Origin("in"))
    assert (again.new, again.labels and (again.labels.new, again.labels.known)) == (0, (0, len(judgements)))


@pytest.mark.parametrize("name", FORMS)
def test_without_the_option_items_alone_are_loaded(store: Store, tmp_path: Path, name: str) -> None:
    loaded = load_file(store, write(tmp_path / "export.jsonl", FORMS[name][0]), ONCE)
    assert (loaded.new, loaded.labels, stored(store)) == (1, None, [])


ULTRAFEEDBACK = {
    "instruction": QUESTION,
    "completions": [
        {"model": f"m{n}", "response": text, "overall_score": score}
        for n, (text, score) in enumerate([(GOOD, 9.0), (BAD, 2.0), ("13 is prime.", 9.0)])
    ],
}
NECTAR = {
    "prompt": f"\n\nHuman: {QUESTION}\n\nAssistant: ",
    "answers": [
        {"answer": text, "model": f"m{n}", "rank": rank}
        for n, (text, rank) in enumerate([(GOOD, 1.0), (BAD, 3.0), ("13 is prime.", 2.0)])
    ],
    "num_responses": 3,
}


@pytest.mark.parametrize(
    ("row", "ranking", "pairs"),
    [(ULTRAFEEDBACK, [1, 3, 1], [-1, 0, 1]), (NECTAR, [1, 3, 2], [-1, -1, 1])],
    ids=["ultrafeedback", "nectar"],
)
def test_rankings_are_stored_whole_or_by_pair(
    store: Store, tmp_path: Path, row: dict[str, Any], ranking: list[int], pairs: list[int]
) -> None:
    path = write(tmp_path / "ranked.jsonl", [row])
    load_file(store, path, RANKED, labels_from=Origin("judge"))
    with store.read() as transaction:
        (judgement,) = transaction.current_judgements()
    assert (judgement.choice, json.loads(judgement.ranking or "")) == ("ranked", ranking)
    load_file(store, path, ONCE, labels_from=Origin("judge"))
    assert [strength for _, choice, strength in stored(store) if choice == "compared"] == pairs


def test_a_preference_file_does_not_show_what_was_preferred(store: Store, tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{n}?", "chosen": "good", "rejected": "bad"} for n in range(40)]
    load_file(store, write(tmp_path / "p.jsonl", rows), ONCE, labels_from=Origin("team"))
    with store.read() as transaction:
        answers = transaction.all_responses()
        for judgement in transaction.current_judgements():
            assert judgement.strength is not None
            assert answers[judgement.item][judgement.strength > 0].text == "good"
    assert 8 <= sum(responses[0].text == "good" for responses in answers.values()) <= 32


def test_potato_judges_items_of_its_own_data_file(store: Store, tmp_path: Path) -> None:
    items = [{"id": f"p{n}", "prompt": QUESTION, "responses": [GOOD, f"{n}"]} for n in range(3)]
    judged = [
        {"instance_id": "p0", "user_id": "ann", "labels": {"preference": {"selection": "A"}}, "spans": {}, "links": {}},
        {"instance_id": "p1", "user_id": "ann", "labels": {"scale": {"scale_value": "-2"}}, "spans": {}, "links": {}},
        {"instance_id": "p2", "user_id": "bea", "labels": {"preference": {"selection": "tie"}}, "spans": {}},
        {"instance_id": "gone", "user_id": "bea", "labels": {"preference": {"selection": "B"}}, "spans": {}},
    ]
    path = write(tmp_path / "annotations.jsonl", judged)
    with pytest.raises(WorkbenchError, match=r"(?s)not in the store, such as 'p0'.*load the file with their texts"):
        load_file(store, path, ONCE, labels_from=Origin("potato"))
    load_file(store, write(tmp_path / "items.jsonl", items), ONCE)
    loaded = load_file(store, path, ONCE, labels_from=Origin("potato"))
    assert str(loaded).endswith("3 judgements imported, 1 of items that are not in the store")
    expected = [("potato.ann", "compared", -1), ("potato.ann", "compared", -2), ("potato.bea", "compared", 0)]
    assert stored(store) == expected
    table = tmp_path / "annotations.csv"
    table.write_text("instance_id,user_id,preference.selection\np0,cid,B\n", encoding="utf-8")
    load_file(store, table, ONCE, labels_from=Origin("potato"))
    assert ("potato.cid", "compared", 1) in stored(store)


POTATO = {"instance_id": "p", "user_id": "u", "labels": {"preference": {"selection": "A"}}}
JUDGED = {**PAIR, "preference_strength": 1}
RATED = helpsteer(1)[0]
ARGILLA, STUDIO, THUMB = argilla(("response1", "u1")), label_studio("left"), open_webui(1)
ARENA = {**BATTLE, "winner": "model_a"}


@pytest.mark.parametrize(
    ("first", "change", "problem"),
    [
        (ARGILLA, argilla(("response3", "u1")), "'responses' is 'response3', which names neither answer"),
        (ARGILLA, {"fields": {"prompt": QUESTION}}, "no two answers among the fields"),
        (ARGILLA, {"responses": {"preference": "response1"}}, "'preference' is 'response1'"),
        (STUDIO, {"annotations": 3}, "'annotations' is 3"),
        (STUDIO, label_studio("middle"), "'selected' is 'middle', which names neither answer"),
        (STUDIO, {"data": {"answer1": GOOD, "answer2": BAD}}, "no prompt among the fields of the task"),
        (ARENA, {"winner": "model_c"}, "'winner' is 'model_c', which names neither answer"),
        (ARENA, {"conversation_b": None}, "field 'conversation_b' is missing"),
        (ARENA, {"conversation_b": BAD}, "'conversation_b' is text"),
        (THUMB, {"meta": {"message_id": "zz"}}, "'meta.message_id' is 'zz'"),
        (THUMB, {"snapshot": {"chat": {}}}, "'snapshot' holds no messages"),
        (THUMB, {"data": {"rating": "up"}}, "'data.rating' is 'up'"),
        (JUDGED, {"preference_strength": "much"}, "'preference_strength' is 'much'"),
        (JUDGED, {"response_2": None}, "field 'response_2' is missing"),
        (RATED, {"helpfulness": "high"}, "'helpfulness' is 'high'"),
        (RATED, {"response": 7}, "'response' is a number"),
        (ULTRAFEEDBACK, {"completions": [GOOD, 3]}, "'completions' is ["),
        (NECTAR, {"prompt": None}, "field 'prompt' is missing"),
        (POTATO, {"labels": {"preference": {"selection": "C"}}}, "'preference.selection' is 'C'"),
        (POTATO, {"labels": {"scale": {"scale_value": "far"}}}, "'scale.scale_value' is 'far'"),
        (POTATO, {"labels": {}}, "no answer to a pairwise question"),
        (POTATO, {"labels": {"x": {"selection": "A"}, "y": {"selection": "B"}}}, "several pairwise questions"),
    ],
)
def test_wrong_siblings_are_named_by_their_line(
    store: Store, tmp_path: Path, first: dict[str, Any], change: dict[str, Any], problem: str
) -> None:
    row = {name: value for name, value in {**first, **change}.items() if value is not None}
    path = write(tmp_path / "x.jsonl", [first, row])
    with pytest.raises(WorkbenchError) as caught:
        load_file(store, path, ONCE, labels_from=Origin("in"))
    assert f"line 2: {problem}" in str(caught.value)
    assert caught.value.expected
    assert stored(store) == []


def test_imported_judgements_are_apart_unless_asked(either_store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [argilla(("response1", "u1"), ("response2", "u2"), ("response1", "u3"))])
    load_file(either_store, path, ONCE, labels_from=Origin("old"))
    found = status(either_store)
    assert "Simulated annotators and imported judgements: 1 of 1" in render(either_store)
    assert (found["people"]["judgements"], found["simulated"]["judgements"]) == (0, 1)
    assert len(preferences(either_store, ExportSection(who="people")).preferences) == 0
    (record,) = preferences(either_store, ExportSection()).preferences
    assert (record.chosen_text, record.annotators) == (GOOD, ("old.u1", "old.u2", "old.u3"))
    add_account(either_store, "ann", "annotator", "a long password")
    with either_store.read() as transaction:
        ann = transaction.annotator("ann")
        (item,) = transaction.items()
    assert isinstance(ann, Annotator)
    assert isinstance(Queue(either_store, ONCE).next(ann), Card)  # it still waits for a person
    load_file(either_store, path, ONCE, labels_from=Origin("team", as_people=True))
    with either_store.read() as transaction:
        counted = transaction.item(item.id, simulated=False)
        assert counted is not None
        assert (counted.done, counted.overlap) == (1, 1)  # the others are surplus
    assert status(either_store)["people"]["judgements"] == 1


def test_names_of_people_here_are_not_taken(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", FORMS["helpsteer 2"][0])
    add_account(store, "Ann", "annotator", "a long password")
    for name, problem in (("ann", "'Ann' labels here"), ("a b", "'a b' cannot be a name")):
        with pytest.raises(WorkbenchError, match=problem):
            load_file(store, path, ONCE, labels_from=Origin(name))
    load_file(store, path, ONCE, labels_from=Origin("in"))
    other = write(tmp_path / "y.jsonl", [{**PAIR, "prompt": "Another?", "preference_strength": 1}])
    with pytest.raises(WorkbenchError, match="the same choice of --as-people"):
        load_file(store, other, ONCE, labels_from=Origin("in", as_people=True))
    unjudged = write(tmp_path / "z.jsonl", [PAIR])
    with pytest.raises(WorkbenchError, match="holds no judgements"):
        load_file(store, unjudged, ONCE, labels_from=Origin("in"))


def test_a_thumb_without_a_second_answer_is_left_out_and_counted(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone = {**open_webui(1, siblings=0), "id": "f2"}
    alone["snapshot"]["chat"]["chat"]["history"]["messages"]["q"]["content"] = "Another?"
    several = {**open_webui(1, siblings=3), "id": "f3"}
    path = write(tmp_path / "x.jsonl", [open_webui(1), alone, several])
    loaded = load_file(store, path, RANKED, labels_from=Origin("chat"))
    assert (loaded.new, loaded.labels and loaded.labels.new) == (2, 1)
    assert "no other answer to compare them with: 1 rows" in caplog.text
    assert "in 1 of 3 rows a thumb for one of several answers" in caplog.text


def test_bad_rows_are_left_out_by_the_policy(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "x.jsonl", [argilla(("response1", "u")), {**argilla(("response9", "u")), "id": "r2"}])
    with pytest.raises(WorkbenchError, match="line 2"):
        load_file(store, path, ONCE, labels_from=Origin("in"))
    loaded = load_file(store, path, ONCE, RowRules(bad_rows="skip"), labels_from=Origin("in"))
    assert loaded.new == 1
    assert "left out 1 of 2 rows" in caplog.text


def test_columns_under_other_names(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"Frage,first,second\n{QUESTION},{GOOD},{BAD}\n", encoding="utf-8")
    with pytest.raises(WorkbenchError, match=r"(?s)prompt, response_a, response_b.*--map"):
        load_file(store, path, ONCE)
    renames = (("Frage", "prompt"), ("first", "response_a"), ("second", "response_b"))
    assert load_file(store, path, ONCE, RowRules(rename=renames)).new == 1
    with pytest.raises(WorkbenchError, match="no row has the column 'question', which --map renames"):
        load_file(store, path, ONCE, RowRules(rename=(*renames, ("question", "context"))))
    both = tmp_path / "y.csv"
    both.write_text("prompt,question,response_a,response_b\na,b,c,d\n", encoding="utf-8")
    with pytest.raises(WorkbenchError, match="has both 'question' and 'prompt'"):
        load_file(store, both, ONCE, RowRules(rename=(("question", "prompt"),)))


def test_empty_cells_are_reported(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.csv"
    path.write_text("prompt,response_a,response_b\nQ?,yes,no\nR?,yes,\n", encoding="utf-8")
    assert load_file(store, path, ONCE).new == 2
    assert "in 1 of 2 rows an answer is empty (row 2 (line 3))" in caplog.text


def test_an_item_with_other_texts_is_named_by_its_line(store: Store, tmp_path: Path) -> None:
    load_file(store, write(tmp_path / "x.jsonl", [{"id": "i1", **PAIR}]), ONCE)
    other = write(tmp_path / "y.jsonl", [{"id": "i0", **PAIR, "prompt": "R?"}, {"id": "i1", **PAIR, "prompt": "S?"}])
    with pytest.raises(WorkbenchError, match=r"y\.jsonl, line 2: item 'i1' has other texts"):
        load_file(store, other, ONCE)
