"""The commands of a loop: each is one that a user could type, and each round builds on the round before."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from annotate.config import PairsSection
from reward.config import EnsembleSection
from tests.conftest import load_phase
from workbench.loop.config import LoopConfig
from workbench.loop.plan import Round, check_loop_inputs, page_command, plan
from workbench.loop.run import _export_again, run_loop
from workbench.run.config import load_config
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.lineage import data_fingerprint
from workbench.run.steps import Ledger, check_commands

TINY = Path("configs/tiny/loop.yaml")


def words(steps, number, part):
    return next(step for step in steps if (step.number, step.part) == (number, part)).words


def test_the_shipped_loop():
    config, _ = load_config(LoopConfig, TINY)
    steps = plan(config)
    assert [step.part for step in steps if step.number == 0] == ["sft", "measure"]
    for number in (1, 2):
        parts = [step.part for step in steps if step.number == number]
        assert parts == ["sample", "choose", "label", "export", "reward", "policy", "measure"]
    assert len({step.name for step in steps}) == len(steps)
    assert plan(config, 1) == steps[: len(plan(config, 1))]
    problems = Problems()
    assert check_loop_inputs(config, problems) == ["4 rounds of 300 labels, 1,200 in all; strategy of choice: random"]
    assert not problems.errors


def test_each_round_builds_on_the_round_before():
    steps = plan(load_config(LoopConfig, TINY, ["loop.strategy=wide-gaps"])[0])
    assert "pairs.run=runs/loop/sft" in words(steps, 1, "sample")
    assert "pairs.run=runs/loop/round-1/policy" in words(steps, 2, "sample")
    first, second = words(steps, 1, "choose"), words(steps, 2, "choose")
    assert first[2:4] == ("--pool", "runs/loop/round-1/pool.jsonl")
    assert first[first.index("--strategy") + 1] == "random", "the first round has no reward model"
    assert second[2] == "runs/loop/round-1/reward"
    assert second[second.index("--strategy") + 1] == "wide-gaps"
    assert second[-2:] == ("--without", "runs/loop/round-1/preferences.jsonl")
    assert second[second.index("--random-share") + 1] == "0.2", "the control of the strategy"
    assert "--random-share" not in first
    fit, train = words(steps, 2, "reward"), words(steps, 2, "policy")
    assert {"model.start=runs/loop/sft", "data.train=runs/loop/round-2/preferences.jsonl"} <= set(fit)
    assert {"model.start=runs/loop/round-1/policy", "model.reward=runs/loop/round-2/reward"} <= set(train)
    assert "model.reference=runs/loop/sft" in train, "the KL is to the supervised model in all rounds"
    assert "model.start=runs/loop/sft" in words(steps, 1, "policy"), "which is its reference too"
    stores = {word for step in steps for word in step.words if word.startswith("store.url=")}
    assert stores == {"store.url=runs/loop/labels.sqlite"}, "one store for all rounds"
    seeds = {word for step in steps for word in step.words if word.startswith(("run.seed=", "pairs.seed="))}
    assert {"run.seed=0", "run.seed=1", "run.seed=2", "pairs.seed=1", "pairs.seed=2"} <= seeds
    measured = words(steps, 2, "measure")
    assert measured[2] == "runs/loop/round-2/policy"
    assert measured[measured.index("--against") + 1] == "runs/loop/sft"


def test_people_are_waited_for_and_other_rounds_are_no_other_command(tmp_path):
    config, _ = load_config(LoopConfig, TINY, ["loop.annotators=people", "loop.strategy=length-balanced"])
    steps = plan(config)
    load, label = (next(s for s in steps if (s.number, s.part) == (2, part)) for part in ("load", "label"))
    assert load.words[:4] == ("annotate", "load", "configs/tiny/annotate.yaml", "runs/loop/round-2/ranked.jsonl")
    assert label.words[:5] == ("annotate", "wait", "configs/tiny/annotate.yaml", "--labels", "300")
    assert label.shown
    assert label.further == ("--rounds", "4")
    ledger = Ledger(tmp_path / "steps.json")
    ledger.add(label, {"seconds": 1.0})
    longer, _ = load_config(LoopConfig, TINY, ["loop.annotators=people", "loop.rounds=9"])
    again = next(s for s in plan(longer) if (s.number, s.part) == (2, "label"))
    assert again.further == ("--rounds", "9")
    assert ledger.is_done(again)
    choose = words(steps, 1, "choose")
    assert choose[choose.index("--strategy") + 1] == "length-balanced", "it needs no reward model"
    assert "--random-share" not in words(steps, 2, "choose"), "nothing to compare it with"
    assert page_command(config).startswith("python -m annotate serve configs/tiny/annotate.yaml pairs.number=800")
    assert page_command(config).endswith("store.url=runs/loop/labels.sqlite pairs.out=null")
    spaced, _ = load_config(LoopConfig, TINY, ["loop.annotators=people", "loop.out=my runs/loop"])
    assert "store.url=my runs/loop/labels.sqlite" in shlex.split(page_command(spaced))


def test_a_contrastive_method_reads_the_labels():
    change = "loop.policy={use: configs/tiny/dpo.yaml, set: [data.limit=0]}"
    steps = plan(load_config(LoopConfig, TINY, [change])[0])
    train = words(steps, 2, "policy")
    assert "data.train=runs/loop/round-2/preferences.jsonl" in train
    assert not [word for word in train if word.startswith("model.reward")]


def test_a_finished_supervised_run_keeps_its_own_evaluation(tmp_path):
    values = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    values["loop"]["sft"] = {"use": str(tmp_path)}
    config = load_phase(LoopConfig, tmp_path / "loop.yaml", values)
    steps = plan(config)
    assert steps[0].part == "measure"
    assert steps[0].words[steps[0].words.index("--out") + 1] == "runs/loop/sft-evaluation.json"
    assert f"pairs.run={tmp_path}" in words(steps, 1, "sample")


def test_wrong_sources_are_said_together(tmp_path):
    values = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    values["loop"] |= {"sft": {"use": "runs/none"}, "reward": {"use": "runs/none"}}
    values["loop"]["policy"] = {"use": "none.yaml"}
    problems = Problems()
    check_loop_inputs(load_phase(LoopConfig, tmp_path / "loop.yaml", values), problems)
    with pytest.raises(WorkbenchError, match=r"'runs/none' is not a YAML file(.|\n)*none.yaml(.|\n)*no such run"):
        problems.raise_if_any()


def test_values_without_effect_and_missing_files_are_said_before_the_first_round(tmp_path):
    values = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    values["loop"]["annotate"]["set"] = ["pairs.seed=7"]
    check_loop_inputs(load_phase(LoopConfig, tmp_path / "loop.yaml", values), problems := Problems())
    assert "sample: set: 'pairs.seed=7' would have no effect" in str(problems.errors[0])
    values["measure"] |= {"prompts": "none.jsonl", "demonstrations": "few.jsonl", "judge": "runs/none"}
    check_loop_inputs(load_phase(LoopConfig, tmp_path / "loop.yaml", values), problems := Problems())
    said = "\n".join(map(str, problems.errors))
    for words in ("none.jsonl: no such file", "few.jsonl: no such file", "runs/none: no run here"):
        assert words in said


def test_fewer_rounds_than_are_finished_are_refused(tmp_path):
    done = {f"round {number} measure": {"of": "", "seconds": 1.0} for number in range(4)}
    (tmp_path / "steps.json").write_text(json.dumps(done), encoding="utf-8")
    config, _ = load_config(LoopConfig, TINY, [f"loop.out={tmp_path}", "loop.rounds=2"])
    with pytest.raises(WorkbenchError, match=r"is 2, but .* holds 3 finished rounds(.|\n)*--rounds 3"):
        run_loop(config)


@pytest.mark.slow
def test_the_commands_of_a_loop_with_people_pass_their_check(tmp_path):
    config, _ = load_config(LoopConfig, TINY, ["loop.annotators=people", f"loop.out={tmp_path}"])
    check_commands(plan(config), tmp_path)


def test_sizes_that_do_not_fit_are_said_before_the_first_round(tmp_path):
    one = tmp_path / "one.jsonl"
    one.write_text('{"id": "1", "prompt": "Hi"}\n', encoding="utf-8")
    values = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    values["measure"]["prompts"] = str(one)
    check_loop_inputs(load_phase(LoopConfig, tmp_path / "loop.yaml", values), problems := Problems())
    assert "has 1 prompt" in str(problems.errors[0])
    changes = ["loop.labels=801", "loop.strategy=disagreement", "loop.reward.set=[ensemble.members=1]"]
    check_loop_inputs(load_config(LoopConfig, TINY, changes)[0], problems := Problems())
    labels, strategy = map(str, problems.errors)
    assert "loop.labels: is 801, but a round samples 800 pairs at most" in labels
    assert "loop.strategy: is disagreement, which compares models, but each round fits one" in strategy
    check_loop_inputs(load_config(LoopConfig, TINY, ["loop.labels=800", *changes[1:2]])[0], problems := Problems())
    assert not problems.errors


@pytest.mark.parametrize("value", ["pairs.number=abc", "pairs=null", "queue=null", "queue=3"])
def test_values_of_a_wrong_type_are_left_to_their_commands(value):
    """Their dry runs name them with what was expected."""
    config, _ = load_config(LoopConfig, TINY, [f"loop.annotate.set=[{value}]", "loop.labels=9999"])
    check_loop_inputs(config, problems := Problems())
    assert ["loop.labels" in str(error) for error in problems.errors] == ([True] if "queue" in value else [])
    assert Round(config, 1).item_rules.mask == ()


def test_a_default_committee_is_one_model():
    """`ensemble.members` of the reward phase, which the check of the loop supposes where nothing is set."""
    assert EnsembleSection().members == 1
    assert PairsSection().responses_per_prompt == 2


def test_other_contents_of_the_held_out_prompts_are_another_measurement(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"id": "1", "prompt": "Hi"}\n{"id": "2", "prompt": "Ho"}\n', encoding="utf-8")
    config, _ = load_config(LoopConfig, TINY, [f"measure.prompts={prompts}"])
    measure = next(step for step in plan(config) if step.part == "measure")
    ledger = Ledger(tmp_path / "steps.json")
    ledger.add(measure, {"seconds": 1.0})
    assert ledger.is_done(measure)
    prompts.write_text('{"id": "1", "prompt": "Hi"}\n{"id": "3", "prompt": "Ha"}\n', encoding="utf-8")
    with pytest.raises(WorkbenchError, match=r"round 0 measure: was run with other values(.|\n)*prompts.jsonl"):
        ledger.is_done(measure)


def test_a_stopped_loop_may_be_told_to_go_on_without_passports(tmp_path):
    free = plan(load_config(LoopConfig, TINY)[0])  # has model.force=true
    strict = plan(load_config(LoopConfig, TINY, ["loop.policy.set=[data.train=rare:prompts]"])[0])
    ledger = Ledger(tmp_path / "steps.json")
    forced = load_config(LoopConfig, TINY, ["loop.policy.set=[data.train=rare:prompts,model.force=true]"])[0]
    step = next(step for step in strict if (step.number, step.part) == (1, "policy"))
    ledger.add(step, {"seconds": 1.0})
    again = next(step for step in plan(forced) if (step.number, step.part) == (1, "policy"))
    assert again.further == ("model.force=true",)
    assert ledger.is_done(again)
    assert not [word for step in free for word in step.words if word.startswith("model.force")]


def iterations(step):
    return [word for word in (*step.words, *step.further) if word.startswith("train.iterations")]


def test_the_last_round_has_values_of_its_own_and_stays_if_rounds_are_added(tmp_path):
    changes = [
        "loop.policy.set=[train.iterations=20]",
        "loop.last.set=[train.iterations=100]",
        "loop.last.start=previous",
        "loop.rounds=2",
    ]
    two = [step for step in plan(load_config(LoopConfig, TINY, changes)[0]) if step.part == "policy"]
    assert list(map(iterations, two)) == [["train.iterations=20"], ["train.iterations=100"]]
    ledger = Ledger(tmp_path / "steps.json")
    for step in two:
        ledger.add(step, {"seconds": 1.0})
    assert all(map(ledger.is_done, two))
    four = [
        step for step in plan(load_config(LoopConfig, TINY, [*changes, "loop.rounds=4"])[0]) if step.part == "policy"
    ]
    assert [iterations(step)[0][-3:] for step in four] == ["=20", "=20", "=20", "100"]
    assert [ledger.is_done(step) for step in four] == [True, True, False, False]
    other = [*changes, "loop.last.set=[train.iterations=200]"]
    with pytest.raises(WorkbenchError, match="round 2 policy: was run with other values"):
        ledger.is_done(plan(load_config(LoopConfig, TINY, other)[0])[-2])


def test_the_last_policy_may_start_anew_from_the_supervised_model():
    steps = plan(load_config(LoopConfig, TINY, ["loop.last.start=sft", "loop.rounds=3"])[0])
    starts = [word for step in steps if step.part == "policy" for word in step.words if word.startswith("model.start")]
    sft, first = "model.start=runs/loop/sft", "model.start=runs/loop/round-1/policy"
    assert starts == [sft, first, sft]
    assert "model.reward=runs/loop/round-3/reward" in words(steps, 3, "policy")


def test_values_of_the_last_round_are_checked_with_the_others(tmp_path):
    values = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    values["loop"]["last"] = {"set": ["run.seed=7"]}
    check_loop_inputs(load_phase(LoopConfig, tmp_path / "loop.yaml", values), problems := Problems())
    assert "policy: set: 'run.seed=7' would have no effect" in str(problems.errors[0])
    config, _ = load_config(LoopConfig, TINY, ["loop.last.set=[train.iteratons=9]", f"loop.out={tmp_path}"])
    policies = [step for step in plan(config) if step.part == "policy"]
    with pytest.raises(WorkbenchError, match=r"did you mean train.iterations"):
        check_commands(policies, tmp_path)


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """A loop whose first reward model was refused: its first round, the ledger, and the commands that are started."""
    config, _ = load_config(LoopConfig, TINY, [f"loop.out={tmp_path / 'loop'}"])
    this, started = Round(config, 1), []
    this.reward.mkdir(parents=True)
    this.labels.write_text("as they were\n", encoding="utf-8")
    train = data_fingerprint(this.labels)
    record = {"phase": "reward", "status": "finished", "name": "reward", "data": {"train": train}}
    (this.reward / "run.json").write_text(json.dumps(record), encoding="utf-8")
    passport = {"outcome": "fail", "failed": ["accuracy"], "findings": {}}
    (this.reward / "passport.json").write_text(json.dumps(passport), encoding="utf-8")
    ledger = Ledger(this.out / "steps.json")
    for step in plan(config, 1):
        if step.name not in ("round 1 policy", "round 1 measure"):
            ledger.add(step, {"seconds": 1.0})
    monkeypatch.setattr("workbench.loop.run.run_steps", lambda steps, *_, **__: started.extend(steps))
    return this, started


def test_new_labels_after_a_refused_passport_fit_another_reward_model(refused, capsys):
    this, started = refused
    _export_again(this)
    assert [step.part for step in started] == ["export"]
    done = Ledger.open(this.out).done
    assert "round 1 reward" in done, "the same labels would give the same model"
    this.labels.write_text("as they are now\n", encoding="utf-8")
    _export_again(this)
    assert "round 1 reward" not in Ledger.open(this.out).done
    assert (this.folder / "refused-1/passport.json").is_file()
    assert not this.reward.exists()
    assert "the labels have changed" in capsys.readouterr().out


def test_a_killed_refit_after_a_refused_passport_goes_on(refused):
    this, started = refused
    this.reward.rename(this.folder / "refused-1")
    _export_again(this)
    assert "round 1 reward" not in Ledger.open(this.out).done
    assert not started


@pytest.mark.parametrize("change", ["passed", "began"])
def test_a_policy_keeps_the_reward_model_that_it_may_train_against(refused, change):
    this, started = refused
    if change == "passed":
        (this.reward / "passport.json").write_text(json.dumps({"outcome": "pass", "failed": [], "findings": {}}))
    else:
        this.policy.mkdir()
    this.labels.write_text("as they are now\n", encoding="utf-8")
    _export_again(this)
    assert not started
    assert "round 1 reward" in Ledger.open(this.out).done
