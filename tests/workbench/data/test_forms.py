"""Every form, and the use of each of its columns."""

import json
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from workbench.data.files.row import row_of
from workbench.data.forms.table import ALONE, ANSWERS, PROMPTS, WHOLE, canonical, form_of
from workbench.data.forms.unused import UnusedColumns
from workbench.data.purposes import to_demonstration, to_item, to_labelled_item, to_preferences, to_scored
from workbench.data.readers import (
    read_demonstrations,
    read_items,
    read_preferences,
    read_prompts,
    stream_answers,
)
from workbench.data.records import Demonstration, Item, Preference
from workbench.data.rules import RowRules
from workbench.run.errors import WorkbenchError

DOCS = Path(__file__).parents[3] / "docs/data.md"
ASK, REPLY = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}
HUMAN, GPT = {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}
USER = [("user", "Hi")]
SYSTEM = [("system", "Be kind."), *USER]


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def turns(record: Any) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in record.prompt]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "Hi", "response": "Yes"}, USER),
        ({"Prompt": "Hi", "Response": "Yes"}, USER),
        ({"prompt": "Hi", "completion": "Yes"}, USER),
        ({"prompt": "Hi", "output": "Yes"}, USER),
        ({"prompt": "Hi", "answer": "Yes"}, USER),
        ({"instruction": "Hi", "response": "Yes"}, USER),
        ({"instruction": "Hi", "context": "", "response": "Yes"}, USER),
        ({"instruction": "Hi", "context": "there", "response": "Yes"}, [("user", "Hi\n\nthere")]),
        ({"question": "Hi", "answer": "Yes"}, USER),
        ({"Question": "Hi", "Answer": "Yes"}, USER),
        ({"query": "Hi", "response": "Yes"}, USER),
        ({"input": "Hi", "output": "Yes"}, USER),
        ({"prompt": "Hi", "input": "there", "response": "Yes"}, [("user", "Hi\n\nthere")]),
        ({"system": "Be kind.", "prompt": "Hi", "completion": "Yes"}, SYSTEM),
        ({"System Prompt": "Be kind.", "Prompt": "Hi", "Response": "Yes"}, SYSTEM),
        ({"system": "Be kind.", "question": "Hi", "answer": "Yes"}, SYSTEM),
        ({"system": "Be kind.", "messages": [ASK, REPLY]}, SYSTEM),
        ({"system": "Be kind.", "prompt": [{"role": "system", "content": "Be kind."}, ASK], "response": "Yes"}, SYSTEM),
        ({"conversations": [HUMAN, GPT]}, USER),
        ({"conversations": [{"from": "system", "value": "Be kind."}, HUMAN, GPT]}, SYSTEM),
        ({"messages": [HUMAN, GPT]}, USER),
        ({"conversation": [{"role": "human", "content": "Hi"}, {"role": "bot", "content": "Yes"}]}, USER),
        ({"messages": [{"role": "developer", "content": "Be kind."}, ASK, REPLY]}, SYSTEM),
        ({"messages": [{**ASK, "content": ["Hi"]}, {**REPLY, "content": [{"type": "text", "text": "Yes"}]}]}, USER),
        ({"messages": [ASK, REPLY, {"role": "user", "content": "Thanks"}]}, USER),
        ({"prompt": "Hi", "response": [REPLY]}, USER),
        ({"text": "### Human: Hi### Assistant: Yes"}, USER),
        ({"text": "### Human: Hi ### Assistant: Yes"}, USER),
        ({"prompt": "Human: Hi\n\nAssistant:", "response": "Human: Hi\n\nAssistant: Yes"}, USER),
        ({"prompt": repr([ASK]), "response": "Yes"}, USER),
        ({"conversations": [HUMAN, GPT], "label": True}, USER),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_demonstrations(tmp_path: Path, row: dict[str, Any], prompt: list[tuple[str, str]]) -> None:
    path = jsonl(tmp_path / "d.jsonl", row)
    (record,) = read_demonstrations(path)
    assert (turns(record), record.response) == (prompt, "Yes")
    if row.get("messages", [ASK])[-1] is not ASK and len(row.get("messages", [])) < 3:
        assert turns(read_prompts(path)[0]) == prompt
    assert isinstance(next(iter(stream_answers(path))), Demonstration)


