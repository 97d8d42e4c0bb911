"""Random records have exactly the lengths that are asked for; a failing phase is shown."""

import pytest
import torch

from tests.workbench.doctor.test_random_base import config
from workbench.data.readers import read_demonstrations, read_preferences, read_prompts
from workbench.data.tokenise import encode_prompt
from workbench.doctor.random_base import write_random_base
from workbench.doctor.rehearsal import deep_merge, run_phase, write_records
from workbench.model.base import load_tokenizer
from workbench.run.errors import WorkbenchError


@pytest.fixture
def base(tmp_path):
    return write_random_base(tmp_path / "base", config(), dtype=torch.float32)


def test_lengths_are_exact(tmp_path, base):
    records = write_records(tmp_path / "data", base, prompt_tokens=24, response_tokens=10, number=8)
    tokenizer = load_tokenizer(str(base))
    assert {len(encode_prompt(tokenizer, p.prompt)) for p in read_prompts(records.prompts)} == {24}
    answers = [d.response for d in read_demonstrations(records.demonstrations)]
    answers += [p.chosen_text for p in read_preferences(records.preferences)]
    # One token for the space before a response, one for EOS.
    assert {len(tokenizer(text).input_ids) + 2 for text in answers} == {10}
    assert len(answers) == 16


def test_lengths_may_vary(tmp_path, base):
    records = write_records(tmp_path / "data", base, prompt_tokens=24, response_tokens=40, number=30, shortest=4)
    lengths = [len(d.response) + 2 for d in read_demonstrations(records.demonstrations)]
    assert 4 <= min(lengths) < 12
    assert 30 < max(lengths) <= 40


def test_impossible_lengths_are_refused(tmp_path, base):
    with pytest.raises(ValueError, match="more than 18"):
        write_records(tmp_path, base, prompt_tokens=18, response_tokens=10, number=1)


def test_a_phase_that_fails_shows_why(tmp_path):
    values = {"run": {"dir": "r"}, "model": {"base": "b"}, "data": {"train": "t"}, "train": {"lrr": 1.0}}
    with pytest.raises(WorkbenchError, match=r"ended with code 2(.|\n)*did you mean train\.lr"):
        run_phase("sft", values, tmp_path)


def test_merged_changes_keys_within_sections():
    values = {"a": {"x": 1, "y": 2}, "b": 3}
    assert deep_merge(values, {"a": {"y": 5}, "c": {"z": 1}}) == {"a": {"x": 1, "y": 5}, "b": 3, "c": {"z": 1}}
    assert values["a"]["y"] == 2
