"""Real users' files next to the project: the records of each, or the reason why it is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.data.readers import read_demonstrations, read_items, read_preferences, read_prompts
from workbench.run.errors import WorkbenchError

CASES = (Path(__file__).parents[3] / "../shared/cases").resolve()
FORMS, FOUND = CASES / "forms", CASES / "found"
Turns = list[tuple[str, str]]

DEMONSTRATIONS: dict[str, tuple[int, Turns, str]] = {
    "forms/alpaca_history.jsonl": (
        30,
        [("user", "Remember 0"), ("assistant", "ok 0"), ("user", "And doubled, 0?")],
        "0",
    ),
    "forms/caps.csv": (30, [("user", "q 0")], "a 0"),
    "forms/dolly.jsonl": (30, [("user", "q 0\n\nc")], "a 0"),
    "forms/kto.jsonl": (15, [("user", "q 0")], "a 0"),
    "forms/messages_1of30_endsuser.jsonl": (300, [("user", "q 0")], "a 0"),
    "forms/messages_aa.jsonl": (30, [("user", "q 0")], "a 0\n\nand also"),
    "forms/messages_developer.jsonl": (30, [("system", "be brief"), ("user", "q 0")], "a 0"),
    "forms/messages_parts.jsonl": (30, [("user", "q 0")], "a 0"),
    "forms/prompt_input_response.jsonl": (30, [("user", "Summarise\n\ntext 0")], "a 0"),
    "forms/qa.jsonl": (30, [("user", "q 0")], "a 0"),
    "forms/sft_concat_pretty.json": (30, [("user", "Say number 0")], "number 0"),
    "forms/sft_gz.jsonl.gz": (30, [("user", "Say number 0")], "number 0"),
    "forms/sft_semicolon.csv": (30, [("user", "Say number 0")], "number 0"),
    "forms/sft_utf16.jsonl": (30, [("user", "Say number 0")], "number 0"),
    "forms/sft_wrapped.json": (30, [("user", "Say number 0")], "number 0"),
    "forms/sharegpt.json": (30, [("user", "q 0")], "a 0"),
    "forms/system_pc.jsonl": (30, [("system", "You only speak French."), ("user", "q 0")], "a 0"),
    "found/csv-repr-prompt/data.csv": (30, [("user", "q 0")], "a 0"),
    "found/kto-text/data.jsonl": (15, [("user", "q 0")], "a 0"),
    "found/messages-content-parts/data.jsonl": (30, [("user", "q 0")], "a 0"),
    "found/null-answer-parquet/data.parquet": (299, [("user", "q 0")], "a 0"),
    "found/remedy-instruction-response/data.jsonl": (30, [("user", "q 0")], "a 0"),
    "found/sharegpt-sft/data.json": (30, [("user", "q 0")], "a 0"),
    "found/utf16-jsonl/data.jsonl": (30, [("user", "Say number 0")], "number 0"),
}
PREFERENCES: dict[str, tuple[Turns, str, str, float]] = {
    "forms/arena.csv": ([("user", "q 0")], "a 0", "b 0", 1),
    "forms/argilla.jsonl": ([("user", "q 0")], "a", "b", 1),
    "forms/helpsteer3.jsonl": ([("user", "q 0")], "a 0", "b 0", 2),
    "forms/hh_dahoas_strip.jsonl": ([("user", "q 0")], "a 0", "b 0", 1),
    "forms/hh_stripped.jsonl": ([("user", "q 0")], "a 0", "b 0", 1),
    "forms/labelstudio.json": ([("user", "q 0")], "a", "b", 1),
    "forms/lf_dpo.json": ([("user", "q 0\n\nctx")], "a 0", "b 0", 1),
    "forms/openai_dpo.jsonl": ([("user", "q 0")], "a 0", "b 0", 1),
    "forms/orca_dpo.jsonl": ([("system", "You are an assistant."), ("user", "q 0")], "a 0", "b 0", 1),
    "forms/pairs_prompt_dup.jsonl": ([("user", "q 0")], "a 0", "b 0", 1),
    "forms/pandas_pairs.csv": ([("user", "q 0")], "a 0", "b 0", 1),
    "found/hh-stripped-pairs/data.jsonl": ([("user", "q 0")], "a 0", "b 0", 1),
    "found/hh-user-marks/data.jsonl": ([("user", "q 0")], "a 0", "b 0", 1),
    "found/prompt-again-in-answers/data.jsonl": ([("user", "q 0")], "a 0", "b 0", 1),
    "found/system-column-pairs/data.jsonl": (
        [("system", "You only speak French."), ("user", "q 0")],
        "a 0",
        "b 0",
        1,
    ),
}
ITEMS: dict[str, tuple[str, tuple[str, str]]] = {
    "forms/arena.csv": ("q 0", ("a 0", "b 0")),
    "forms/argilla.jsonl": ("q 0", ("a", "b")),
    "forms/helpsteer3.jsonl": ("q 0", ("a 0", "b 0")),
    "forms/labelstudio.json": ("q 0", ("a", "b")),
    "found/csv-json-array-cells/data.csv": ("q 0", ("a 0", "b 0")),
    "found/remedy-label-export/data.json": ("q 0", ("a", "b")),
}
REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "forms/lfs.jsonl": (read_demonstrations, "a Git LFS pointer"),
    "forms/messages_tool.jsonl": (read_demonstrations, r"a conversation with tools: 'messages\[1\]' has 'tool_calls'"),
    "forms/arena.csv": (read_demonstrations, "2 answers to one prompt"),
    "forms/orca_dpo.jsonl": (read_demonstrations, "2 answers to one prompt"),
    "forms/qa.jsonl": (read_preferences, "nobody's judgement"),
    "forms/lf_dpo.json": (read_items, "judged already"),
}

pytestmark = pytest.mark.skipif(not FORMS.is_dir(), reason="no files beside the project")


def turns(record: Any) -> Turns:
    return [(turn.role, turn.content) for turn in record.prompt]


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_demonstrations(name: str) -> None:
    count, prompt, response = DEMONSTRATIONS[name]
    records = read_demonstrations(CASES / name)
    assert len(records) == count
    assert (turns(records[0]), records[0].response) == (prompt, response)
    assert turns(read_prompts(CASES / name)[0]) == prompt


@pytest.mark.parametrize("name", PREFERENCES)
def test_preferences(name: str) -> None:
    prompt, chosen, rejected, strength = PREFERENCES[name]
    records = read_preferences(CASES / name)
    assert len(records) in (30, 10), name
    first = records[0]
    assert (turns(first), first.chosen_text, first.rejected_text, first.strength) == (
        prompt,
        chosen,
        rejected,
        strength,
    )
    assert turns(read_prompts(CASES / name)[0]) == prompt


@pytest.mark.parametrize("name", ITEMS)
def test_items(name: str) -> None:
    records = read_items(CASES / name)
    assert len(records) == 30
    assert turns(records[0]) == [("user", ITEMS[name][0])]
    assert tuple(response.text for response in records[0].responses) == ITEMS[name][1]


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    read, why = REFUSED[name]
    with pytest.raises(WorkbenchError, match=why):
        read(CASES / name)


def test_every_file_is_tried() -> None:
    tried = {*DEMONSTRATIONS, *PREFERENCES, *ITEMS, *REFUSED}
    assert {f"forms/{path.name}" for path in FORMS.iterdir()} <= tried