EARLIER = [("user", "q"), ("assistant", "a"), *USER]


@pytest.mark.parametrize(
    "history",
    [
        [["q", "a"]],
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        ["q", "a"],
        "Human: q\n\nAssistant: a",
    ],
)
def test_history_goes_before_the_question(tmp_path: Path, history: Any) -> None:
    row = {"instruction": "Hi", "input": "", "output": "Yes", "history": history}
    assert turns(read_demonstrations(jsonl(tmp_path / "d.jsonl", row))[0]) == EARLIER
    empty = {**row, "history": []}
    assert turns(read_demonstrations(jsonl(tmp_path / "e.jsonl", empty))[0]) == USER
    with pytest.raises(WorkbenchError, match="'history' is"):
        read_demonstrations(jsonl(tmp_path / "f.jsonl", {**row, "history": "said before"}))


NO = {"role": "assistant", "content": "No"}
PAIR = {"chosen": "Yes", "rejected": "No"}
PREFERENCES: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"prompt": "Hi", **PAIR}, USER),
    ({"system": "Be kind.", "prompt": "Hi", **PAIR}, SYSTEM),
    ({"system": "Be kind.", "question": "Hi", **PAIR}, SYSTEM),
    ({"instruction": "Hi", "input": "there", **PAIR}, [("user", "Hi\n\nthere")]),
    ({"instruction": "Hi", "input": "", "output": ["Yes", "No"]}, USER),
    ({"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "No"}}, USER),
    ({"messages": [ASK], **PAIR}, USER),
    ({"input": {"messages": [ASK], "tools": []}, "preferred_output": [REPLY], "non_preferred_output": [NO]}, USER),
    ({"prompt": "Hi", "chosen": [ASK, REPLY], "rejected": [ASK, NO], "messages": [ASK, REPLY]}, USER),
    ({"chosen": "Human: Hi\n\nAssistant: Yes", "rejected": "Human: Hi\n\nAssistant: No"}, USER),
    ({"chosen": "User: Hi\nAI: Yes", "rejected": "User: Hi\nAI: No"}, USER),
    ({"prompt": "Human: Hi\n\nAssistant:", "chosen": "Human: Hi\n\nAssistant: Yes", "rejected": "No"}, USER),
    ({"context": [ASK], "response1": "Yes", "response2": "No", "overall_preference": -1}, USER),
    ({"context": [ASK], "response1": "No", "response2": "Yes", "overall_preference": 1}, USER),
    ({"prompt": "Hi", "response_a": "Yes", "response_b": "No", "winner": "model_a"}, USER),
    ({"prompt": "Hi", "response_a": "No", "response_b": "Yes", "winner": "B"}, USER),
    ({"prompt": "Hi", "model_a": "x", "model_b": "y", "response_a": "No", "response_b": "Yes", "winner": "y"}, USER),
    ({"instruction": "Hi", "input": "", "output_1": "Yes", "output_2": "No", "preference": 1}, USER),
    ({"prompt": "Hi", "response_0": "No", "response_1": "Yes", "better_response_id": 1}, USER),
    ({"question": "Hi", "answer_0": "No", "answer_1": "Yes", "score_0": -1.0, "score_1": 0.5}, USER),
    ({"history": "Hi", "human_ref_A": "No", "human_ref_B": "Yes", "labels": 0, "score_A": 1, "score_B": 5}, USER),
    ({"prompt": "Hi", "response1": "Yes", "response2": "No", "preference.responses": ["response1"]}, USER),
    (
        {"prompt": "Hi", "response1": "No", "response2": "Yes", "preference": [{"value": "response2", "user_id": "u"}]},
        USER,
    ),
    ({"prompt": ["Hi"], "response_a": ["Yes"], "response_b": ["No"], "winner": "left"}, USER),
    ({"conversation_a": [ASK, REPLY], "conversation_b": [ASK, NO], "winner": "model_a"}, USER),
    ({"prompt": "Hi", "answers": [{"answer": "No", "rank": 2}, {"answer": "Yes", "rank": 1}]}, USER),
    ({"instruction": "Hi", "completions": [{"response": "No", "score": 1}, {"response": "Yes", "score": 4}]}, USER),
]


@pytest.mark.parametrize(("row", "prompt"), PREFERENCES, ids=["+".join(row) for row, _ in PREFERENCES])
def test_preferences(tmp_path: Path, row: dict[str, Any], prompt: list[tuple[str, str]]) -> None:
    path = jsonl(tmp_path / "p.jsonl", row)
    (record,) = read_preferences(path)
    assert (turns(record), record.chosen_text, record.rejected_text, record.strength) == (prompt, "Yes", "No", 1)
    assert turns(read_prompts(path)[0]) == prompt
    (scored,) = stream_answers(path)
    assert isinstance(scored, Preference | Item)
    with pytest.raises(WorkbenchError, match="2 answers to one prompt, and only one can be imitated"):
        read_demonstrations(path)


@pytest.mark.parametrize("said", ["tie", "tie (bothbad)", "both_bad"])
def test_ties_stay_ties(tmp_path: Path, said: str) -> None:
    row = {"prompt": "Hi", "response_a": "Yes", "response_b": "No", "winner": said}
    (record,) = read_preferences(jsonl(tmp_path / "p.jsonl", row))
    assert (record.chosen_text, record.strength) == ("Yes", 0)
    row = {"context": [ASK], "response1": "Yes", "response2": "No", "overall_preference": 0}
    assert read_preferences(jsonl(tmp_path / "q.jsonl", row))[0].strength == 0


def test_strength_models_and_annotators_are_kept(tmp_path: Path) -> None:
    row = {"context": [ASK], "response1": "No", "response2": "Yes", "overall_preference": 3}
    assert read_preferences(jsonl(tmp_path / "p.jsonl", row))[0].strength == 3
    row = {
        **{"prompt": '["Hi"]', "response_a": '["No"]', "response_b": '["Yes"]', "model_a": "x", "model_b": "y"},
        **{"winner_model_a": "0", "winner_model_b": "1", "winner_tie": "0"},
    }
    quoted = {name: '"' + value.replace('"', '""') + '"' for name, value in row.items()}
    path = tmp_path / "a.csv"
    path.write_text(",".join(quoted) + "\n" + ",".join(quoted.values()) + "\n")
    (record,) = read_preferences(path)
    assert (record.chosen_text, record.chosen_run, record.rejected_run) == ("Yes", "y", "x")


def test_battles_of_several_turns(tmp_path: Path) -> None:
    row = {"prompt": ["q", "Hi"], "response_a": ["a", "Yes"], "response_b": ["a", "No"], "winner": "model_a"}
    one_turn = {"prompt": ["Hi"], "response_a": ["Yes"], "response_b": ["No"], "winner": "model_b"}
    first, second = read_preferences(jsonl(tmp_path / "p.jsonl", row, one_turn))
    assert turns(first) == EARLIER
    assert (first.chosen_text, second.chosen_text) == ("Yes", "No")
    parted = {**row, "response_b": ["other", "No"]}
    with pytest.raises(WorkbenchError, match="differ before their last answer"):
        read_preferences(jsonl(tmp_path / "q.jsonl", parted))


def test_a_winner_that_names_neither_answer(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "response_a": "Yes", "response_b": "No", "winner": 1}
    with pytest.raises(WorkbenchError, match="'winner' is 1, which names neither answer"):
        read_preferences(jsonl(tmp_path / "p.jsonl", row))


def test_a_list_of_answers_is_not_one_answer(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("prompt,response\nHi,\"['a', 'b']\"\n")
    with pytest.raises(WorkbenchError, match=r"row 1 .*'response' is a list of 2 texts"):
        read_demonstrations(path)


def test_an_empty_judgement_is_not_a_judgement(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,response_a,response_b,winner\nHi,Yes,No,\nHo,Yes,No,a\n")
    assert len(read_items(path)) == 2
    assert len(read_preferences(path, RowRules(bad_rows="skip"))) == 1
    with pytest.raises(WorkbenchError, match="nobody's judgement"):
        read_preferences(path)


def test_a_ranking_makes_all_pairs(tmp_path: Path) -> None:
    answers = [{"answer": str(rank), "rank": rank, "model": f"m{rank}"} for rank in (3, 1, 2)]
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "\n\nHuman: Hi\n\nAssistant: ", "answers": answers})
    records = read_preferences(path)
    assert {(r.chosen_text, r.rejected_text, r.chosen_run) for r in records} == {
        ("1", "3", "m1"),
        ("2", "3", "m2"),
        ("1", "2", "m1"),
    }
    assert {turns(r)[0] for r in records} == set(USER)
    (item,) = read_items(path)
    assert [response.text for response in item.responses] == ["3", "1", "2"]


RATED = [{"prompt": "Hi", "response": text, "helpfulness": n, "verbosity": 1} for n, text in enumerate(("No", "Yes"))]


def test_rated_answers_are_pairs_for_reward_and_refused_for_sft(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = jsonl(tmp_path / "r.jsonl", *RATED, {**RATED[0], "prompt": "Alone"})
    with caplog.at_level(logging.WARNING):
        (record,) = read_preferences(path)
    assert (record.chosen_text, record.rejected_text) == ("Yes", "No")
    assert "left out, since their prompt has no other answer to compare them with: 1 rows" in caplog.text
    assert "left unused: verbosity" in caplog.text
    with pytest.raises(WorkbenchError, match=r"(?s)is rated.*data.ignore=\[helpfulness\]"):
        read_demonstrations(path)
    assert len(read_demonstrations(path, RowRules(ignore=("helpfulness",)))) == 3
    assert [type(record) for record in stream_answers(path)] == [Demonstration] * 3


@pytest.mark.parametrize("label", ["label", "kto_tag"])
@pytest.mark.parametrize(("good", "bad"), [(True, False), (1, 0), ("true", "False"), ("desirable", "undesirable")])
def test_answers_that_are_marked_as_bad_are_never_imitated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, label: str, good: Any, bad: Any
) -> None:
    rows = [{"prompt": "Hi", "completion": "Yes", label: good}, {"prompt": "Hi", "completion": "No", label: bad}]
    path = jsonl(tmp_path / "k.jsonl", *rows)
    with caplog.at_level(logging.WARNING):
        (record,) = read_demonstrations(path)
    assert record.response == "Yes"
    assert "set aside 1 of 2 rows: 1 × marked as a bad answer (line 2)" in caplog.text
    (pair,) = read_preferences(path)
    assert (pair.chosen_text, pair.rejected_text) == ("Yes", "No")
    with pytest.raises(WorkbenchError, match="all 1 rows are set aside"):
        read_demonstrations(jsonl(tmp_path / "b.jsonl", rows[1]))


def test_a_label_that_is_not_a_judgement_has_a_remedy(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "k.jsonl", {"prompt": "Hi", "response": "Yes", "label": "greeting"})
    with pytest.raises(WorkbenchError, match=r"data.ignore=\[label\]"):
        read_demonstrations(path)
    assert len(read_demonstrations(path, RowRules(ignore=("label",)))) == 1


def argilla(*values: Any, version: int = 2) -> dict[str, Any]:
    fields = {"prompt": "Hi", "response1": "Yes", "response2": "No"}
    answers = [{"value": value, "user_id": f"u{n}", "status": "submitted"} for n, value in enumerate(values)]
    if version == 2:
        return {"id": "0", "fields": fields, "responses": {"preference": answers}}
    old = [
        {"user_id": a["user_id"], "status": "submitted", "values": {"preference": {"value": a["value"]}}}
        for a in answers
    ]
    return {"fields": fields, "responses": old}


@pytest.mark.parametrize("version", [1, 2])
def test_argilla(tmp_path: Path, version: int) -> None:
    ranked = [{"value": "response1", "rank": 1}, {"value": "response2", "rank": 2}]
    rows = [argilla(value, version=version) for value in ("response1", ranked)]
    for row in rows:
        (record,) = read_preferences(jsonl(tmp_path / "a.jsonl", row))
        assert (record.chosen_text, record.strength, record.annotators) == ("Yes", 1, ("u0",))
    (record,) = read_preferences(jsonl(tmp_path / "b.jsonl", argilla("response2", "response2", "response1")))
    assert (record.chosen_text, record.agreement, len(record.annotators)) == ("No", pytest.approx(2 / 3), 3)
    (record,) = read_preferences(jsonl(tmp_path / "c.jsonl", argilla("response2", "response1")))
    assert record.strength == 0
    (item,) = read_items(jsonl(tmp_path / "a.jsonl", argilla()))
    assert [response.text for response in item.responses] == ["Yes", "No"]
    with pytest.raises(WorkbenchError, match="nobody's judgement"):
        read_preferences(jsonl(tmp_path / "d.jsonl", argilla()))


def label_studio(selected: str, to_name: str = "answer1,answer2", kind: str = "pairwise") -> dict[str, Any]:
    value = {"selected": selected} if kind == "pairwise" else {"choices": [selected]}
    result = [{"value": value, "from_name": "comparison", "to_name": to_name, "type": kind}]
    annotations = [{"id": 1, "completed_by": 1, "result": result}, {"was_cancelled": True, "result": result}]
    return {"id": 0, "annotations": annotations, "data": {"prompt": "Hi", "answer1": "Yes", "answer2": "No"}}


@pytest.mark.parametrize(
    ("row", "chosen"),
    [
        (label_studio("left"), "Yes"),
        (label_studio("right"), "No"),
        (label_studio("left", "answer2,answer1"), "No"),
        (label_studio("answer2", kind="choices"), "No"),
    ],
)
def test_label_studio(tmp_path: Path, row: dict[str, Any], chosen: str) -> None:
    (tmp_path / "l.json").write_text(json.dumps([row]))
    (record,) = read_preferences(tmp_path / "l.json")
    assert (record.chosen_text, record.strength, record.annotators) == (chosen, 1, ("1",))
    assert turns(read_items(tmp_path / "l.json")[0]) == USER


@pytest.mark.parametrize(
    "row",
    [
        {"id": "1", "displayed_text": "A or B", "label_annotations": {"preference": {"A": "1"}}},
        {"data": {"text": "no answers"}, "annotations": []},
    ],
)
def test_other_exports_are_refused_with_the_way_in(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(WorkbenchError, match=r"(?s)make items .*docs/data.md"):
        read_items(jsonl(tmp_path / "x.jsonl", row))


@pytest.mark.parametrize("name", ["context", "instruction", "document", "tools", "history"])
def test_text_that_would_be_lost_is_an_error(tmp_path: Path, name: str) -> None:
    path = jsonl(tmp_path / "d.jsonl", {"messages": [ASK, REPLY], name: ["more text"]})
    with pytest.raises(WorkbenchError, match=rf"(?s)column '{name}' holds text.*data.ignore=\[{name}\]"):
        read_demonstrations(path, RowRules(bad_rows="skip"))
    assert len(read_demonstrations(path, RowRules(ignore=(name.title(),)))) == 1
    blank = jsonl(tmp_path / "b.jsonl", {"messages": [ASK, REPLY], name: ""})
    assert len(read_demonstrations(blank)) == 1


def test_a_column_that_repeats_the_text_is_not_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = {"prompt": "Hi", "messages": [ASK, REPLY]}
    with caplog.at_level(logging.WARNING):
        assert len(read_demonstrations(jsonl(tmp_path / "d.jsonl", row))) == 1
    assert not caplog.records
    with pytest.raises(WorkbenchError, match="column 'prompt' holds text"):
        read_demonstrations(jsonl(tmp_path / "e.jsonl", {**row, "prompt": "Something else"}))


def test_a_null_is_an_empty_cell_in_the_first_row_too(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "chosen": "Yes", "rejected": None, "note": None}, {"prompt": "Ho", **PAIR}]
    assert [record.rejected_text for record in read_preferences(jsonl(tmp_path / "p.jsonl", *rows))] == ["", "No"]
    empty = {"prompt": "Hi", "response": None}
    path = jsonl(tmp_path / "d.jsonl", empty, *[{"prompt": f"q {n}", "response": "Yes"} for n in range(99)])
    rules = RowRules()
    assert len(read_demonstrations(path, rules)) == 99
    assert rules.left_out[0]["problem"] == "'response' is empty"


def test_marks_in_an_answer_do_not_count_for_its_prompt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = jsonl(tmp_path / "p.jsonl", {"chosen": "Human: Hi\nAssistant: Yes", "rejected": "Human: Hi\nAssistant: No"})
    with caplog.at_level(logging.WARNING):
        assert turns(read_prompts(path)[0]) == USER
    assert not caplog.records


def test_other_columns_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"prompt": f"q {n}", "response": "Yes", "source": "web", "tokens": 3} for n in range(5)]
    path = jsonl(tmp_path / "d.jsonl", *rows)
    with caplog.at_level(logging.WARNING):
        read_demonstrations(path, RowRules(ignore=("tokens", "nowhere")))
        read_demonstrations(path, RowRules(ignore=("tokens", "nowhere")))
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: left unused: source",
        f"{path}: data.ignore names columns that no row has: nowhere",
    ]


