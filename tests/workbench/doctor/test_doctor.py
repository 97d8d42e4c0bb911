"""`workbench doctor`: reads every shipped configuration without a hub, says what fits, and refuses what it must."""

import json
from pathlib import Path

import pytest
import torch

from ppo.config import ContrastiveConfig, PpoConfig
from tests.conftest import load_phase
from workbench.__main__ import main
from workbench.doctor.hours import Amounts
from workbench.doctor.measure import Rehearsal, contrastive_values, measured_report, ppo_values, rehearse
from workbench.doctor.plan import plan_of
from workbench.doctor.rehearsal import Records
from workbench.doctor.run_plan import RunPlan, examine, phase_of, report, source_of
from workbench.doctor.shapes import KNOWN, read_shape, shape_of
from workbench.model.rows import PASS_TOKENS
from workbench.run.errors import WorkbenchError

ROOT = Path(__file__).parents[3]
LLAMA = ROOT / "configs/llama-7b"


def run_plan(name: str, *overrides: str, shape: str | None = None) -> RunPlan:
    return examine(LLAMA / f"{name}.yaml", overrides, shape=shape, device="cuda")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sft", "reward", "ppo", "dpo", "slic"])
def test_every_7b_configuration_fits_a_24_gib_card(name):
    found = run_plan(name)
    assert found.method == name
    assert found.base == "meta-llama/Llama-2-7b-hf"  # for all but sft from the file beside it
    assert found.shape == KNOWN["llama-7b"]
    assert found.settings.checkpointing
    assert found.settings.r == found.settings.reward_r == 16
    text = report(found, 24.0, Amounts())
    assert "3.34  base, NF4" in text
    assert ": fits" in text
    assert "largest that fits: train.micro_batch_size=" in text
    assert text.splitlines()[-1].endswith("in all")


def test_a_classifier_is_planned_like_supervised_tuning():
    found = run_plan("classify")
    assert (found.phase, found.method, found.settings.response) == ("sft", "sft", 0)
    text = report(found, 24.0, Amounts(records=1000, row_tokens=200))
    assert ": fits" in text
    assert "largest that fits: train.micro_batch_size=" in text


def test_overrides_and_a_smaller_card_change_the_verdict():
    many = run_plan("ppo", "train.micro_batch_size=64", "model.activation_checkpointing=false")
    assert many.settings.micro_batch == 64
    text = report(many, 24.0, Amounts())
    assert "DOES NOT FIT" in text
    assert "update of the policy  <- largest" in text
    few = run_plan("ppo", "rollout.sample_batch_size=4", "rollout.micro_batch_size=4", "train.micro_batch_size=1")
    assert ": fits" in report(few, 12.0, Amounts())
    assert "no train.micro_batch_size at all" in report(few, 4.0, Amounts())


def test_roles_that_are_not_there_take_nothing_and_more_of_them_take_more():
    def resident(*overrides):
        found = run_plan("ppo", *overrides)
        return plan_of("ppo", found.shape, found.settings).resident

    trained, frozen = 16 * 39_976_960, 4 * 39_976_960
    usual = resident()
    assert usual - resident("model.value=head") == pytest.approx(trained, rel=1e-3)
    two = "model.reward=[runs/llama-7b/reward,runs/llama-7b/other]"
    assert resident(two) - usual == pytest.approx(2 * frozen, rel=1e-3)  # the adapter, and the copy that watches it
    assert resident("rollout.engine=merged") - usual == 2 * KNOWN["llama-7b"].parameters


def test_a_bounded_update_keeps_the_policy_before_it():
    bounded, free = (run_plan("ppo", f"train.target_kl={target}") for target in (0.01, 0))
    plans = [plan_of("ppo", found.shape, found.settings).moments for found in (bounded, free)]
    larger = {name: plans[0][name] - plans[1][name] for name in plans[0]}
    assert larger.pop("update of the policy") == larger.pop("update of the value model") == 4 * 39_976_960
    assert set(larger.values()) == {0.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("ppo", "train.micro_batch_size"),
        ("ppo", "rollout.micro_batch_size"),
        ("ppo", "rollout.sample_batch_size"),
        ("reward", "normalise.batch_size"),
    ],
)
def test_the_advised_micro_batch_fits_and_the_next_divisor_does_not(name, key):
    advised = [line for line in report(run_plan(name), 24.0, Amounts()).splitlines() if f"{key}=" in line]
    size = int(advised[0].split("=")[1].split()[0])
    for factor, fits in ((1, True), (2, False)):
        changed = run_plan(name, f"{key}={size * factor}")
        plan = plan_of(name, changed.shape, changed.settings)
        assert (plan.needed <= 24 * 2**30) == fits


