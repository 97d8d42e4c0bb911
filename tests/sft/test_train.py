"""Supervised tuning end to end on the random base."""

import itertools
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

import sft.train as phase
from sft.config import DataSection, SampleSection, SftConfig
from tests.conftest import load_phase, sft_values
from workbench.data.rules import RowRules
from workbench.model.base import BaseSpec, load_base, load_tokenizer
from workbench.model.open import open_runs
from workbench.run.checkpoints import checkpoint_steps
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder


@pytest.fixture
def configure(tmp_path, tiny_base, demonstration_file):
    """A configuration of a run of its own, with overrides."""
    number = itertools.count()

    def _configure(*overrides):
        n = next(number)
        values = sft_values(tmp_path / f"run-{n}", tiny_base, demonstration_file)
        return load_phase(SftConfig, tmp_path / f"{n}.yaml", values, "sample.prompts=0", *overrides)

    return _configure


def read_data(tokenizer, file):
    section = DataSection(train=str(file), validation_share=0.2, max_length=128)
    return phase.load_data(tokenizer, section, {"train": file}, seed=0, rules=RowRules())


def weights(folder):
    return load_file(folder.adapter / "adapter_model.safetensors")


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def kept(rows, *names):
    return [{name: row[name] for name in ("step", *names) if name in row} for row in rows]


def test_a_finished_run_has_all_its_files(sft_run, tiny_base, demonstration_file):
    folder = RunFolder.open(sft_run, phase="sft").require_finished()
    record = folder.record()
    assert record["base"]["name"] == str(tiny_base)
    assert record["base"]["fingerprint"]
    assert record["data"]["train"]["path"] == str(demonstration_file)
    assert record["demonstrations"]["too_long"] == 0
    assert record["demonstrations"]["train"] + record["demonstrations"]["validation"] == 24
    for path in (folder.config_path, folder.metrics_path, folder.samples_path, folder.path / "README.md"):
        assert path.stat().st_size, path
    assert {row["step"] for row in folder.read_samples()} == {0, 8}


def test_validation_gets_better(sft_run):
    perplexities = [
        row["validation/perplexity"] for row in RunFolder(sft_run).read_metrics() if "validation/perplexity" in row
    ]
    assert len(perplexities) == 2
    assert perplexities[1] < 0.8 * perplexities[0]


def test_logged_loss_is_of_response_tokens_only(sft_run, tiny_base, demonstration_file, configure):
    """The first logged loss equals −mean log p over the batch's response tokens under the bare base."""
    config = configure("train.max_steps=1", "train.batch_size=64", "train.micro_batch_size=64")
    folder = phase.train(config, resume=False)
    logged = next(row["sft/loss"] for row in folder.read_metrics() if "sft/loss" in row)
    tokenizer = load_tokenizer(str(tiny_base))
    model = load_base(BaseSpec(str(tiny_base), None, "nf4", "auto"), tokenizer)
    data = read_data(tokenizer, demonstration_file)
    total, tokens, everything = 0.0, 0, 0.0
    for row in data.train:
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            log_p = torch.log_softmax(model(input_ids=ids).logits[0, :-1].double(), dim=-1)
        taken = -log_p.gather(1, ids[0, 1:, None]).squeeze(1)
        counts = torch.tensor(row["completion_mask"][1:]).bool()
        total, tokens = total + float(taken[counts].sum()), tokens + int(counts.sum())
        everything += float(taken.mean()) / len(data.train)
    assert logged == pytest.approx(total / tokens, rel=1e-4)
    assert logged != pytest.approx(everything, rel=1e-4), "the oracle cannot tell the two apart"


def test_only_the_adapter_moves(configure, monkeypatch):
    seen = {}
    real = phase._trainer

    def watch(*arguments):
        trainer = real(*arguments)
        seen["model"] = trainer.model
        seen["before"] = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
        return trainer

    monkeypatch.setattr(phase, "_trainer", watch)
    phase.train(configure("train.max_steps=4"), resume=False)
    moved = {n for n, p in seen["model"].named_parameters() if not torch.equal(p, seen["before"][n])}
    adapter = {n for n in seen["before"] if "lora_" in n}
    assert moved == adapter


