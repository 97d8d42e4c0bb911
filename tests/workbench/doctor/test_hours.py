"""Hours by hand, for a shape of round numbers."""

from dataclasses import replace

import pytest

from workbench.doctor.hours import BYTES_PER_SECOND, HOST_SECONDS, Amounts, hours, step_seconds
from workbench.doctor.memory import Shape
from workbench.doctor.plan import Settings
from workbench.doctor.shapes import KNOWN

# One layer of 10 → 10: q, k, v, o of 100 weights each, gate, up, down of 200: 1 000 weights, 2 000 operations a token.
SHAPE = Shape(vocabulary=7, hidden=10, intermediate=20, layers=1, heads=1, kv_heads=1, head_dim=10, tied=False)
SETTINGS = Settings(prompt=60, response=40, sample_batch=4, length=200, checkpointing=True)
AMOUNTS = Amounts(records=1000, row_tokens=80, step_seconds=0.9, flop_per_second=2000.0)
PPO = {
    "train.iterations": 10,
    "train.ppo_epochs": 2,
    "rollout.batch_size": 16,
    "evaluation.every": 4,
    "evaluation.prompts": 5,
}


def test_ppo_by_hand():
    found = hours("ppo", PPO, SHAPE, SETTINGS, AMOUNTS)
    # A token is read in 1 s. 10 iterations × 4 batches × 40 steps × .9 s = 1 440 s.
    assert found["sampling"] == pytest.approx(0.4)
    # 160 rows of 80 tokens, read by policy, reference, value, reward, and once to sample: 64 000 s.
    assert found["4 roles read the answers, and the prompts are read to sample"] == pytest.approx(64_000 / 3600)
    # 160 rows × 80 tokens × 2 epochs × 2 roles × 3 s (forward, gradient, recomputation).
    assert found["updates"] == pytest.approx(153_600 / 3600)
    # Before iterations 0, 4, 8 and at the end: each 2 batches × 40 steps × .9 s, and 5 rows read 5 times.
    assert found["held-out evaluations"] == pytest.approx(4 * (72 + 5 * 80 * 5) / 3600)


def test_without_a_value_model_of_its_own_and_without_recomputation():
    fewer = replace(SETTINGS, value="head", checkpointing=False)
    found = hours("ppo", PPO, SHAPE, fewer, AMOUNTS)
    assert found["updates"] == pytest.approx(160 * 80 * 2 * 2 / 3600)
    assert any(name.startswith("3 roles") for name in found)


def test_the_other_methods_by_hand():
    values = {"train.epochs": 2.0, "normalise.answers": 6}
    found = {name: hours(name, values, SHAPE, SETTINGS, AMOUNTS) for name in ("sft", "reward", "contrastive")}
    assert found["sft"] == {"training": pytest.approx(1000 * 2 * 80 * 3 / 3600)}
    assert found["contrastive"]["training"] == pytest.approx(2 * 1000 * 2 * 80 * 3 / 3600)  # two rows per pair
    assert found["contrastive"]["the reference reads the pairs once"] == pytest.approx(2 * 1000 * 80 / 3600)
    assert found["reward"]["sampling to normalise"] == pytest.approx(2 * 40 * 0.9 / 3600)
    assert found["reward"]["scoring to normalise"] == pytest.approx(6 * 80 / 3600)


def test_a_row_is_no_longer_than_the_configuration_lets_it_be():
    short = hours("sft", {"train.epochs": 1}, SHAPE, replace(SETTINGS, length=50), AMOUNTS)
    assert short["training"] == pytest.approx(1000 * 50 * 3 / 3600)


def test_a_step_is_the_host_s_or_the_memory_s():
    seven = KNOWN["llama-7b"]
    few = Settings(prompt=512, response=300, sample_batch=16)
    assert step_seconds(seven, few, Amounts()) == HOST_SECONDS["adapter"]
    assert step_seconds(seven, replace(few, merged=True), Amounts()) == HOST_SECONDS["merged"]
    # 12.95 GB of weights, and three times 128 × 500 tokens × 2 · 32 · 4096 · 2 bytes of keys and values.
    many = replace(few, merged=True, sample_batch=128)
    expected = (2 * seven.linear_parameters + 3 * 128 * 500 * 524_288) / BYTES_PER_SECOND
    assert step_seconds(seven, many, Amounts()) == pytest.approx(expected)
    assert step_seconds(seven, many, Amounts(step_seconds=0.01)) == 0.01
