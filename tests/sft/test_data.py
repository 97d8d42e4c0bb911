"""Demonstrations as rows: responses count, prompts do not; nothing is cut; held-out prompts stay out."""

import json

import pytest

from sft.config import DataSection
from sft.data import load_data
from tests.conftest import GOOD, user, write_jsonl
from workbench.data.rules import RowRules
from workbench.model.base import load_tokenizer
from workbench.run.errors import WorkbenchError


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return load_tokenizer(str(tiny_base))


def load(tokenizer, path, **changes):
    seed, rules = changes.pop("seed", 0), changes.pop("rules", RowRules())
    files = {"train": path} | ({"validation": changes.pop("validation")} if "validation" in changes else {})
    section = DataSection(train=str(path), **({"validation_share": 0.2, "max_length": 128} | changes))
    return load_data(tokenizer, section, files, seed=seed, rules=rules)


def test_the_mask_covers_the_response_with_its_end_and_nothing_else(tokenizer, demonstration_file):
    data = load(tokenizer, demonstration_file)
    rows = [*data.train, *data.validation]
    assert len(rows) == 24
    for row in rows:
        start = row["completion_mask"].index(1)
        assert set(row["completion_mask"][start:]) == {1}
        prompt, response = row["input_ids"][:start], row["input_ids"][start:]
        assert prompt[0] == tokenizer.bos_token_id
        assert response[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(prompt).endswith("Assistant:")
        assert tokenizer.decode(response[:-1]).startswith(" " + GOOD.split("{")[0].strip())


def test_too_long_rows_are_left_out_whole_and_counted(tokenizer, tmp_path):
    rows = [
        {
            "id": f"d{n}",
            "prompt": user("Where is my {}?", f"thing {n}"),
            "response": "word " * (30 if n % 3 == 0 else 2),
        }
        for n in range(30)
    ]
    path = write_jsonl(tmp_path / "d.jsonl", rows)
    data = load(tokenizer, path, max_length=100)
    everything = load(tokenizer, path, max_length=256)
    assert data.too_long == len(everything.train) - len(data.train) > 0
    assert max(len(row["input_ids"]) for row in data.train) <= 100
    assert all(row["input_ids"][-1] == tokenizer.eos_token_id for row in data.train)
    assert len(data.validation) == len(data.validation_records)


def test_all_too_long_is_an_error_that_names_the_limit(tokenizer, demonstration_file):
    with pytest.raises(WorkbenchError) as caught:
        load(tokenizer, demonstration_file, max_length=3)
    assert "too long" in caught.value.problem
    assert "data.max_length" in caught.value.expected


def test_a_share_of_the_prompts_is_held_out_for_good(tokenizer, demonstration_file, tmp_path):
    first, again = (load(tokenizer, demonstration_file).validation_records for _ in range(2))
    assert first == again
    assert 0 < len(first) < 12
    assert load(tokenizer, demonstration_file, seed=1).validation_records != first
    twice = demonstration_file.read_text() + "".join(
        json.dumps(json.loads(line) | {"id": f"again{n}", "response": "Another answer."}) + "\n"
        for n, line in enumerate(demonstration_file.read_text().splitlines())
    )
    (tmp_path / "twice.jsonl").write_text(twice)
    data = load(tokenizer, tmp_path / "twice.jsonl")
    assert {r.prompt for r in data.validation_records} == {r.prompt for r in first}
    assert len(data.validation_records) == 2 * len(first)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_empty_side_is_an_error(tokenizer, demonstration_file, share):
    with pytest.raises(WorkbenchError) as caught:
        load(tokenizer, demonstration_file, validation_share=share)
    assert "at least one of each" in caught.value.expected


def test_the_rules_about_rows_hold_for_both_files(tokenizer, tmp_path):
    rows = [{"prompt": f"q {n}", "response": "word", "context": "unread"} for n in range(20)]
    rows[3]["response"] = ""
    paths = [write_jsonl(tmp_path / name, rows) for name in ("train.jsonl", "validation.jsonl")]
    rules = RowRules(ignore=("context",), bad_rows="skip")
    data = load(tokenizer, paths[0], validation=paths[1], rules=rules)
    assert (len(data.train), len(data.validation)) == (19, 19)
    assert [row["place"] for row in rules.left_out] == [f"{path}, line 4" for path in paths]
    assert "unread" not in data.validation_records[0].prompt[-1].content
    with pytest.raises(WorkbenchError, match="'response' is empty"):
        load(tokenizer, paths[0], rules=RowRules(ignore=("context",)))