def test_a_merged_copy_is_advised_where_it_fits_and_is_faster():
    """On 24 GiB it leaves room for 8 answers in 30 ms, the adapter for 32 in 70 ms; on 16 GiB it does not fit."""
    advised = "rollout.engine=merged, which samples faster, with rollout.sample_batch_size=128"
    assert advised in report(run_plan("ppo"), 80.0, Amounts())
    for memory in (16.0, 24.0):
        assert "rollout.engine=merged" not in report(run_plan("ppo"), memory, Amounts())
    merged = run_plan("ppo", "rollout.engine=merged", "rollout.sample_batch_size=128")
    assert ": fits" in report(merged, 80.0, Amounts())


def test_the_hours_in_the_header_of_ppo_are_the_doctor_s():
    """15 hours as it stands; 8 with 128 answers at a time from a merged copy, a step in 38 ms."""
    many = run_plan("ppo", "rollout.sample_batch_size=128", "rollout.engine=merged")
    texts = [report(found, 80.0, Amounts()) for found in (run_plan("ppo"), many)]
    totals = [float(text.splitlines()[-1].split()[0]) for text in texts]
    assert [round(total) for total in totals] == [15, 8]
    assert "a decode step of 32 answers in 70 ms" in texts[0]
    assert "a decode step of 128 answers in 38 ms" in texts[1]
    assert ": fits" in texts[1]
    header = (LLAMA / "ppo.yaml").read_text(encoding="utf-8")
    assert "not measured: 15 (10 minutes per iteration)" in header
    assert "8 with 128 answers at a time from a merged copy (38 ms)" in header


def test_a_base_that_is_not_here_needs_a_shape():
    with pytest.raises(WorkbenchError, match="--shape NAME"):
        run_plan("sft", "model.base=somebody/some-llama")
    assert run_plan("sft", "model.base=somebody/some-llama", shape="llama-13b").shape == KNOWN["llama-13b"]
    with pytest.raises(WorkbenchError, match="did you mean 'llama-7b'"):
        run_plan("sft", shape="lama-7b")


def test_the_phase_s_own_errors_are_passed_on(capsys):
    with pytest.raises(WorkbenchError, match=r"did you mean train\.micro_batch_size"):
        main(["doctor", str(LLAMA / "sft.yaml"), "train.micro_batch=3"])
    with pytest.raises(WorkbenchError, match="has no `model:`"):
        main(["doctor", str(LLAMA / "annotate.yaml")])
    with pytest.raises(WorkbenchError, match="no such configuration file"):
        main(["doctor", str(LLAMA / "stf.yaml")])


def test_a_start_that_nobody_knows(tmp_path):
    config = tmp_path / "reward.yaml"
    config.write_text("run: {dir: r}\nmodel: {start: nowhere}\ndata: {train: x.jsonl}\n", encoding="utf-8")
    assert phase_of(config) == "reward"
    assert phase_of(LLAMA / "retrain.yaml") == "sft", "supervised tuning may start from a run too"
    with pytest.raises(WorkbenchError, match="not a finished run"):
        examine(config, [], shape=None, device="cuda")


def test_a_finished_start_run_says_base_and_rank(sft_run, tmp_path):
    found = source_of(tmp_path / "reward.yaml", (str(sft_run),))
    assert found["r"] == 4
    assert found["quantise"] == "nf4"
    shape, source = shape_of(found["base"])
    assert (shape.hidden, shape.layers, shape.tied) == (64, 2, True)
    assert source.endswith("config.json")