def test_keys_of_messages_are_named_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read_demonstrations(jsonl(tmp_path / "d.jsonl", {"messages": [{**ASK, "name": "Ann"}, REPLY]}))
    assert "left unused: messages[].name" in caplog.text


def test_one_answer_with_a_winner_column_is_not_imitated(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "response": "Yes", "winner": "model_b"}
    with pytest.raises(WorkbenchError, match="column 'winner' judges answers"):
        read_demonstrations(jsonl(tmp_path / "d.jsonl", row))


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        ({"role": "tool", "content": "42"}, "is from 'tool'"),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, "has 'tool_calls'"),
        ({"role": "assistant", "content": "", "function_call": {"name": "f"}}, "has 'function_call'"),
        ({"from": "observation", "value": "42"}, "is from 'observation'"),
    ],
)
def test_tools_are_refused_by_name(tmp_path: Path, turn: dict[str, Any], why: str) -> None:
    path = jsonl(tmp_path / "d.jsonl", {"messages": [ASK, turn, REPLY]}, {"messages": [ASK, REPLY]})
    with pytest.raises(WorkbenchError, match=rf"a conversation with tools: 'messages\[1\]' {why}"):
        read_demonstrations(path)
    assert len(read_demonstrations(path, RowRules(bad_rows="skip"))) == 1


