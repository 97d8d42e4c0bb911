"""Each warning appears if its condition holds, and only then."""

from dataclasses import replace

import numpy as np
import pytest

from tests.workbench.evaluate.fakes import FakePolicy, gold, make_preference, make_prompts, score
from workbench.evaluate.alarms import gain, over_optimisation, policy_alarms, reward_alarms
from workbench.evaluate.evaluation import TrajectoryPoint
from workbench.evaluate.policy import evaluate_policy
from workbench.evaluate.reward_model import evaluate_reward_model
from workbench.evaluate.statistics import Estimate


@pytest.fixture(scope="module")
def healthy():
    return evaluate_policy(FakePolicy(ends=1.0), make_prompts(60), gold=gold)


def at(value, width=0.01):
    return Estimate(value, value - width, value + width, 60, 60)


def texts(policy, start=None):
    return [alarm.text for alarm in policy_alarms("run", policy, start)]


def test_a_healthy_policy_gives_no_warning(healthy):
    assert texts(healthy) == []
    better = replace(healthy, answers=[replace(a, gold=a.gold + 0.1) for a in healthy.answers])
    assert texts(better, healthy) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"eos_rate": at(0.9)}, "Only 90% of the answers end"),
        ({"kl": at(40.0)}, "KL to the reference is 40.0 nats"),
        ({"judge": "reward model"}, "judged by the reward model"),
    ],
)
def test_alone(healthy, change, expected):
    (text,) = texts(replace(healthy, **change))
    assert expected in text


def test_against_the_start(healthy):
    better = replace(healthy, answers=[replace(a, gold=a.gold + 0.1) for a in healthy.answers])
    twice = {n: 2 * share for n, share in healthy.distinct.items()}
    (text,) = texts(better, replace(healthy, distinct=twice))
    assert "Diversity fell" in text
    assert "distinct-3" in text
    (text,) = texts(replace(better, length=at(2 * healthy.length.mean)), healthy)
    assert "2.0 times as long" in text
    assert "may have learnt length" not in text
    longer = replace(better, length=at(2 * healthy.length.mean), length_correlation=0.6)
    assert "may have learnt length" in texts(longer, healthy)[0]
    (text,) = texts(healthy, better)
    assert "is 0.10 lower" in text
    (text,) = texts(healthy, healthy)
    assert "may be chance" in text


def test_gain_is_paired_by_prompt(healthy):
    better = replace(healthy, answers=[replace(a, gold=a.gold + 0.1) for a in healthy.answers])
    difference = gain(better, healthy)
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.1, 0.1, 0.1))
    assert gain(healthy, evaluate_policy(FakePolicy(), make_prompts(3))) is None


def trajectory(golds, scores, error=0.02):
    return [
        TrajectoryPoint(10 * i, float(s), float(g), gold_error=error, kl=None, count=16)
        for i, (g, s) in enumerate(zip(golds, scores, strict=True))
    ]


def test_over_optimisation_is_detected():
    golds = [*np.linspace(0.4, 0.7, 6), *np.linspace(0.7, 0.2, 8)]
    found = over_optimisation(trajectory(golds, np.linspace(0, 3, 14)))
    assert "fell from 0.6" in found
    assert "to 0.27" in found


def test_noise_and_a_falling_score_are_not_over_optimisation():
    rising = np.linspace(0, 3, 14)
    golds = [*np.linspace(0.4, 0.7, 6), *np.linspace(0.7, 0.2, 8)]
    assert over_optimisation(trajectory(golds, -rising)) is None  # the score fell too: no exploit
    assert over_optimisation(trajectory(np.linspace(0.4, 0.8, 14), rising)) is None
    rng = np.random.default_rng(0)
    found = [over_optimisation(trajectory(rng.normal(0.8, 0.08, 14), rising, error=0.08)) for _ in range(200)]
    assert sum(one is not None for one in found) <= 10
    assert over_optimisation(trajectory([0.9, 0.1], [0, 1])) is None
    assert over_optimisation([]) is None


def test_reward_model():
    # Words as scores: a gap of 7 is a confidence of .999, and the labels are right for the first half only.
    pairs = [make_preference(i, "good " * 9, "good " * 2) for i in range(30)]
    pairs += [make_preference(i, "good " * 2, "good " * 9) for i in range(30, 60)]
    found = " ".join(alarm.text for alarm in reward_alarms("reward", evaluate_reward_model(score, pairs)))
    assert "Calibration error is 0.500" in found
    assert "not clearly above chance" in found
    assert "favours longer answers" in found


def test_a_calibrated_reward_model_gives_no_warning():
    rng = np.random.default_rng(0)
    gaps = np.abs(rng.normal(0, 1.5, 2000))
    right = rng.random(2000) < 1 / (1 + np.exp(-gaps))
    scores = np.concatenate([np.where(right, gaps, -gaps), np.zeros(2000)])
    pairs = [make_preference(i, f"good {i}", f"fine {i}") for i in range(2000)]
    assert reward_alarms("reward", evaluate_reward_model(lambda p, r, e: scores, pairs)) == []
