"""Ensembles: what members share, how they differ, and who uses their mean."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import reward.train as phase
from ppo.config import PpoConfig
from ppo.train import train as run_ppo
from reward.__main__ import main
from reward.config import RewardConfig
from reward.ensemble import member_config, member_seed, resampled, train_members
from reward.inputs import check_inputs
from tests.conftest import load_phase, reward_values, user, write_jsonl
from tests.ppo.conftest import ppo_values
from tests.reward.passport.conftest import sound_pairs
from workbench.data.records import Preference
from workbench.evaluate.heldout_pairs import own_heldout_pairs
from workbench.evaluate.role_models import RoleScore, reward_roles
from workbench.evaluate.run_models import evaluate_reward_run
from workbench.model.open import open_runs
from workbench.run.errors import WorkbenchError, check_all
from workbench.run.folder import RunFolder
from workbench.run.parents import record_lineage


def records(groups):
    return [Preference(**{**row, "group": group}) for row, group in zip(sound_pairs(len(groups)), groups, strict=True)]


def test_prompts_are_drawn_whole_and_with_replacement():
    given = records(["a", "a", "b", "c", "c", "d", "e", "f"])
    drawn = resampled(given, seed=3)
    copies = Counter(record.group for record in drawn)
    assert sum(1 for _ in copies) == 6, "as many prompts as there were"
    sizes = Counter(record.group for record in given)
    assert all(number == sizes[group.split("~")[0]] for group, number in copies.items()), "each with all its pairs"
    assert any("~" in group for group in copies)
    assert drawn == resampled(given, seed=3) != resampled(given, seed=4)
    texts = {record.group: record.prompt for record in given}
    assert all(texts[record.group.split("~")[0]] == record.prompt or record.group[0] in "ac" for record in drawn)


def test_on_average_a_prompt_is_left_out_of_a_member_with_probability_1_over_e():
    given = records([f"g{n}" for n in range(60)])
    seen = [len({r.group.split("~")[0] for r in resampled(given, seed)}) / 60 for seed in range(60)]
    assert np.mean(seen) == pytest.approx(1 - (1 - 1 / 60) ** 60, abs=0.02)  # 0.635


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory, sft_run, preference_file):
    """Two members, examined together."""
    folder = tmp_path_factory.mktemp("ensemble")
    values = reward_values(folder / "reward", sft_run, preference_file)
    values["passport"] = {"answers": 8, "fewest": 4, "samples": 4}
    config = load_phase(RewardConfig, folder / "reward.yaml", values, "ensemble.members=2")
    return phase.train(config, resume=False)


@pytest.mark.slow
def test_members_are_whole_runs_that_differ_and_share_what_is_held_out(ensemble):
    first, second = ensemble.members
    assert [member.path.relative_to(ensemble.path).as_posix() for member in ensemble.members] == [
        "members/1",
        "members/2",
    ]
    adapters = [load_file(member.adapter / "adapter_model.safetensors") for member in (first, second)]
    assert all(not torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
    assert own_heldout_pairs(first) == own_heldout_pairs(second) == own_heldout_pairs(ensemble)
    assert [member.record()["seed"] for member in (first, second)] == [member_seed(0, 1), member_seed(0, 2)]
    record = ensemble.record()
    assert (record["members"], record["status"], record["seed"]) == (2, "finished", 0)
    assert record["base"] == first.record()["base"]
    assert not (ensemble.path / "adapter").exists()


def test_its_passport_is_of_all_members(ensemble):
    passport = json.loads((ensemble.path / "passport.json").read_text(encoding="utf-8"))
    assert len(passport["files"]) == 4
    assert passport["facts"]["members"] == 2
    assert passport["findings"]["unfamiliar"]["spread"] > 0
    assert passport["findings"]["unfamiliar"]["flagged"]["count"] == 8
    assert passport["findings"]["samples"]["teaches"]["count"] == 4 * 16
    assert not (ensemble.members[0].path / "passport.json").exists()


def test_a_second_member_costs_its_adapter_and_head_alone(ensemble):
    roles = open_runs(reward_roles(ensemble.path))
    counts = roles.parameter_counts()
    assert counts["reward_1"] == counts["reward_2"]
    assert roles.base_bytes() == open_runs({"reward": ensemble.members[0].path}).base_bytes()


def test_evaluation_takes_the_mean_of_the_members(ensemble):
    pairs = own_heldout_pairs(ensemble)
    roles = open_runs(reward_roles(ensemble.path))
    prompts, texts = [pair.prompt for pair in pairs], [pair.chosen_text for pair in pairs]
    scores = [RoleScore(roles, (name,), 8)(prompts, texts, [True] * len(pairs)) for name in ("reward_1", "reward_2")]
    others = [
        RoleScore(roles, (name,), 8)(prompts, [pair.rejected_text for pair in pairs], [True] * len(pairs))
        for name in ("reward_1", "reward_2")
    ]
    result = evaluate_reward_run(ensemble.path).reward_model
    assert result.score_mean == pytest.approx(np.concatenate((np.mean(scores, 0), np.mean(others, 0))).mean(), abs=1e-4)


def test_an_answer_of_an_ensemble_is_explained_by_all_members(ensemble, preference_file, tmp_path, capsys):
    page, relabel = tmp_path / "why.html", tmp_path / "again.jsonl"
    words = ["explain", str(ensemble.path), "--prompt", "Where is my order?", "--response", "No idea about your order."]
    assert main([*words, "--out", str(page), "--relabel", str(relabel), "--nearest", "3"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "the mean of its 2 members" in text
    assert "Completeness check passed" in text
    assert text.count("<article>") == 3 == len(relabel.read_text(encoding="utf-8").splitlines())
    # The page shows the score that `score` and PPO use.
    answer = write_jsonl(
        tmp_path / "one.jsonl",
        [{"id": "a", "prompt": user("Where is my order?", ""), "response": "No idea about your order."}],
    )
    assert main(["score", str(ensemble.path), str(answer), "--out", str(tmp_path / "scores.jsonl")]) == 0
    row = json.loads((tmp_path / "scores.jsonl").read_text(encoding="utf-8"))
    assert f"<h1>Score {row['score']:+.2f}</h1>" in text
    assert row["spread"][0] > 0


def test_the_score_of_a_file_is_the_mean_of_the_members(ensemble, tmp_path):
    pairs = own_heldout_pairs(ensemble)
    file = write_jsonl(tmp_path / "pairs.jsonl", [pair.model_dump(mode="json") for pair in pairs])
    assert main(["score", str(ensemble.path), str(file), "--out", str(tmp_path / "scores.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    roles = open_runs(reward_roles(ensemble.path))
    prompts, ended = [pair.prompt for pair in pairs], [True] * len(pairs)
    for side in ("chosen", "rejected"):
        texts = [getattr(pair, f"{side}_text") for pair in pairs]
        each = np.stack([RoleScore(roles, (name,), 8)(prompts, texts, ended) for name in ("reward_1", "reward_2")])
        assert [row[side] for row in rows] == pytest.approx(each.mean(axis=0), abs=1e-5)


def test_the_passport_is_issued_anew_by_the_command(ensemble):
    assert main(["passport", str(ensemble.path), "passport.fewest=4", "passport.answers=8", "passport.samples=0"]) in (
        0,
        1,
    )
    passport = json.loads((ensemble.path / "passport.json").read_text(encoding="utf-8"))
    assert (passport["facts"]["members"], len(passport["files"])) == (2, 4)


def test_ppo_scores_with_every_member(ensemble, sft_run, prompt_file, tmp_path):
    values = ppo_values(tmp_path / "ppo", sft_run, ensemble.path, prompt_file)
    values["train"]["iterations"] = 1
    values["reward"] = {"std_coef": 0.5}
    finished = run_ppo(load_phase(PpoConfig, tmp_path / "ppo.yaml", values), resume=False)
    parents = finished.record()["parents"]
    assert [parents[name] for name in ("reward_1", "reward_2")] == [str(m.path) for m in ensemble.members]
    (row,) = (row for row in finished.read_metrics() if "objective/score_spread" in row)
    assert row["objective/score_spread"] > 0


@pytest.mark.slow
def test_an_interrupted_ensemble_keeps_its_finished_members(tmp_path, sft_run, preference_file, monkeypatch):
    values = reward_values(tmp_path / "reward", sft_run, preference_file)
    config = load_phase(RewardConfig, tmp_path / "reward.yaml", values, "ensemble.members=2")
    real, fitted = phase.train_one, []

    def fit(given, *, resume):
        if given.ensemble.member == 2 and len(fitted) == 1:
            fitted.append("stopped")
            raise KeyboardInterrupt
        fitted.append(given.ensemble.member)
        return real(given, resume=resume)

    monkeypatch.setattr(phase, "train_one", fit)
    with pytest.raises(KeyboardInterrupt):
        phase.train(config, resume=False)
    assert not RunFolder(tmp_path / "reward").finished
    before = (tmp_path / "reward/members/1/metrics.jsonl").read_bytes()
    assert phase.train(config, resume=True).finished
    assert fitted == [1, "stopped", 1, 2]
    assert (tmp_path / "reward/members/1/metrics.jsonl").read_bytes() == before, "found finished, left alone"


def test_a_member_can_be_fitted_alone_elsewhere(tmp_path, sft_run, preference_file):
    values = reward_values(tmp_path / "reward", sft_run, preference_file)
    config = load_phase(RewardConfig, tmp_path / "reward.yaml", values, "ensemble.members=3")
    second = member_config(config, 2)
    assert (second.run.dir, second.ensemble.member) == (f"{tmp_path / 'reward'}/members/2", 2)
    assert second.data == config.data


def test_an_ensemble_stops_with_its_member(tmp_path, sft_run, preference_file):
    config = load_phase(
        RewardConfig,
        tmp_path / "reward.yaml",
        reward_values(tmp_path / "reward", sft_run, preference_file),
        "ensemble.members=2",
    )

    def fit(config, *, resume):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_members(config, resume=False, fit=fit)
    record = RunFolder.open(tmp_path / "reward").record()
    assert record["status"] == "stopped"
    assert record["parents"] == {"start": str(sft_run)}
    assert record["data"]["train"]["path"] == str(preference_file)


@pytest.fixture(scope="module")
def averaged(ensemble, tmp_path_factory):
    out = tmp_path_factory.mktemp("average") / "one"
    assert main(["average", str(ensemble.path), "--out", str(out)]) == 0
    return RunFolder.open(out, phase="reward").require_finished()


def test_the_average_is_of_the_products_of_the_members(ensemble, averaged):
    names = ["reward_1", "reward_2"]
    roles = open_runs({**reward_roles(ensemble.path), "average": averaged.path})
    moved = 0
    for module in roles.model.modules():
        if hasattr(module, "lora_A") and "average" in module.lora_A:
            first, second = (module.get_delta_weight(name) for name in names)
            torch.testing.assert_close(module.get_delta_weight("average"), (first + second) / 2, atol=1e-6, rtol=1e-4)
            moved += not torch.allclose(first, second)
    assert moved
    heads = [roles.heads[name].weight for name in names]
    torch.testing.assert_close(roles.heads["average"].weight, (heads[0] + heads[1]) / 2)


def test_the_average_is_a_reward_run_like_any_other(ensemble, averaged):
    record = averaged.record()
    assert record["parents"]["average"] == str(ensemble.path)
    assert (averaged.path / "passport.json").is_file()
    assert own_heldout_pairs(averaged) == own_heldout_pairs(ensemble)
    assert 0 <= evaluate_reward_run(averaged.path).reward_model.accuracy.mean <= 1


def test_an_ensemble_is_averaged_from_another_folder(ensemble, tmp_path, preference_file, monkeypatch):
    """On its own pairs, although a file of the same name is here."""
    for run in (ensemble, *ensemble.members):
        assert (run.path / run.record()["data"]["train"]["relative"]).resolve() == preference_file.resolve()
    copy = RunFolder(shutil.copytree(ensemble.path, tmp_path / "ensemble"))
    shutil.copyfile(preference_file, tmp_path / "pairs.jsonl")
    config = copy.config_path.read_text(encoding="utf-8")
    copy.config_path.write_text(config.replace(str(preference_file), "pairs.jsonl"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    record_lineage(copy, parents=copy.record()["parents"], data={"train": Path("pairs.jsonl")})
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    Path("pairs.jsonl").write_text("".join(preference_file.read_text("utf-8").splitlines(keepends=True)[-10:]))
    assert main(["average", "../ensemble", "--out", "one"]) == 0
    data = [run.record()["data"]["train"]["sha256"] for run in (RunFolder.open("one"), ensemble)]
    assert data[0] == data[1]


def test_what_cannot_be_averaged_is_refused(ensemble, averaged, tmp_path):
    with pytest.raises(WorkbenchError, match="is one reward model"):
        main(["average", str(averaged.path), "--out", str(tmp_path / "out")])
    with pytest.raises(WorkbenchError, match="exists already"):
        main(["average", str(ensemble.path), "--out", str(averaged.path)])


def test_members_start_from_runs_of_their_own(tmp_path, sft_run, preference_file):
    other = shutil.copytree(sft_run, tmp_path / "sft-2")
    values = reward_values(tmp_path / "reward", sft_run, preference_file)
    starts = f"ensemble.starts=[{sft_run},{other}]"
    config = load_phase(RewardConfig, tmp_path / "reward.yaml", values, "ensemble.members=3", starts)
    check_all(check_inputs, config)
    assert [member_config(config, n).model.start for n in (1, 2, 3)] == [str(sft_run), str(other), str(sft_run)]
    seen = []

    def fit(given, *, resume):
        seen.append(given.model.start)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_members(config, resume=False, fit=fit)
    assert RunFolder.open(tmp_path / "reward").record()["parents"] == {"start": str(sft_run), "start_2": str(other)}
    assert seen == [str(sft_run)]


def test_starts_that_do_not_fit_are_refused(tmp_path, sft_run, preference_file):
    other = shutil.copytree(sft_run, tmp_path / "sft-2")
    record = json.loads((other / "run.json").read_text(encoding="utf-8"))
    record["base"]["fingerprint"] = "of another base"
    (other / "run.json").write_text(json.dumps(record), encoding="utf-8")
    values = reward_values(tmp_path / "reward", sft_run, preference_file)

    def checked(*words):
        check_all(check_inputs, load_phase(RewardConfig, tmp_path / "reward.yaml", values, *words))

    with pytest.raises(WorkbenchError, match=r"2 runs for ensemble\.members=1"):
        checked(f"ensemble.starts=[{sft_run},{other}]")
    with pytest.raises(WorkbenchError, match="base"):
        checked("ensemble.members=2", f"ensemble.starts=[{sft_run},{other}]")
