"""Each benchmark runs end to end at a tiny size on a CPU, and writes numbers, hardware and versions."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks import adam_eps, decode_host_cost, full_width, logprob_memory, ppo_7b, ppo_vs_trl, sft_7b
from benchmarks.record import spread
from ppo.config import ContrastiveConfig, PpoConfig
from tests.conftest import load_phase
from workbench.doctor.hours import forward_flop, training_flop
from workbench.doctor.rehearsal import Records
from workbench.doctor.shapes import KNOWN
from workbench.run.errors import WorkbenchError

ROOT = Path(__file__).parents[2]


def result(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert {"commit", "hardware", "versions", "claim"} <= content.keys()
    assert content["hardware"]["cores"] > 0
    return content


def test_flop_of_a_7b_token():
    # 2 · 6.476 G forward; forward, gradient of the inputs and recomputation: 38.9 G (40.8 G with attention and head).
    assert forward_flop(KNOWN["llama-7b"]) == pytest.approx(12.95e9, rel=1e-3)
    assert training_flop(KNOWN["llama-7b"], checkpointing=True) == pytest.approx(38.9e9, rel=1e-2)
    assert training_flop(KNOWN["llama-7b"], checkpointing=False) == pytest.approx(25.9e9, rel=1e-2)


def test_spread():
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "repeats": [3.0, 1.0, 2.0]}


def test_logprob_memory_runs_tiny(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(logprob_memory, "measure_one", lambda *case: taken.append(case) or 1.0)
    assert logprob_memory.main(["--tiny", "--out", str(tmp_path / "r.json")]) == 0
    content = result(tmp_path / "r.json")
    assert taken == [(way, tokens, 8192) for tokens in (1024, 2048) for way in ("chunked", "whole")]
    assert len(content["cases"]) == 2
    assert content["time"]["chunked_over_whole"]["median"] > 0


def test_logprob_memory_measures_one_case():
    assert logprob_memory.one_case("whole", 512, 4096)["mib"] >= 0


def test_trl_that_cannot_be_fetched_is_one_clear_error(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="ERROR: No matching distribution found")
    monkeypatch.setattr(ppo_vs_trl.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(WorkbenchError, match=r"No matching distribution(.|\n)*unpack the wheel"):
        ppo_vs_trl.obtain_trl(tmp_path / "trl")
    assert not (tmp_path / "trl").exists()


def test_decode_host_cost_counts_fewer_operators_without_an_adapter(tmp_path):
    small = ["--layers", "2", "--rows", "2", "8", "--tokens", "3", "--repeats", "1"]
    assert decode_host_cost.main([*small, "--out", str(tmp_path / "r.json")]) == 0
    steps = result(tmp_path / "r.json")["steps"]
    few, many = steps["nf4 with adapter"]["2"]["operators"], steps["nf4 with adapter"]["8"]["operators"]
    assert few == many  # a step launches the same, however many rows there are
    assert steps["merged copy"]["8"]["operators"] < 0.7 * many


def test_adam_eps_damps_small_gradients(tmp_path):
    assert adam_eps.main(["--tiny", "--out", str(tmp_path / "r.json")]) == 0
    left = result(tmp_path / "r.json")["share_of_the_step_that_is_left"]
    shares = [left[eps]["a minibatch"] for eps in ("1e-05", "1e-06", "1e-07", "1e-08")]
    assert shares == sorted(shares)
    # By hand: entries of 1e-5 and 3e-5 lose 1/2 and 1/4 of their step at eps 1e-5.
    assert adam_eps.kept_share(torch.tensor([1e-5, -3e-5]), 1e-5) == pytest.approx((0.5 + 0.75) / 2)


def test_full_width_gives_the_phases_what_they_read_and_compares_their_losses(tmp_path):
    records = Records(*(tmp_path / f"{name}.jsonl" for name in ("prompts", "demonstrations", "preferences")))
    sizes = full_width.Sizes()
    ppo = load_phase(PpoConfig, tmp_path / "ppo.yaml", full_width.ppo_values(tmp_path, records, sizes))
    assert ppo.rollout.micro_batch_size != ppo.train.micro_batch_size  # scored and trained in other batch shapes
    dpo = load_phase(ContrastiveConfig, tmp_path / "dpo.yaml", full_width.dpo_values(tmp_path, records, 28))
    assert ppo.model.activation_checkpointing
    assert dpo.model.activation_checkpointing
    ours, theirs = (
        {"sft": {"metrics": {"sft/loss": losses}}, "ppo": {"metrics": {"policy/ratio": [losses[0]]}}}
        for losses in ([2.0, 1.5], [2.25, 1.0])
    )
    assert full_width.differences(ours, theirs) == {"sft sft/loss": 0.5}
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for names in full_width.SHOWN.values() for name in names)


@pytest.mark.slow
def test_ppo_7b_runs_tiny(tmp_path):
    assert ppo_7b.main(["--tiny", "--out", str(tmp_path / "r.json")]) == 0
    ours = result(tmp_path / "r.json")["ours"]
    assert ours["samples_per_second"] > 0
    assert 0 < ours["rollout_share"] < 1
    assert 0 < ours["fraction_of_matmul_rate"] < 1


@pytest.mark.slow
def test_sft_7b_runs_tiny(tmp_path):
    assert sft_7b.main(["--tiny", "--out", str(tmp_path / "r.json")]) == 0
    content = result(tmp_path / "r.json")
    assert content["ratio"]["median"] > 0
    assert content["trl"]["tokens_per_second"]["median"] > 0


@pytest.mark.slow
@pytest.mark.skipif(
    not (ppo_vs_trl.cache_folder() / "trl/experimental/ppo/ppo_trainer.py").is_file(),
    reason="TRL 1.12 is not in the cache: python -m benchmarks.ppo_vs_trl fetches it",
)
def test_losses_are_those_of_trl_step_by_step(tmp_path):
    material = ppo_vs_trl.Material.prepare(tmp_path, threads=1)
    losses = ppo_vs_trl.compare_losses(material, ppo_vs_trl.cache_folder(), steps=(3,))
    assert abs(losses["policy/loss"]["trl"][-1]) > 1e-3  # the policy has moved
    assert losses["policy/loss"]["largest_difference"] < 5e-6
    assert losses["value/loss"]["largest_difference"] < 5e-6
    assert losses["policy/approx_kl"]["largest_difference"] < 1e-7