def test_a_part_that_is_not_text_names_its_place(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(WorkbenchError, match=r"'messages\[0\].content\[1\]' is 'image_url'"):
        read_demonstrations(jsonl(tmp_path / "d.jsonl", {"messages": [{**ASK, "content": parts}, REPLY]}))


def test_changes_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"messages": [ASK, REPLY, {"role": "user", "content": "Thanks"}]},
        {"messages": [ASK, REPLY, {"role": "assistant", "content": "indeed"}]},
        {"messages": [{"role": "user", "content": "Human: hello"}, REPLY]},
    ]
    with caplog.at_level(logging.WARNING):
        first, second, _ = read_demonstrations(jsonl(tmp_path / "d.jsonl", *rows))
    assert (first.response, second.response) == ("Yes", "Yes\n\nindeed")
    assert "in 1 of 3 rows the conversation was cut at its last answer" in caplog.text
    assert "in 1 of 3 rows consecutive answers were joined (line 2)" in caplog.text
    assert "in 1 of 3 rows a mark of a speaker is left in the text (line 3)" in caplog.text


def test_answers_that_repeat_a_long_prompt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = "What is the capital of France?"
    long = {"prompt": asked, "chosen": f"{asked}\nParis", "rejected": f"{asked}\nRome"}
    short = {"prompt": "Hi", "chosen": "Hi there", "rejected": "Hi you"}
    with caplog.at_level(logging.WARNING):
        first, second = read_preferences(jsonl(tmp_path / "p.jsonl", long, short))
    assert (first.chosen_text, first.rejected_text) == ("Paris", "Rome")
    assert (second.chosen_text, second.rejected_text) == ("Hi there", "Hi you")
    assert "in 1 of 2 rows the answer repeated the prompt, which was removed (line 1)" in caplog.text
    assert "in 1 of 2 rows the answer begins with the prompt (line 2)" in caplog.text