class Kill(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def interrupted(configure, monkeypatch, *overrides, at):
    """A run that is killed before optimizer step `at` + 1, and its configuration."""
    config, real = configure(*overrides), phase._trainer

    def with_kill(*arguments):
        trainer = real(*arguments)
        trainer.add_callback(Kill(at))
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(phase, "_trainer", with_kill)
        with pytest.raises(KeyboardInterrupt):
            phase.train(config, resume=False)
    return config


STREAMED = ("data.streaming=true", "data.packing=true", "lora.dropout=0.1")
VARIANTS = [
    (),
    ("lora.dropout=0.1", "train.micro_batch_size=4", "data.streaming=true"),
    ("adapter=prompt",),
    ("adapter=prefix",),
    ("lora.variant=dora", "lora.b_lr_ratio=4", "train.neftune_alpha=5"),
]


@pytest.mark.slow
@pytest.mark.parametrize("extra", VARIANTS, ids=" ".join)
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(configure, monkeypatch, kernels, extra):
    steps = ("train.max_steps=6", "checkpoint.every=2", kernels, *extra)
    whole = phase.train(configure(*steps), resume=False)
    config = interrupted(configure, monkeypatch, *steps, at=5)
    folder = RunFolder(whole.path.parent / config.run.dir)
    assert checkpoint_steps(folder.checkpoints) == [2, 4]
    assert not folder.finished
    resumed = phase.train(config, resume=True)
    assert_same(weights(resumed), weights(whole))
    names = ("sft/loss", "sft/learning_rate", "sft/grad_norm", "validation/loss")
    assert kept(resumed.read_metrics(), *names) == kept(whole.read_metrics(), *names)
    assert resumed.finished


@pytest.mark.slow
def test_killed_before_the_first_checkpoint_starts_over(configure, monkeypatch):
    whole = phase.train(configure("train.max_steps=3"), resume=False)
    config = interrupted(configure, monkeypatch, "train.max_steps=3", at=2)
    resumed = phase.train(config, resume=True)
    assert_same(weights(resumed), weights(whole))
    assert kept(resumed.read_metrics(), "sft/loss") == kept(whole.read_metrics(), "sft/loss")


def test_another_seed_is_another_adapter(configure):
    first, second = (phase.train(configure("train.max_steps=1", f"run.seed={seed}"), resume=False) for seed in (0, 1))
    assert any(not torch.equal(tensor, weights(second)[name]) for name, tensor in weights(first).items())


def test_a_finished_run_is_left_as_it_is(sft_run, tmp_path, tiny_base, demonstration_file, capsys):
    folder = shutil.copytree(sft_run, tmp_path / "sft")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}
    config = load_phase(SftConfig, tmp_path / "again.yaml", sft_values(folder, tiny_base, demonstration_file))
    phase.train(config, resume=True)
    assert "finished already" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()} == before
    with pytest.raises(WorkbenchError, match="already holds"):
        phase.train(config, resume=False)


def test_packing_trains(configure):
    folder = phase.train(configure("data.packing=true", "train.max_steps=2"), resume=False)
    assert folder.finished


def test_activation_checkpointing_gives_the_same_adapter(configure):
    plain = phase.train(configure("train.max_steps=2"), resume=False)
    recomputed = phase.train(configure("train.max_steps=2", "model.activation_checkpointing=true"), resume=False)
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(recomputed)[name], tensor, rtol=1e-3, atol=1e-5)


def test_the_run_answers_like_its_samples_say(sft_run, demonstration_file):
    """What samples.jsonl shows after training is what the saved adapter says."""
    from sft.evaluate import sample_answers

    roles = open_runs({"policy": sft_run})
    folder = RunFolder(sft_run)
    data = read_data(roles.tokenizer, demonstration_file)
    rows = sample_answers(roles, "policy", data.validation_records[:2], SampleSection(max_new_tokens=8), seed=0)
    written = [row for row in folder.read_samples() if row["step"] == 8]
    assert [row["response"] for row in written] == [row["response"] for row in rows]


def test_a_base_is_needed(configure):
    with pytest.raises(WorkbenchError, match=r"model\.base"):
        phase.train(configure("model.base=null"), resume=False)


@pytest.mark.slow
def test_a_process_killed_by_the_system_goes_on_bit_for_bit(configure, tmp_path):
    """`python -m sft` under SIGKILL while it streams, trains and saves, then the same command with --resume."""
    steps = ("train.max_steps=30", "checkpoint.every=1", *STREAMED)
    whole = phase.train(configure(*steps), resume=False)
    configure(*steps)
    command = [sys.executable, "-m", "sft", str(tmp_path / "1.yaml"), "sample.prompts=0", *steps]
    folder = RunFolder(tmp_path / "run-1")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and (checkpoint_steps(folder.checkpoints) or [0])[-1] < 5:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert not folder.finished
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert_same(weights(folder), weights(whole))
    names = ("sft/loss", "sft/learning_rate", "sft/grad_norm", "validation/loss")
    assert kept(folder.read_metrics(), *names) == kept(whole.read_metrics(), *names)


def test_token_accuracy_and_entropy_count_each_token_once(configure):
    whole, parts = (
        phase.train(configure(f"train.micro_batch_size={size}", "train.max_steps=1"), resume=False).read_metrics()
        for size in (8, 1)
    )
    for name in ("sft/token_accuracy", "sft/entropy", "sft/loss"):
        first, second = (next(row[name] for row in rows if name in row) for rows in (whole, parts))
        assert second == pytest.approx(first, abs=1e-4), name