def test_a_config_json_that_is_no_llama(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "t5"}), encoding="utf-8")
    with pytest.raises(WorkbenchError, match="no Llama-like model"):
        read_shape(path)


def test_the_command_prints_the_plan_and_says_that_nothing_was_measured(capsys):
    main(["doctor", str(LLAMA / "dpo.yaml"), "--gpu-memory", "16", "--records", "2000", "--measure"])
    text = capsys.readouterr().out
    assert "of 17.18 GB (16 GiB)" in text
    assert "2,000 records (--records)" in text
    assert "hours on a GPU, from these assumptions" in text
    if not torch.cuda.is_available():
        assert "not measured: this machine has no GPU" in text


@pytest.fixture
def stage(tmp_path):
    """A stage whose runs nobody has made: enough to read configurations."""
    files = (tmp_path / f"{name}.jsonl" for name in ("prompts", "demonstrations", "preferences"))
    return Rehearsal(tmp_path, tmp_path / "base", Records(*files), 96)


def test_the_measured_configurations_hold_the_configured_sizes(stage, tmp_path):
    ppo = run_plan("ppo", "train.micro_batch_size=8", "rollout.micro_batch_size=6", "rollout.sample_batch_size=12")
    config = load_phase(PpoConfig, tmp_path / "ppo.yaml", ppo_values(stage, ppo))
    assert (config.train.micro_batch_size, config.rollout.micro_batch_size) == (8, 6)
    assert config.rollout.sample_batch_size == 12
    assert config.rollout.batch_size == config.train.minibatch_size == 16  # a multiple of 8, of at least 12 rows
    assert (config.data.max_prompt_length, config.rollout.max_new_tokens) == (512, 300)
    assert config.model.activation_checkpointing
    for name in ("dpo", "slic"):
        values = contrastive_values(stage, run_plan(name, "train.micro_batch_size=4"))
        pairs = load_phase(ContrastiveConfig, tmp_path / f"{name}.yaml", values)
        assert (pairs.method, pairs.train.micro_batch_size, pairs.train.max_steps) == (name, 4, 2)


@pytest.mark.slow
def test_a_rehearsal_runs_the_phase_on_random_weights():
    sizes = ("data.max_length=48", "train.micro_batch_size=2", "sample.prompts=2", "sample.max_new_tokens=4")
    tiny = examine(ROOT / "configs/tiny/sft.yaml", sizes, shape=None, device="cpu")
    measured = rehearse(tiny)
    assert measured.seconds > 0
    assert measured.peak_rss_bytes > 100 << 20
    assert (measured.peak_gpu_bytes is None) == (not torch.cuda.is_available())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_plan_agrees_with_the_gpu():
    assert "agrees" in measured_report(run_plan("sft", "data.max_length=1024"))


@pytest.mark.parametrize(
    ("name", "moment", "key", "others"),
    [
        ("reward", "states for the first head", "normalise.batch_size", ()),
        ("sft", "held-out loss", "train.micro_batch_size", ("train.batch_size=1024",)),
    ],
)
def test_passes_without_gradients_are_counted_and_bounded(name, moment, key, others):
    """7B in bfloat16: 12 bytes for each of the 15 104 numbers of a token, and one weight dequantised."""
    for rows, tokens in ((4, 4 * 1024), (1024, PASS_TOKENS["cuda"])):
        found = run_plan(name, f"{key}={rows}", "data.max_length=1024", *others)
        peak = plan_of(name, found.shape, found.settings).moments[moment]
        assert peak == pytest.approx(12 * 15_104 * tokens + 2 * 4096 * 11008, rel=0.01)


def test_the_base_is_described_and_its_positions_are_held_against_the_configuration(tiny_base):
    """The base has 256 positions."""
    words = [f"model.base={tiny_base}", "data.max_length=257"]
    lines = report(examine(LLAMA / "sft.yaml", words, shape=None, device="cuda"), 24.0, Amounts()).splitlines()
    assert any(line.startswith("base: Llama, ") and "256 positions, EOS 2" in line for line in lines)
    assert "problem: data.max_length: data.max_length=257 tokens, but the base has 256 positions" in lines
    assert "  remedy:   data.max_length=256" in lines
