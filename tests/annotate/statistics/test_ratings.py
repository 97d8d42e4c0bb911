import json
from pathlib import Path

import numpy as np
import pytest

from annotate.statistics.ratings import bradley_terry, rate

RECORDED = json.loads((Path(__file__).parent / "oracles/recorded.json").read_text())


def test_two_runs_by_hand() -> None:
    # 3 wins of 4: log-odds log(3) apart, ±log(3)/2 around 0.
    assert bradley_terry([[0, 3], [1, 0]]) == pytest.approx([np.log(3) / 2, -np.log(3) / 2])


@pytest.mark.parametrize("entry", RECORDED["bradley_terry"], ids=lambda entry: f"{len(entry['wins'])} runs")
def test_the_same_as_choix(entry: dict[str, list[list[float]]]) -> None:
    assert bradley_terry(entry["wins"]) == pytest.approx(entry["ratings"], abs=1e-6)


def test_a_run_that_never_loses_is_unbounded_unless_ties_are_lent() -> None:
    wins = np.array([[0, 5, 5], [0, 0, 2], [0, 3, 0]])
    assert np.isnan(bradley_terry(wins)).all()
    lent = bradley_terry(wins, virtual_ties=1)
    assert lent[0] > lent[2] > lent[1]
    assert np.isfinite(lent).all()


def test_turning_every_comparison_round_turns_the_ratings_round() -> None:
    wins = np.random.default_rng(0).integers(1, 20, (4, 4))
    assert bradley_terry(wins.T) == pytest.approx(-bradley_terry(wins))


def test_a_stack_of_tables_is_rated_one_by_one() -> None:
    stack = np.random.default_rng(1).integers(1, 9, (5, 3, 3))
    assert bradley_terry(stack) == pytest.approx(np.stack([bradley_terry(table) for table in stack]))


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    truth = np.array([0.6, 0.0, -0.6])
    held = []
    for _ in range(60):
        table = np.zeros((80, 3, 3))
        for i, j in ((0, 1), (0, 2), (1, 2)):
            won = rng.random(80) < 1 / (1 + np.exp(truth[j] - truth[i]))
            table[:, i, j], table[:, j, i] = won, ~won
        held += [r.low <= t <= r.high for r, t in zip(rate(table, seed=0, resamples=200), truth, strict=True)]
    assert 0.88 <= np.mean(held) <= 0.99  # 95 % of 180 that are not independent
