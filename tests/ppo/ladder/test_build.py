"""`python -m ppo pairs`: rungs differ as configured, pairs are records, and a killed command goes on where it was."""

import json
import shutil

import pytest
import torch

from ppo.__main__ import main
from ppo.ladder import answers as ladder_answers
from ppo.ladder.answers import RungFile, add_rung, climb, key_of, open_ladder, sources
from ppo.ladder.build import build
from ppo.ladder.config import PairsConfig, RungSection
from ppo.ladder.select import Answer
from tests.conftest import load_phase
from workbench.data.readers import read_preferences
from workbench.data.records import Prompt
from workbench.run.errors import WorkbenchError

RUNGS = [
    {"name": "base", "scale": 0.0},
    {"name": "sft", "temperature": 0.7},
    {"name": "best-of-8", "best_of": 8},
]


@pytest.fixture
def configure(tmp_path, sft_run, reward_run, prompt_file):
    def configured(*overrides, **changes):
        ladder = {"start": str(sft_run), "reward": str(reward_run), "prompts": str(prompt_file), "rungs": RUNGS}
        ladder |= {"max_new_tokens": 40, "batch_size": 8, "out": str(tmp_path / "pairs"), **changes}
        values = {"ladder": ladder, "select": {"win_rate": 0.0, "length_ratio": 20.0}}
        return load_phase(PairsConfig, tmp_path / "pairs.yaml", values, *overrides)

    return configured


def test_the_best_of_several_scores_higher_and_becomes_a_preference(configure, tmp_path):
    file = build(configure())
    ladder = json.loads((tmp_path / "pairs/ladder.json").read_text())
    mean, low, high = ladder["wins"][2][1]
    assert low <= mean <= high
    assert mean > 0.5, "the best of eight beats one answer"
    records = read_preferences(file)
    assert ladder["pairs"] == len(records) > 0
    order = [rung["name"] for rung in RUNGS]
    assert all(order.index(r.chosen_run) > order.index(r.rejected_run) for r in records)
    assert all(r.difficulty is not None and 0 <= r.difficulty <= 1 for r in records)
    most = max(sum(r.group == group for r in records) for group in {r.group for r in records})
    assert most <= 3


def test_a_killed_command_goes_on_and_ends_with_the_same_file(configure, tmp_path, monkeypatch):
    whole = build(configure(out=str(tmp_path / "whole"))).read_bytes()
    batches = iter(range(100))
    batch_of_answers = ladder_answers.batch_of_answers

    def dies(*arguments):
        if next(batches) == 3:
            raise KeyboardInterrupt
        return batch_of_answers(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ladder_answers, "batch_of_answers", dies)
        with pytest.raises(KeyboardInterrupt):
            build(configure())
    partly = sorted(path.name for path in (tmp_path / "pairs/rungs").iterdir())
    assert partly == ["base.jsonl", "best-of-8.jsonl", "sft.jsonl"]
    assert len((tmp_path / "pairs/rungs/sft.jsonl").read_text().splitlines()) == 1 + 8
    assert build(configure()).read_bytes() == whole


def test_other_settings_sample_again(configure, tmp_path):
    rungs = [{"name": "base", "scale": 0.0}, {"name": "sft"}]
    prompts = [Prompt(id=str(n), prompt=[{"role": "user", "content": f"{n}?"}]) for n in range(4)]
    first, same, other = (
        climb(configure(rungs=rungs, reward=None, seed=seed, max_new_tokens=6).ladder, tmp_path / "rungs", prompts)
        for seed in (1, 1, 2)
    )
    assert first == same
    assert first[1] != other[1]


def test_half_a_line_and_half_a_batch_are_sampled_again(configure, tmp_path):
    section = configure().ladder
    prompts = [Prompt(id=str(n), prompt=[{"role": "user", "content": f"{n}?"}]) for n in range(10)]
    file = RungFile(tmp_path, section.rungs[0], section, prompts)
    file.append([Answer(str(n), 2, True, None) for n in range(9)])
    with file.path.open("a") as out:
        out.write('{"text": "hal')
    again = RungFile(tmp_path, section.rungs[0], section, prompts)
    assert [answer.text for answer in again.answers] == [str(n) for n in range(8)]
    again.append([Answer(str(n), 2, True, None) for n in range(8, 10)])
    assert RungFile(tmp_path, section.rungs[0], section, prompts).complete


