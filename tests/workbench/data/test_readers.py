"""The records of every form, in every format."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.workbench.data.conftest import SHARED
from workbench.data.readers import (
    read_demonstrations,
    read_items,
    read_preferences,
    read_prompts,
    write_records,
)
from workbench.data.records import Demonstration, Item, Message, Preference, Prompt, Response, prompt_id
from workbench.run.errors import WorkbenchError

USER = Message(role="user", content="Hi")
TURN = {"role": "user", "content": "Hi"}
Row = Mapping[str, Any]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def jsonl(path: Path, *rows: Row) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "response": "Hello"},
        {"prompt": [TURN], "response": "Hello", "id": prompt_id([USER])},
        {"prompt": "Hi", "completion": " Hello"},
        {"prompt": [TURN], "completion": said("Hello")},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"instruction": "Hi", "output": "Hello", "source": "somewhere"},
        {"messages": [TURN, *said("Hello")]},
        {"prompt": "\n\nHuman: Hi\n\nAssistant:", "response": "Hello"},
    ],
    ids=lambda row: "+".join(row),
)
def test_forms_of_demonstrations(tmp_path: Path, row: Row) -> None:
    expected = Demonstration(id=prompt_id([USER]), prompt=(USER,), response="Hello")
    assert read_demonstrations(jsonl(tmp_path / "d.jsonl", row)) == [expected]
    assert read_prompts(tmp_path / "d.jsonl") == [Prompt(id=expected.id, prompt=(USER,))]


def test_alpaca_joins_instruction_and_input_and_takes_a_system_column(tmp_path: Path) -> None:
    row = {"instruction": "Sum up.", "input": "A text.", "output": "Short.", "system": "Be brief."}
    (record,) = read_demonstrations(jsonl(tmp_path / "d.jsonl", row))
    assert [(turn.role, turn.content) for turn in record.prompt] == [
        ("system", "Be brief."),
        ("user", "Sum up.\n\nA text."),
    ]


def test_chat_imitates_the_last_answer(tmp_path: Path) -> None:
    turns = [TURN, *said("Hello"), {"role": "user", "content": "Bye"}, *said("See you")]
    (record,) = read_demonstrations(jsonl(tmp_path / "d.jsonl", {"messages": turns}))
    assert len(record.prompt) == 3
    assert record.response == "See you"
    (prompt,) = read_prompts(tmp_path / "d.jsonl")
    assert prompt.prompt == record.prompt


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Yes", "rejected": "No"},
        {"prompt": "Hi", "chosen": " Yes", "rejected": " No", "rank_gap": 2, "source": "here"},
        {"prompt": [TURN], "chosen": said("Yes"), "rejected": said("No")},
        {"chosen": [TURN, *said("Yes")], "rejected": [TURN, *said("No")]},
        {"prompt": "Hi", "chosen": [TURN, *said("Yes")], "rejected": [TURN, *said("No")]},
        {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": " Yes", "rejected": " No"},
        {"prompt": "\n\nHuman: Hi\n\nAssistant:\n\nAssistant:", "chosen": " Yes", "rejected": " No"},
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Yes", "rejected": "\n\nHuman: Hi\n\nAssistant: No"},
    ],
    ids=["text", "spaced", "messages", "conversations", "conversations+prompt", "hh", "hh open twice", "transcripts"],
)
def test_forms_of_preferences(tmp_path: Path, row: Row) -> None:
    (record,) = read_preferences(jsonl(tmp_path / "p.jsonl", row))
    assert record.prompt == (USER,)
    assert (record.chosen_text, record.rejected_text) == ("Yes", "No")
    assert record.group == prompt_id([USER])
    assert read_prompts(tmp_path / "p.jsonl") == [Prompt(id=record.group, prompt=(USER,))]


def test_a_transcript_of_several_turns(tmp_path: Path) -> None:
    opening = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: one\n\nHuman: two\n\nAssistant:"
    row = {"chosen": opening + " Yes\n\nindeed", "rejected": opening + " Yes, no"}
    (record,) = read_preferences(jsonl(tmp_path / "p.jsonl", row))
    assert [turn.content for turn in record.prompt] == ["Hi", "Hello", "one\n\ntwo"]
    assert (record.chosen_text, record.rejected_text) == ("Yes\n\nindeed", "Yes, no")


def test_an_empty_rejected_answer_is_an_answer(tmp_path: Path) -> None:
    (record,) = read_preferences(jsonl(tmp_path / "p.jsonl", {"prompt": "Hi", "chosen": "Yes", "rejected": " "}))
    assert record.rejected_text == ""


def test_text_that_only_mentions_human_is_not_a_transcript(tmp_path: Path) -> None:
    text = "Explain this log:\n\nHuman: hello\nand no more"
    (record,) = read_demonstrations(jsonl(tmp_path / "d.jsonl", {"prompt": text, "response": "Hello"}))
    assert record.prompt == (Message(role="user", content=text),)


def test_texts_with_a_class_are_prompts(tmp_path: Path) -> None:
    rows: list[Row] = [{"text": "buy now", "label": "spam"}, {"text": "see you", "label": 0}]
    jsonl(tmp_path / "c.jsonl", *rows)
    assert [prompt.prompt[0].content for prompt in read_prompts(tmp_path / "c.jsonl")] == ["buy now", "see you"]


PREFERENCE = Preference(
    id="p1",
    group="g1",
    prompt=(USER,),
    chosen=(Message(role="assistant", content="Yes"),),
    rejected=(Message(role="assistant", content="No"),),
    strength=2,
    annotators=("ann", "bob"),
    agreement=0.75,
    weight=0.5,
    chosen_run="runs/a",
    round=3,
    split="heldout",
)
ITEM = Item(
    id="i1",
    group="g1",
    prompt=(USER,),
    responses=(Response(id="a", text="Yes", temperature=0.7), Response(id="b", text="", ended=False)),
)
OWN: list[tuple[Callable[..., Any], Any]] = [
    (read_demonstrations, Demonstration(id="d1", prompt=(USER,), response="  exact \u2028 text\n")),
    (read_prompts, Prompt(id="x", prompt=(USER,))),
    (read_preferences, PREFERENCE),
    (read_items, ITEM),
]


@pytest.mark.parametrize(("read", "record"), OWN, ids=lambda value: type(value).__name__)
def test_our_own_records_come_back_as_they_were_written(tmp_path: Path, read: Callable[..., Any], record: Any) -> None:
    write_records(tmp_path / "new" / "r.jsonl", [record])
    assert read(tmp_path / "new" / "r.jsonl") == [record]
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["r.jsonl"], "no temporary file is left"
    write_records(tmp_path / "again.jsonl", read(tmp_path / "new" / "r.jsonl"))
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "new" / "r.jsonl").read_bytes()


def test_writing_keeps_unicode_readable_and_failing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_records(path, [{"text": "東京"}])
    assert path.read_text(encoding="utf-8") == '{"text": "東京"}\n'
    with pytest.raises(TypeError):
        write_records(path, [{"text": "new"}, {"text": object()}])
    assert path.read_text(encoding="utf-8") == '{"text": "東京"}\n'


def test_ids_depend_on_the_text_alone(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n % 3}", "chosen": f"yes {n}", "rejected": "no"} for n in range(9)]
    records = read_preferences(jsonl(tmp_path / "a.jsonl", *rows))
    again = read_preferences(jsonl(tmp_path / "b.jsonl", *reversed(rows)))
    assert {record.id for record in records} == {record.id for record in again}
    assert len({record.id for record in records}) == 9
    assert len({record.group for record in records}) == 3


def test_given_ids_are_kept(tmp_path: Path) -> None:
    rows: list[Row] = [{"id": 7, "prompt": "Hi", "response": "Hello"}, {"id": "x", "prompt": "Ho", "response": "Hello"}]
    assert [record.id for record in read_demonstrations(jsonl(tmp_path / "d.jsonl", *rows))] == ["7", "x"]


def test_prompts_are_distinct_and_in_order(tmp_path: Path) -> None:
    rows = [{"prompt": text, "response": str(n)} for n, text in enumerate(["b", "a", "b", "c", "a"])]
    assert [p.prompt[0].content for p in read_prompts(jsonl(tmp_path / "d.jsonl", *rows))] == ["b", "a", "c"]


def test_duplicates_are_counted_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = {"prompt": "Hi", "chosen": "Yes", "rejected": "No"}
    with caplog.at_level(logging.WARNING):
        assert len(read_preferences(jsonl(tmp_path / "p.jsonl", row, row, row))) == 3
    assert "2 of 3 records repeat an earlier one" in caplog.text


PAIRS = [
    {"prompt": "Ça va, « toi » ?\nDis-moi.", "chosen": 'quoted "yes", 東京', "rejected": "no"},
    {"prompt": "second", "chosen": "🙂\u2028next", "rejected": "tab\there"},
]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


WRITERS: dict[str, Callable[[Path, Sequence[Row]], object]] = {
    "r.jsonl": lambda path, rows: jsonl(path, *rows),
    "r.json": lambda path, rows: path.write_text(json.dumps(rows, indent=1), encoding="utf-8"),
    "lines.json": lambda path, rows: jsonl(path, *rows),
    "list.jsonl": lambda path, rows: path.write_text(json.dumps(rows), encoding="utf-8"),
    "no_suffix": lambda path, rows: jsonl(path, *rows),
    "bom.jsonl": lambda path, rows: path.write_bytes(b"\xef\xbb\xbf" + jsonl(path, *rows).read_bytes()),
    "blank.jsonl": lambda path, rows: path.write_text("\n" + "\n\n".join(map(json.dumps, rows)) + "\n\n"),
    "r.csv": write_csv,
    "r.tsv": write_csv,
    "r.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_records(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, PAIRS)
    records = read_preferences(tmp_path / name)
    found = [{"prompt": r.prompt[0].content, "chosen": r.chosen_text, "rejected": r.rejected_text} for r in records]
    assert found == PAIRS


@pytest.mark.parametrize("name", ["r.csv", "r.parquet", "r.jsonl"])
def test_messages_in_every_format(tmp_path: Path, name: str) -> None:
    messages = [TURN, *said("Hello")]
    value = json.dumps(messages) if name.endswith("csv") else messages
    WRITERS[name](tmp_path / name, [{"messages": value}])
    assert [record.response for record in read_demonstrations(tmp_path / name)] == ["Hello"]


def test_a_saved_datasets_folder(tmp_path: Path) -> None:
    import datasets

    saved = datasets.DatasetDict({"train": datasets.Dataset.from_list(PAIRS)})
    saved.save_to_disk(str(tmp_path / "saved"))
    records = read_preferences(tmp_path / "saved" / "train")
    assert [record.chosen_text for record in records] == [row["chosen"] for row in PAIRS]


READ = """
import sys
from workbench.data.readers import read_prompts
assert len(read_prompts(sys.argv[1])) == 1
print([name for name in ("torch", "transformers", "datasets", "pandas", "pyarrow") if name in sys.modules])
"""


def test_reading_jsonl_imports_nothing_heavy(tmp_path: Path) -> None:
    """The labelling page's process reads records, and must stay light."""
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "Hi"})
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="real data is absent")
@pytest.mark.parametrize(
    ("name", "read", "count", "prompts"),
    [
        ("pairs/llmbar.jsonl", read_preferences, 884, 756),
        ("pairs/oasst_en_100.jsonl", read_preferences, 732, 207),
        ("pairs/pandalm_majority.jsonl", read_preferences, 887, 158),
        ("instructions/alpaca_1k.jsonl", read_demonstrations, 1000, 1000),
        ("instructions/gpt4_alpaca_demo_1k.jsonl", read_demonstrations, 999, 985),
        ("instructions/self_instruct_seed_175.jsonl", read_demonstrations, 175, 175),
        ("classification/sms_spam.jsonl", read_prompts, 5160, 5160),
        ("classification/app_reviews_5class.jsonl", read_prompts, 4197, 4197),
        ("classification/davidson_hate_offensive.jsonl", read_prompts, 24783, 24783),
    ],
)
def test_real_files(name: str, read: Callable[..., Any], count: int, prompts: int) -> None:
    assert len(read(SHARED / name)) == count
    assert len(read_prompts(SHARED / name)) == prompts


def test_a_dangling_link_in_a_folder_of_data_is_no_crash(tmp_path):
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(WorkbenchError):
        read_prompts(tmp_path)