def test_a_transcript_of_another_conversation_is_not_an_answer(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "response": "\n\nHuman: Bye\n\nAssistant: Yes"}
    with pytest.raises(WorkbenchError, match="a transcript of a conversation other than the prompt"):
        read_demonstrations(jsonl(tmp_path / "d.jsonl", row))


@pytest.mark.parametrize(
    ("read", "rows"),
    [
        (read_demonstrations, [{"id": 1, "prompt": f"q {n}", "response": "Yes"} for n in range(2)]),
        (read_preferences, [{"id": "x", "prompt": "Hi", "chosen": f"{n}", "rejected": "No"} for n in range(2)]),
        (read_prompts, [{"id": "x", "prompt": f"q {n}"} for n in range(2)]),
    ],
)
def test_ids_with_other_content_are_an_error(tmp_path: Path, read: Any, rows: list[dict[str, Any]]) -> None:
    path = jsonl(tmp_path / "d.jsonl", *rows)
    with pytest.raises(WorkbenchError, match=r"line 2: another record has the id .*line 1"):
        read(path)
    assert len(read(path, RowRules(ignore=("id",)))) == 2


def test_several_answers_to_one_prompt_may_share_its_id(tmp_path: Path) -> None:
    rows = [{"id": "q", "prompt": "Hi", "response": text} for text in ("Yes", "No")]
    assert len(read_demonstrations(jsonl(tmp_path / "d.jsonl", *rows))) == 2


