"""What a command needs is checked before a model library is loaded, and all that is wrong is said at once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from ppo.config import Contrastive, ContrastiveConfig, PpoConfig
from ppo.inputs import check_contrastive_inputs, check_contrastive_values
from ppo.inputs import check_inputs as check_ppo
from reward.config import RewardConfig
from reward.inputs import check_inputs as check_reward
from sft.config import SftConfig
from sft.inputs import check_inputs as check_sft
from tests.conftest import load_phase, reward_values, sft_values, write_jsonl
from workbench.data.inputs import check_divides, usable_base, usable_run
from workbench.data.readers import read_demonstrations
from workbench.run.errors import Problems, WorkbenchError

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs/tiny"
HEAVY = ("torch", "transformers", "trl", "datasets", "peft")
WITNESS = f"""
import atexit, runpy, sys
atexit.register(lambda: print("loaded:", *(name for name in {HEAVY} if name in sys.modules)))
module, *words = sys.argv[1:]
sys.argv[1:] = words
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""Runs `python -m MODULE WORDS`, and says at the end which model libraries were loaded."""


def run(folder: Path, *words: str) -> tuple[int, str, str]:
    """Exit code, what was said, and the model libraries that were loaded."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    done = subprocess.run(
        [sys.executable, "-c", WITNESS, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    shown, _, loaded = done.stdout.rpartition("loaded:")
    return done.returncode, shown + done.stderr, loaded.strip()


@pytest.fixture
def folder(tmp_path):
    """A broken pairs file, a file that is no JSON, a run that stopped, an occupied folder, a base without weights."""
    write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": "b"}])
    (tmp_path / "broken.jsonl").write_text("{\n", encoding="utf-8")
    for name, status in (("stopped", "started"), ("bare", "finished")):
        (tmp_path / name).mkdir()
        record = {"phase": "sft", "status": status, "base": {"name": str(tmp_path / "gone")}}
        (tmp_path / name / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "base/tokenizer.json").write_text("{}", encoding="utf-8")
    return tmp_path


SFT, REWARD, PPO, DPO, LABELS = (str(CONFIGS / f"{name}.yaml") for name in ("sft", "reward", "ppo", "dpo", "annotate"))
LADDER = str(CONFIGS / "pairs.yaml")
SIZES = ("train.batch_size=10", "train.micro_batch_size=4")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            (
                "sft",
                SFT,
                "model.base=base",
                "data.train=broken.jsonl",
                "data.validation=none.jsonl",
                "run.dir=bare",
                *SIZES,
            ),
            ("holds no weights", "broken JSON", "none.jsonl: no such file", "bare: already holds", "does not divide"),
        ),
        (
            (
                "reward",
                REWARD,
                "model.start=stopped",
                "data.train=pairs.jsonl",
                "passport.facts=none",
                "run.dir=base",
                *SIZES,
            ),
            (
                "stopped: this sft run is not finished",
                "'rejected' is missing",
                "none: no such file",
                "base: is not empty",
            ),
        ),
        (
            ("reward", REWARD, "model.start=stopped", "data.train=none.jsonl", "passport.judge=bare"),
            ("stopped: this sft run", "none.jsonl: no such file", "bare: is a sft run"),
        ),
        (
            (
                *("ppo", PPO, "model.start=bare", "model.reward=[bare,none]", "data.train=none.jsonl", "run.dir=base"),
                *("rollout.batch_size=50", "train.minibatch_size=20", "train.micro_batch_size=7"),
            ),
            (
                "adapter is missing",
                "is a sft run",
                "none: no run here",
                "none.jsonl",
                "20 does not",
                "7 does not",
                "base: is",
            ),
        ),
        (
            ("ppo", DPO, "model.start=none", "data.train=pairs.jsonl", "run.dir=stopped"),
            ("none: no run here", "'rejected' is missing", "stopped: is a sft run"),
        ),
        (
            ("annotate", "pairs", LABELS, "pairs.run=stopped", "pairs.prompts=none.jsonl"),
            ("stopped: this sft run", "none.jsonl: no such file"),
        ),
        (
            ("annotate", "pairs", LABELS, "pairs.run=stopped", "pairs.prompts=pairs.jsonl", "pairs.out=./pairs.jsonl"),
            ("stopped: this sft run", "pairs.jsonl: is one of the inputs, and would be overwritten"),
        ),
        (
            ("annotate", "pairs", LABELS, "pairs.run=stopped", "pairs.out=x.sqlite", "store.url=x.sqlite"),
            ("stopped: this sft run", "x.sqlite: is one of the inputs, and would be overwritten"),
        ),
        (
            ("ppo", "pairs", LADDER, "ladder.prompts=preferences.jsonl", "ladder.out=."),
            ("preferences.jsonl: is one of the inputs, and would be overwritten",),
        ),
        (("workbench", "validate", "pairs.jsonl", "--out", "./pairs.jsonl"), ("pairs.jsonl: is one of the inputs",)),
        (("annotate", "load", LABELS, "none.jsonl", "store.url=x.sqlite"), ("none.jsonl: no such file",)),
        (("annotate", "serve", LABELS, "pairs.out=broken.jsonl", "store.url=x.sqlite"), ("broken JSON",)),
        (("annotate", "simulate", LABELS, "pairs.out=none.jsonl", "store.url=x.sqlite"), ("there are no pairs",)),
        (
            ("annotate", "campaign", "start", LABELS, "campaign.runs=[none,stopped]", "campaign.prompts=none.jsonl"),
            ("none: is not a run folder", "stopped: this sft run", "none.jsonl: no such file"),
        ),
        (
            (
                "workbench",
                "evaluate",
                "stopped",
                "none",
                "--prompts",
                "none.jsonl",
                "--reward",
                "bare",
                "--against",
                "base",
            ),
            ("stopped: this sft run", "none: no run here", "bare: is a sft run", "base: no run here"),
        ),
        (("workbench", "report", "none"), ("none: no such folder",)),
        (("reward", "score", "bare", "pairs.jsonl"), ("bare: is a sft run", "is missing")),
        (
            ("reward", "explain", "none", "--prompt", " ", "--response", "x"),
            ("none: no run here", "prompt: it is empty"),
        ),
        (
            (
                *("reward", "explain", "none", "--prompt", "p", "--response", "x"),
                *("--preferences", "broken.jsonl", "--relabel", "broken.jsonl", "--out", "./broken.jsonl"),
            ),
            ("broken.jsonl: is one of the inputs", "none: no run here", "broken JSON"),
        ),
        (
            ("reward", "explain", "none", "--spans", "pairs.jsonl", "--out", "pairs.jsonl"),
            ("pairs.jsonl: is one of the inputs", "none: no run here"),
        ),
        (
            (
                *("reward", "acquire", "none", "--pool", "broken.jsonl", "--n", "1"),
                *("--out", "broken.jsonl", "--items", "x", "--ranked", "x"),
            ),
            (
                "none: no run here",
                "broken JSON",
                "broken.jsonl: is one of the inputs",
                "x: would be written twice: for --items and for --ranked",
            ),
        ),
        (("reward", "passport", "bare"), ("bare: is a sft run",)),
    ],
    ids=lambda value: " ".join(value[:2]).replace(str(CONFIGS), "") if isinstance(value, tuple) else None,
)
def test_all_that_is_wrong_is_said_at_once_and_nothing_heavy_is_loaded(folder, words, says):
    code, said, loaded = run(folder, *words)
    assert code == 2, said
    assert "Traceback" not in said
    assert said.count("error: ") == 1, said
    for text in says:
        assert text in said
    assert loaded == ""
    assert not (folder / "runs").exists()


