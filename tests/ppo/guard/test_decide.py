"""Decisions of the guard: each signal by hand, each reason in words, and what follows."""

import math

import pytest

from ppo.config import GuardSection
from ppo.guard.decide import FEWEST, LEVELS, LIMITS, WINDOW, best_of, decide, signals

START = {
    "judge": 0.0,
    "judge_error": 0.1,
    "score": 0.0,
    "spread": 0.5,
    "outliers": 0.0,
    "agreement": 0.0,
    "reward_agreement": 1.0,
    "length": 20.0,
    "entropy": 1.0,
    "kl": 0.0,
}
STOP, SAY, BETA = (GuardSection(judge=("run",), act=act) for act in ("stop", "say", "beta"))
BAD = {
    "disagreement": ({"reward_agreement": 0.2}, 0.8),
    "gap": ({"score": 2.0}, 2.0),
    "spread": ({"spread": 2.0}, 3.0),
    "outliers": ({"outliers": 0.9}, 0.9),
    "length": ({"length": 80.0}, math.log(4)),
    "entropy": ({"entropy": 0.25}, 0.75),
}


def rows_of(*changes):
    """Rows in order, each the start with changes."""
    return [{"step": 10 * number, **START, **change} for number, change in enumerate(changes)]


def judged(*scores):
    return rows_of(*({"judge": score, "score": score} for score in scores))


def test_nothing_changed_is_no_risk():
    found = decide(rows_of(*[{}] * 6), STOP)
    assert (found.action, found.risk) == ("go on", 0.0)
    assert "nothing of note" in found.why


@pytest.mark.parametrize("name", BAD)
def test_each_signal_by_hand(name):
    change, value = BAD[name]
    rows = rows_of({}, {}, {}, *[change] * WINDOW)
    found = signals(rows)
    assert found[name] == pytest.approx(value)
    assert {other for other, size in found.items() if size != 0} <= {name, "law"}
    assert (decide(rows, STOP).risk > 0) == (name in LIMITS), "signals without a limit are only recorded"
    one_of_three = signals(rows[:4])[name]
    assert 0 < one_of_three < value, "the last three observations are averaged"


@pytest.mark.parametrize(
    ("before", "newest", "expected"),
    [
        (60.0, 60.0, 6.0),  # no growth
        (60.0, 30.0, 3.0),  # a fall counts at once
        (5.0, 20.0, 8.0),  # four times as much again
        (0.0, 0.5, 0.05),  # both are little
        (0.01, 3.0, 0.9),  # growth from 1, not from nothing
    ],
)
def test_kl_is_that_of_the_next_observation_if_it_grows_as_it_did(before, newest, expected):
    rows = rows_of({}, {}, {}, {"kl": before}, {"kl": newest})
    found = signals(rows)
    assert found["kl"] == pytest.approx(expected)
    assert {other for other, size in found.items() if size != 0} <= {"kl", "law"}
    if expected > LIMITS["kl"] / 2:
        assert f"on its way to {expected:.1f} times its usual limit" in decide(rows, STOP).why


def test_kl_counts_in_units_of_long_answers():
    assert signals(rows_of({}, *[{"kl": 60.0, "length": 300.0}] * 3))["kl"] == pytest.approx(2.0)


def test_shorter_answers_are_a_change_of_length_too():
    assert signals(rows_of({}, *[{"length": 5.0}] * WINDOW))["length"] == pytest.approx(math.log(4))


def test_the_judges_fall_from_their_best_neighbourhood():
    # Means of neighbours: (0, 1), (0, 1, 2), (1, 2, 0): both of the last two are 1, and the first of them is best.
    rows = judged(0.0, 1.0, 2.0, 0.0, 0.0, 0.0)
    assert best_of(rows) == 1
    assert signals(rows)["judge"] == pytest.approx(1.0)
    assert best_of(judged(2.0, 1.0, 1.0, 1.0)) == 0, "the first one's neighbourhood is smaller, not worse"
    assert signals(judged(0.0, 1.0, 2.0, 3.0))["judge"] == pytest.approx(0.0), "a rise is no fall"


def test_the_newest_observation_is_never_the_best():
    assert best_of(judged(0.0)) == 0
    assert best_of(judged(0.0, 9.0)) == 0
    assert best_of(judged(0.0, 0.0, 9.0)) == 1
    for end in range(1, 8):  # so the best one is among the best and the newest of the observations before
        rows = judged(0.0, 3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0)[: end + 1]
        assert best_of(rows) in (best_of(rows[:-1]), len(rows) - 2)


