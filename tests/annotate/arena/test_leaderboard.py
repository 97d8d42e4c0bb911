import itertools
from collections.abc import Callable

import numpy as np
import pytest

from annotate.arena.leaderboard import FEWEST_VOTES, leaderboard
from annotate.campaign.battles import OPENED
from annotate.statistics.ratings import rate
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.arena.test_votes import vote

STRENGTHS = np.array([0.9, 0.3, -0.3, -0.9])
"""Log-odds of four runs, mean 0."""


def battles(rng: np.random.Generator, count: int) -> np.ndarray:
    """(G, 4, 4) outcomes of battles between random pairs."""
    wins = np.zeros((count, 4, 4))
    pairs = np.array(list(itertools.combinations(range(4), 2)))[rng.integers(6, size=count)]
    first, second = pairs.T
    chance = 1 / (1 + np.exp(STRENGTHS[second] - STRENGTHS[first]))
    outcome = (rng.random(count) < chance).astype(float)
    wins[np.arange(count), first, second] = outcome
    wins[np.arange(count), second, first] = 1 - outcome
    return wins


def test_planted_strengths_are_recovered_and_covered() -> None:
    """95 % intervals hold the truth in 95 % of 100 simulations, give or take three standard errors of 2.2 %."""
    rng = np.random.default_rng(0)
    covered, values = [], []
    for seed in range(100):
        ratings = rate(battles(rng, 240), seed=seed, resamples=300)
        covered.append([rating.low <= truth <= rating.high for rating, truth in zip(ratings, STRENGTHS, strict=True)])
        values.append([rating.value for rating in ratings])
    assert 0.885 <= np.mean(covered) <= 1
    assert np.mean(values, axis=0) == pytest.approx(STRENGTHS, abs=0.08)


def opened(store: Store, *runs: str) -> None:
    with store.write() as transaction:
        transaction.add_event(OPENED, 0.0, runs=list(runs))


def test_it_says_what_the_votes_do_not_say(store: Store, account: Callable[..., Annotator]) -> None:
    opened(store, "a", "b", "c")
    who = account("ann")
    board = leaderboard(store, ["a", "b", "c"])
    assert (board.reservation, board.votes, [row.rating for row in board.standings]) == ("arena.none", 0, [None] * 3)
    vote(store, who, "first", runs=["a", "b"])
    board = leaderboard(store, ["a", "b", "c"])
    assert board.reservation == "arena.few"
    assert [(row.run, row.votes, row.ranks) for row in board.standings] == [
        ("a", 1, None),
        ("b", 1, None),
        ("c", 0, None),
    ]
    assert board.standings[2].rating is None
    for number in range(FEWEST_VOTES):  # every pair alternates: nobody is better
        for left, right in itertools.combinations("abc", 2):
            name = f"{left}{right}{number}"
            vote(store, who, name, runs=[left, right], strength=2 if number % 2 else -2)
    board = leaderboard(store, ["a", "b", "c"])
    assert board.reservation == "arena.unordered"
    assert {row.ranks for row in board.standings} == {(1, 3)}
    for number in range(60):
        vote(store, who, f"c loses {number}", runs=["ab"[number % 2], "c"], strength=-3)
    board = leaderboard(store, ["a", "b", "c"])
    assert board.reservation == ""
    assert [row.run for row in board.standings][-1] == "c"
    assert [row.ranks for row in board.standings] == [(1, 2), (1, 2), (3, 3)]
    assert board.standings[0].rating is not None
    assert board.reach >= abs(board.standings[-1].rating.low)  # type: ignore[union-attr]