def test_a_rename_is_suggested_only_if_it_works(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError) as caught:
        read_demonstrations(jsonl(tmp_path / "d.jsonl", {"prompt": "Hi", "reply": "Yes"}))
    assert "did you mean" not in str(caught.value)
    assert "add 'response'" in str(caught.value)
    with pytest.raises(WorkbenchError, match="rename 'reponse' to 'response'"):
        read_demonstrations(jsonl(tmp_path / "e.jsonl", {"prompt": "Hi", "reponse": "Yes"}))


def test_a_pair_is_not_taken_for_items(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"(?s)judged already.*--relabel"):
        read_items(jsonl(tmp_path / "p.jsonl", {"prompt": "Hi", **PAIR}))


ODD: tuple[Any, ...] = (3, True, "x", "", [], [1], ["a", "b"], [[]], {}, [{}], {"a": 1}, [None], [{"role": "user"}])
POTATO = {"instance_id": "i1", "user_id": "ann", "labels": {"preference": {"selection": "A"}}}


def open_webui(rating: object, *answers: str) -> dict[str, Any]:
    """A thumb for the first of the answers to "Hi"."""
    names = [f"a{number}" for number in range(len(answers))]
    question = {"id": "q", "parentId": None, "childrenIds": names, "role": "user", "content": "Hi"}
    messages = {"q": question} | {
        name: {"id": name, "parentId": "q", "childrenIds": [], "role": "assistant", "content": text, "model": name}
        for name, text in zip(names, answers, strict=True)
    }
    return {
        "id": "f",
        "user_id": "u1",
        "data": {"rating": rating, "comment": ""},
        "meta": {"message_id": "a0"},
        "snapshot": {"chat": {"chat": {"params": {"system": "S"}, "history": {"messages": messages}}}},
    }