def config_of(tmp_path, values, config_class, *overrides):
    return load_phase(config_class, tmp_path / "config.yaml", values, *overrides)


def test_good_inputs_are_found_and_counted(tmp_path, tiny_base, demonstration_file):
    problems = Problems()
    config = config_of(tmp_path, sft_values(tmp_path / "run", tiny_base, demonstration_file), SftConfig)
    found = check_sft(config, problems)
    assert problems.errors == []
    base, *counted = found
    assert base.startswith(f"base: {tiny_base}: Llama, ")
    assert "256 positions" in base
    train, validation = (int(line.rsplit(": ", 1)[1].split()[0]) for line in counted)
    assert train + validation == 24
    assert not (tmp_path / "run").exists()


def test_a_dry_run_shows_problems_as_comments_and_its_yaml_reads_back(tmp_path, capsys):
    from sft.__main__ import main
    from workbench.run.config import load_config

    assert main([SFT, "data.train=none.jsonl", "train.lr=3e-5", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "# problem: none.jsonl: no such file" in printed
    (tmp_path / "again.yaml").write_text(printed, encoding="utf-8")
    again = load_config(SftConfig, tmp_path / "again.yaml")[0]
    assert again == load_config(SftConfig, Path(SFT), ["data.train=none.jsonl", "train.lr=3e-5"])[0]


def test_a_dry_run_counts_what_the_files_hold(tmp_path, capsys, tiny_base, demonstration_file):
    from sft.__main__ import main

    words = [f"model.base={tiny_base}", f"data.train={demonstration_file}", "data.validation=null"]
    words += ["data.validation_share=0.3", "--dry-run"]
    assert main([SFT, f"run.dir={tmp_path / 'run'}", *words]) == 0
    comments = [line for line in capsys.readouterr().out.splitlines() if line.startswith("#")]
    assert any(f"data.train: {demonstration_file}" in line for line in comments)
    assert not any("problem" in line for line in comments)


def test_how_many_labels_a_passport_needs_is_said_before_the_fit(tmp_path, sft_run, preference_file):
    config = config_of(
        tmp_path, reward_values(tmp_path / "run", sft_run, preference_file), RewardConfig, "passport.at_end=true"
    )
    problems = Problems()
    (line,) = (line for line in check_reward(config, problems) if "passport" in line)
    assert problems.errors == []
    assert "24 labels, of which 8 are held out" in line
    assert "20 held-out pairs" in line
    assert "about 60 labels" in line  # 20 of 60 is the third that is held out now
    enough = config.model_copy(update={"passport": config.passport.model_copy(update={"fewest": 8})})
    assert not any("passport" in line for line in check_reward(enough, problems))


def test_every_passport_and_division_is_in_the_first_round(tmp_path, sft_run, reward_run, prompt_file):
    values = {
        "run": {"dir": str(tmp_path / "run")},
        "model": {"start": str(sft_run), "reward": [str(reward_run)]},
        "data": {"train": str(prompt_file), "heldout_share": 0.3, "max_prompt_length": 64},
        "rollout": {"batch_size": 10},
        "train": {"minibatch_size": 4, "micro_batch_size": 3},
    }
    problems = Problems()
    found = check_ppo(config_of(tmp_path, values, PpoConfig), problems)
    assert [error.place for error in problems.errors] == [
        "train.minibatch_size",
        "train.micro_batch_size",
        str(reward_run),
    ]
    assert "has no passport" in problems.errors[2].problem
    assert any("prompts to train on" in line for line in found)
    forced = Problems()
    check_ppo(
        config_of(
            tmp_path, values, PpoConfig, "model.force=true", "train.minibatch_size=5", "train.micro_batch_size=5"
        ),
        forced,
    )
    assert forced.errors == []


@pytest.mark.parametrize(("small", "large", "fits"), [(4, 10, 2), (256, 100, 100), (7, 9, 3), (5, 7, 1)])
def test_the_remedy_of_a_division_divides(small, large, fits):
    with pytest.raises(WorkbenchError, match=f"key={fits}$"):
        check_divides("key", small, "whole", large)
    check_divides("key", fits, "whole", large)


def test_a_run_whose_weights_are_gone_is_not_usable(tmp_path, reward_run):
    import shutil

    copy = tmp_path / "reward"
    shutil.copytree(reward_run, copy)
    assert usable_run(copy, "reward").path == copy
    (copy / "head.safetensors").unlink()
    with pytest.raises(WorkbenchError, match=r"head\.safetensors is missing"):
        usable_run(copy, "reward")


def test_a_base_is_looked_at_whole(tmp_path, tiny_base):
    import shutil

    assert usable_base(str(tiny_base)).folder == tiny_base
    for missing, says in (("tokenizer*", "holds no tokenizer"), ("*.safetensors", "holds no weights")):
        copy = tmp_path / missing.strip("*.")
        shutil.copytree(tiny_base, copy)
        for file in copy.glob(missing):
            file.unlink()
        with pytest.raises(WorkbenchError, match=says):
            usable_base(str(copy))
    (copy / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(WorkbenchError, match="is not JSON"):
        usable_base(str(copy))
    with pytest.raises(WorkbenchError, match=r"model\.base"):
        usable_base(None)


@pytest.mark.parametrize("phase", ["sft", "reward", "ppo", "dpo"])
def test_lengths_beyond_the_positions_of_the_base_are_an_early_error(
    tmp_path, phase, tiny_base, demonstration_file, preference_file, prompt_file, sft_run
):
    """The base has 256 positions."""
    run, problems = tmp_path / "run", Problems()
    if phase == "sft":
        values = sft_values(run, tiny_base, demonstration_file)
        check_sft(config_of(tmp_path, values, SftConfig, "data.max_length=257"), problems)
    elif phase == "reward":
        values = reward_values(run, sft_run, preference_file)
        check_reward(config_of(tmp_path, values, RewardConfig, "data.max_length=257"), problems)
    elif phase == "dpo":
        values = {"method": "dpo", "run": {"dir": str(run)}, "model": {"start": str(sft_run)}}
        values["data"] = {"train": str(preference_file), "max_length": 257}
        check_contrastive_inputs(config_of(tmp_path, values, ContrastiveConfig), problems)
    else:
        values = {"run": {"dir": str(run)}, "model": {"start": str(sft_run), "reward": []}}
        values["data"] = {"train": str(prompt_file), "heldout_share": 0.3, "max_prompt_length": 200}
        check_ppo(config_of(tmp_path, values, PpoConfig, "rollout.max_new_tokens=57"), problems)
    (error,) = problems.errors
    assert "256 positions" in error.problem
    assert "=256" in error.remedy if phase != "ppo" else error.remedy == "rollout.max_new_tokens=56"


PENALTY = {"label_smoothing": 0.2, "unbiased": True, "margin": 2.0, "length_coef": 1.0}
KTO_ONLY = {"desirable_weight": 1.5, "undesirable_weight": 2.0}


@pytest.mark.parametrize("method", get_args(Contrastive))
def test_an_option_that_the_method_does_not_read_is_refused(method):
    """The keys that KTO, sft and the pairwise methods read, by hand; defaults are accepted."""
    values = {**PENALTY, **KTO_ONLY, "soft_labels": True, "sft_coef": 0.7}
    pairwise = {*PENALTY, "soft_labels", "sft_coef"}
    read = {"kto": set(KTO_ONLY), "sft": {"soft_labels", "sft_coef"}}.get(method, pairwise)
    config = {"method": method, "run": {"dir": "r"}, "model": {"start": "a"}, "data": {"train": "b"}}
    for loss, expected in ((values, values.keys() - read), ({"sft_coef": float(method == "sft")}, set())):
        check_contrastive_values(ContrastiveConfig.model_validate({**config, "loss": loss}), problems := Problems())
        assert {str(error.place) for error in problems.errors} == {f"loss.{name}" for name in expected}
        assert all(str(error.remedy).startswith(f"{error.place}=") for error in problems.errors)


def test_a_weight_of_records_that_nobody_mixes_in_is_refused():
    config = {"method": "dpo", "run": {"dir": "r"}, "model": {"start": "a"}}
    for mix, expected in ((None, ["data.mix_weight"]), ("c", [])):
        data = {"train": "b", "mix": mix, "mix_weight": 3.0}
        check_contrastive_values(ContrastiveConfig.model_validate({**config, "data": data}), problems := Problems())
        assert [error.place for error in problems.errors] == expected


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_mixed_in_records_are_counted_as_they_are_used(tmp_path, method, preference_file, sft_run):
    """Sixteen pairs of training prompts and eight of held-out ones; then ties or held-out ones only; then no file."""
    rows = [json.loads(line) for line in preference_file.read_text().splitlines()]
    per_pair = 2 if method == "kto" else 1
    for name, mixed in {
        "all": [{**row, "split": "train"} for row in rows],
        "heldout": [{**row, "split": "heldout"} for row in rows],
        "ties": [*({**row, "strength": 0} for row in rows[:16]), *rows[16:]],
        "gone": [],
    }.items():
        path = write_jsonl(tmp_path / f"{name}.jsonl", mixed)
        if name == "gone":
            path.unlink()
        values = {"method": method, "run": {"dir": str(tmp_path / "run")}, "model": {"start": str(sft_run)}}
        values["data"] = {"train": str(preference_file), "mix": str(path), "max_length": 128}
        config = config_of(tmp_path, values, ContrastiveConfig)
        lines = check_contrastive_inputs(config, problems := Problems())
        said = [line for line in lines if "data.mix" in line]
        problem = [error.problem for error in problems.errors]
        if name == "all":
            assert not problem
            assert f"{16 * per_pair} records at weight 1; {8 * per_pair} left out" in said[0]
        elif name == "gone":
            assert "no such file" in problem[0]
            assert not said
        else:
            assert "can be mixed in" in problem[0]


@pytest.mark.parametrize("phase", ["reward", "dpo", "kto"])
def test_a_training_file_without_any_weight_is_refused(tmp_path, phase, preference_file, sft_run):
    """Held-out records may keep theirs, and one record with a weight is enough."""
    rows = [json.loads(line) for line in preference_file.read_text().splitlines()]
    for light, expected in ((16, ["all 32" if phase == "kto" else "all 16"]), (15, [])):
        path = write_jsonl(
            tmp_path / "light.jsonl", [{**row, "weight": 1.0 * (n >= light)} for n, row in enumerate(rows)]
        )
        if phase == "reward":
            config = config_of(tmp_path, reward_values(tmp_path / "run", sft_run, path), RewardConfig)
        else:
            values = {"method": phase, "run": {"dir": str(tmp_path / "run")}, "model": {"start": str(sft_run)}}
            config = config_of(tmp_path, {**values, "data": {"train": str(path)}}, ContrastiveConfig)
        (check_reward if phase == "reward" else check_contrastive_inputs)(config, problems := Problems())
        found = [error for error in problems.errors if "weight 0" in error.problem]
        assert [error.problem[:6] for error in found] == expected
        assert all("data.ignore" in str(error.remedy) for error in found)


def test_a_file_is_read_once_while_it_stays_the_same(tmp_path, monkeypatch):
    from workbench.data import reading

    path = write_jsonl(tmp_path / "d.jsonl", [{"prompt": "a", "response": "b"}])
    read = []
    monkeypatch.setattr(reading, "read_rows", lambda name, real=reading.read_rows: read.append(name) or real(name))
    first = read_demonstrations(path)
    first.clear()
    assert [record.response for record in read_demonstrations(path)] == ["b"]
    assert len(read) == 1
    write_jsonl(path, [{"prompt": "a", "response": "other"}])
    assert [record.response for record in read_demonstrations(path)] == ["other"]
    assert len(read) == 2


def test_rows_left_out_are_listed_for_every_reader_of_a_file(tmp_path):
    from workbench.data.rules import RowRules

    rows = [{"prompt": "a", "response": "b"}, {"prompt": "a", "response": ""}]
    path = write_jsonl(tmp_path / "d.jsonl", rows)
    for _ in range(2):
        rules = RowRules(bad_rows="skip")
        assert len(read_demonstrations(path, rules)) == 1
        assert len(rules.left_out) == 1
        read_demonstrations(path, rules)
        assert len(rules.left_out) == 1


def test_evaluation_answers_at_the_length_that_the_runs_sampled(tmp_path):
    from workbench.evaluate.inputs import SHORT, answer_length
    from workbench.run.folder import RunFolder

    folders = []
    for name, phase, text in (
        ("sft", "sft", "sample: {max_new_tokens: 40}"),
        ("ppo", "ppo", "rollout: {max_new_tokens: 300}"),
        ("dpo", "ppo", "method: dpo"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"phase": phase, "status": "finished"}), encoding="utf-8")
        (tmp_path / name / "config.yaml").write_text(text, encoding="utf-8")
        folders.append(RunFolder.open(tmp_path / name))
    assert answer_length(folders[:1]) == 40
    assert answer_length(folders) == 300
    assert answer_length(folders[2:]) == SHORT


@pytest.mark.slow
def test_labels_are_kept_without_a_pairs_section(tmp_path):
    write_jsonl(tmp_path / "items.jsonl", [{"prompt": "a", "response_a": "b", "response_b": "c"}])
    (tmp_path / "labels.yaml").write_text("store: {url: labels.sqlite}\n", encoding="utf-8")
    code, said, _ = run(tmp_path, "annotate", "load", "labels.yaml", "items.jsonl")
    assert code == 0, said
    assert "1 new" in said
    code, said, _ = run(tmp_path, "annotate", "status", "labels.yaml")
    assert code == 0, said
    code, said, _ = run(tmp_path, "annotate", "pairs", "labels.yaml", "pairs.prompts=items.jsonl")
    assert code == 2
    assert "pairs.run: has no value" in said
    assert "pairs.out: has no value" in said
    code, said, _ = run(tmp_path, "annotate", "export", "labels.yaml")
    assert code == 2
    assert "export.out: has no value" in said
    (tmp_path / "none.yaml").write_text("queue: {overlap: 1}\n", encoding="utf-8")
    code, said, _ = run(tmp_path, "annotate", "status", "none.yaml")
    assert code == 2
    assert "store.url: has no value" in said