def test_a_judge_s_score_that_falls_with_kl_is_the_law():
    # Gains over the first score, 5: d (1 − ln d), whose peak is at d = 1.
    rows = rows_of(*({"kl": float(n) ** 2, "judge": 5 + n * (1 - math.log(n or 1)) - 0.01 * (n % 2)} for n in range(9)))
    found = decide(rows, STOP)
    assert found.law.peak == pytest.approx(1.0, abs=0.05)
    assert found.signals["law"] > 2
    assert found.row()["law"]["peak"] == found.law.peak


def test_contrastive_training_is_judged_by_its_log_ratios():
    without = {"score": None, "reward_agreement": None, "agreement": -0.9}
    rows = rows_of(*[without] * 5)
    assert not {"gap", "disagreement"} & set(signals(rows))
    assert signals(rows)["agreement"] == pytest.approx(0.9)
    assert "correlation -0.90" in decide(rows, STOP).why
    assert decide(rows[:FEWEST], STOP).action == "stop"
    assert "agreement" not in signals(rows_of(*[{"agreement": -0.9}] * 5)), "PPO's log ratios say nothing"


def test_a_wrong_reward_model_stops_the_run_at_its_second_observation():
    rows = rows_of(*[{"reward_agreement": 0.1}] * 2)
    assert decide(rows[:1], STOP).action == "go on", "the start policy has learnt nothing"
    found = decide(rows, STOP)
    assert (FEWEST, found.action, found.back_to) == (2, "stop", 0)
    assert "differently (correlation 0.10)" in found.why


def test_few_observations_show_levels_only():
    rows = rows_of({}, *[{"judge": -9.0, "kl": 99.0, "length": 90.0}] * WINDOW)
    assert set(signals(rows[:WINDOW])) == {"disagreement"} <= set(LEVELS)
    assert decide(rows[:WINDOW], STOP).risk == 0
    assert decide(rows, STOP).action == "stop"


def test_the_risk_is_the_norm_in_units_of_the_limits():
    change = {"reward_agreement": 1 - LIMITS["disagreement"] * 0.6, "kl": 10 * LIMITS["kl"] * 0.45}
    found = decide(rows_of({}, *[change] * WINDOW), STOP)
    assert found.risk == pytest.approx(0.75)  # 0.6² + 0.45² = 0.75²
    assert found.action == "go on"
    assert found.why.index("differently") < found.why.index("KL is"), "the largest part first"
    halved = {name: limit / 2 for name, limit in LIMITS.items()}
    assert decide(rows_of({}, *[change] * WINDOW), STOP, halved).risk == pytest.approx(1.5)


def test_a_stop_goes_back_to_the_judges_best():
    rows = judged(0.0, 0.5, 0.6, 0.5, -2.0, -2.0, -2.0)
    found = decide(rows, STOP)
    assert (found.action, found.back_to) == ("stop", 20)
    assert "Back to step 20" in found.why
    assert (decide(rows, SAY).action, decide(rows, SAY).back_to) == ("say", None)
    assert decide(rows, STOP.model_copy(update={"threshold": 99.0})).action == "go on"


def test_a_raised_penalty_has_time_to_work():
    rows = judged(0.0, 0.5, 0.6, 0.5, -2.0, -2.0, -2.0)
    assert decide(rows, BETA).action == "beta"
    rows[-2]["action"] = "beta"
    assert decide(rows, BETA).action == "say"
    rows[-2]["action"], rows[-4]["action"] = "say", "beta"
    assert decide(rows, BETA).action == "say"
    rows[-4]["action"], rows[-5]["action"] = "go on", "beta"
    assert decide(rows, BETA).action == "beta"


def test_scores_that_are_equal_for_all_answers_show_no_disagreement():
    """A correlation that is undefined says nothing; one that is 0 would stop the run."""
    undefined = rows_of(*[{"reward_agreement": None}] * 2)
    assert decide(undefined, STOP).risk == 0
    assert signals([*undefined, *rows_of({"reward_agreement": 0.4})])["disagreement"] == pytest.approx(0.6)
    assert decide(rows_of(*[{"reward_agreement": 0.0}] * 2), STOP).action == "stop"