def test_open_webui(tmp_path: Path) -> None:
    for rating, chosen in ((1, "Yes"), ("-1", "No")):
        (record,) = read_preferences(jsonl(tmp_path / "p.jsonl", open_webui(rating, "Yes", "No")))
        assert (record.chosen_text, record.annotators) == (chosen, ("u1",))
        assert turns(record) == [("system", "S"), ("user", "Hi")]
    rows = [open_webui(1, "Yes"), {**open_webui(-1, "No"), "id": "g"}]
    (record,) = read_preferences(jsonl(tmp_path / "two.jsonl", *rows))
    assert (record.chosen_text, record.rejected_text) == ("Yes", "No")
    (demonstration,) = read_demonstrations(jsonl(tmp_path / "d.jsonl", *rows))
    assert demonstration.response == "Yes"
    with pytest.raises(WorkbenchError, match="nobody's judgement"):
        read_preferences(jsonl(tmp_path / "three.jsonl", open_webui(1, "Yes", "No", "Maybe")))


@pytest.mark.parametrize("read", [read_preferences, read_demonstrations, read_prompts, read_items])
def test_potatos_judgements_are_for_labelling_alone(tmp_path: Path, read: Callable[..., object]) -> None:
    with pytest.raises(WorkbenchError, match=r"(?s)judgement.*(--labels-by NAME|docs/data.md)"):
        read(jsonl(tmp_path / "p.jsonl", POTATO))


