"""Prompts of an iteration: every one once a pass, a function of seed and iteration alone."""

import pytest

from ppo.config import PromptSection, RolloutSection
from ppo.rollout import PromptSet, prompts_of_iteration
from ppo.start import load_prompts
from tests.conftest import user, write_jsonl
from workbench.data.records import Prompt
from workbench.model.base import load_tokenizer
from workbench.run.errors import WorkbenchError


@pytest.fixture
def ten():
    """Ten prompts, of which only the ids matter here."""
    return PromptSet(
        [Prompt(id=f"p{i}", prompt=({"role": "user", "content": str(i)},)) for i in range(10)], [[i] for i in range(10)]
    )


def order(prompts, iterations, batch_size, seed=0):
    section = RolloutSection(batch_size=batch_size)
    return [p.id for i in iterations for p in prompts_of_iteration(prompts, i, section, seed=seed).records]


@pytest.mark.parametrize("batch_size", [3, 5, 10, 20])
def test_every_pass_has_every_prompt_once(ten, batch_size):
    met = order(ten, range(60 // batch_size), batch_size)
    assert len(met) == 60
    for start in range(0, 60, 10):
        assert sorted(met[start : start + 10]) == sorted(p.id for p in ten.records)


def test_passes_and_seeds_have_orders_of_their_own(ten):
    passes = order(ten, range(3), 10)
    assert passes[:10] != passes[10:20] != passes[20:]
    assert order(ten, range(1), 10, seed=1) != passes[:10]


def test_the_order_does_not_depend_on_what_ran_before(ten):
    assert order(ten, [4], 3) == order(ten, range(5), 3)[12:]


def test_ids_stay_with_their_records(ten):
    taken = prompts_of_iteration(ten, 1, RolloutSection(batch_size=4), seed=7)
    assert [f"p{ids[0]}" for ids in taken.ids] == [record.id for record in taken.records]


def test_a_heldout_prompt_may_not_be_trained_on(tmp_path, tiny_base):
    train = write_jsonl(tmp_path / "train.jsonl", [{"id": str(i), "prompt": user("{}?", str(i))} for i in range(4)])
    heldout = write_jsonl(tmp_path / "heldout.jsonl", [{"id": "other", "prompt": user("{}?", "2")}])
    with pytest.raises(WorkbenchError, match="1 of its prompts are also in"):
        load(tiny_base, train, heldout)


def test_too_long_prompts_are_left_out(tmp_path, tiny_base):
    rows = [{"id": "short", "prompt": user("{}?", "a")}, {"id": "long", "prompt": user("{}?", "a" * 200)}]
    heldout = write_jsonl(tmp_path / "heldout.jsonl", [{"id": "h", "prompt": user("{}?", "b")}])
    train, _ = load(tiny_base, write_jsonl(tmp_path / "train.jsonl", rows), heldout)
    assert [record.id for record in train.records] == ["short"]
    assert len(train.ids) == 1


def test_one_file_for_both_is_split(tiny_base, prompt_file):
    train, heldout = load(tiny_base, prompt_file, prompt_file)
    assert len(train) + len(heldout) == 16
    assert not {p.id for p in train.records} & {p.id for p in heldout.records}


def load(base, train, heldout):
    section = PromptSection(train="", heldout_share=0.25, max_prompt_length=64)
    return load_prompts(load_tokenizer(str(base)), train, heldout, section, seed=0)