@pytest.mark.parametrize("line", [1, 2])
@pytest.mark.parametrize("text", [b"hello", b"\xff", b'{"text": "x"}', b"3"])
def test_a_broken_file_of_answers_is_one_clear_error(configure, tmp_path, line, text):
    section = configure().ladder
    prompts = [Prompt(id=str(n), prompt=[{"role": "user", "content": f"{n}?"}]) for n in range(2)]
    file = RungFile(tmp_path, section.rungs[0], section, prompts)
    file.append([Answer(str(n), 2, True, None) for n in range(2)])
    lines = file.path.read_bytes().splitlines()
    lines[line - 1] = text
    file.path.write_bytes(b"\n".join([*lines, b""]))
    if (line, text) == (1, b'{"text": "x"}'):  # answers that depend on something else
        assert RungFile(tmp_path, section.rungs[0], section, prompts).answers == []
        return
    with pytest.raises(WorkbenchError, match=rf"base.jsonl:{line}: is broken: (.|\n)*delete the file"):
        RungFile(tmp_path, section.rungs[0], section, prompts)
    assert file.path.read_bytes().splitlines() == lines, "nothing is deleted"


def test_the_scale_of_a_rung_scales_what_training_changed(configure):
    section = configure().ladder
    roles, _ = open_ladder(section)
    for number, scale in enumerate((0.0, 0.5, 1.0)):
        add_rung(roles, f"rung_{number}", RungSection(name=str(number), scale=scale), section)
    ids, mask = torch.tensor([[1, 5, 6, 7]]), torch.ones(1, 4, dtype=torch.bool)

    def states(role):
        with roles.use(role) as forward:
            return forward(ids, mask)

    assert torch.equal(states("rung_2"), states("source_0"))
    assert not torch.allclose(states("rung_0"), states("source_0"), atol=1e-4)
    assert not torch.allclose(states("rung_1"), states("source_0"), atol=1e-4)
    with roles.model.disable_adapter(), torch.no_grad():
        bare = roles.causal_model.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(states("rung_0"), bare, rtol=1e-4, atol=1e-5)


def test_without_a_reward_model_the_order_is_taken_on_trust(configure, tmp_path, capsys):
    rungs = [{"name": "base", "scale": 0.0}, {"name": "sft"}]
    file = build(configure(reward=None, rungs=rungs))
    assert "not measured" in capsys.readouterr().out
    assert {(r.chosen_run, r.rejected_run) for r in read_preferences(file)} == {("sft", "base")}


def test_a_ladder_of_equals_is_refused(configure):
    with pytest.raises(WorkbenchError, match="none wins 95% against the rung below it"):
        build(configure("select.win_rate=0.95", rungs=[{"name": "one"}, {"name": "other"}], max_new_tokens=6))


def test_problems_are_reported_before_anything_is_opened(configure, tmp_path):
    configure(reward=None)
    with pytest.raises(WorkbenchError) as caught:
        main(["pairs", str(tmp_path / "pairs.yaml"), "ladder.prompts=nowhere.jsonl"])
    assert "best-of-8 takes the best of 8" in str(caught.value)
    assert "nowhere.jsonl" in str(caught.value)


def test_two_rungs_of_one_name_are_refused(configure):
    with pytest.raises(WorkbenchError, match="two rungs have the name 'sft'"):
        configure(rungs=[{"name": "sft"}, {"name": "sft", "scale": 0.5}])


def test_rungs_of_one_run_share_its_adapter(configure, sft_run):
    rungs = [{"name": "base", "scale": 0.0}, {"name": "named", "run": str(sft_run)}]
    assert sources(configure(rungs=rungs).ladder) == {"source_0": str(sft_run)}


def test_an_ensemble_is_known_by_all_its_members(configure, reward_run, tmp_path):
    """A rung's answers depend on every member, and an ensemble's own folder has no adapter."""
    section, prompts = configure().ladder, []
    one = key_of(section.rungs[0], section, prompts)
    folder = tmp_path / "ensemble"
    for member in ("1", "2"):
        shutil.copytree(reward_run, folder / "members" / member)
    record = json.loads((reward_run / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"members": 2}))
    both = key_of(section.rungs[0], section.model_copy(update={"reward": str(folder)}), prompts)
    weights = folder / "members/2/adapter/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[::-1])
    assert len({one, both, key_of(section.rungs[0], section.model_copy(update={"reward": str(folder)}), prompts)}) == 3