SHAPES = [
    open_webui(1, "Yes", "No"),
    POTATO,
    {"instance_id": "i1", "user_id": "ann", "preference.selection": "B"},
    *(row for row, _ in PREFERENCES),
    argilla("response1"),
    argilla("response1", version=1),
    label_studio("left"),
    {"instruction": "Hi", "input": "x", "history": [["q", "a"]], "system": "S", "output": "Yes", "label": True},
    {"messages": [ASK, REPLY], "label": True, "system": "S"},
    {"text": "Human: Hi\nAssistant: Yes"},
    {"prompt": [ASK], "responses": [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}], "id": "i", "group": "g"},
    {"prompt": [ASK], "chosen": [REPLY], "rejected": [NO], "group": "g", "id": "i"},
]


def _odd_variants(value: Any) -> list[Any]:
    """A value with each of its parts replaced by something odd."""
    variants = list(ODD)
    if isinstance(value, dict):
        variants += [{**value, key: odd} for key, part in value.items() for odd in _odd_variants(part)]
    if isinstance(value, list):
        variants += [[*value[:n], odd, *value[n + 1 :]] for n, part in enumerate(value) for odd in _odd_variants(part)]
    return variants


@pytest.mark.parametrize("shape", SHAPES, ids=["+".join(row) for row in SHAPES])
def test_odd_values_are_read_or_refused_and_never_crash(shape: dict[str, Any]) -> None:
    formed = 0
    for variant in [shape, *_odd_variants(shape)]:
        row = canonical(row_of("here", variant), frozenset())
        form = form_of(row)
        if form is None or form.example is None:
            continue
        formed += 1
        with suppress(WorkbenchError):
            form.prompt(row)
        with suppress(WorkbenchError):
            example = form.example(row)
            for make in (to_demonstration, to_scored, to_item, to_labelled_item, to_preferences):
                with suppress(WorkbenchError):
                    make(row, example)
            UnusedColumns().see(row, form, example.responses, imitated=True)
    assert formed


def test_values_that_nest_deeply_are_a_bad_row(tmp_path: Path) -> None:
    nested: Any = "x"
    for _ in range(700):
        nested = [nested]
    path = jsonl(tmp_path / "d.jsonl", {"prompt": "Hi", "response": "Yes", "messages": nested})
    with pytest.raises(WorkbenchError, match=r"nested too deeply|holds text"):
        read_demonstrations(path)


def test_every_form_has_a_row_in_the_documentation() -> None:
    text = DOCS.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row.split("|")[1])}
    columns = {name for part in (*PROMPTS, *ANSWERS, *WHOLE, *ALONE) for name in part.needs}
    assert columns <= named


def test_the_id_of_a_prompt_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Our own prompts, as the embedded default writes them."""
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "p1", "prompt": [{"role": "user", "content": "Who?"}]}\n', encoding="utf-8")
    assert [record.id for record in read_prompts(path)] == ["p1"]
    assert "left unused" not in caplog.text
