"""Which answers of a ladder become pairs, and how hard each pair is."""

import numpy as np
import pytest

from ppo.ladder.select import Answer, candidates, difficulties, fault, kept_rungs, win_matrix

LOOSE = {"margin": 0.0, "length_ratio": 1.5}


def answer(text="fine", tokens=6, ended=True, score=0.0):
    return Answer(text, tokens, ended, score)


def test_the_win_matrix_by_hand():
    # Rung 1 wins on prompts 0 and 1, ties on 2, loses on 3: 2.5 of 4.
    wins = win_matrix(np.array([[0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 2.0, 0.0]]))
    assert wins.tolist() == [[0.5, 0.375], [0.625, 0.5]]


def test_a_rung_that_does_not_win_is_dropped_and_the_next_is_compared_with_the_last_kept():
    wins = np.full((4, 4), 0.5)
    wins[1, 0], wins[2, 0], wins[3, 2], wins[2, 1] = 0.59, 0.6, 0.9, 1.0
    assert kept_rungs(wins, 0.6) == [0, 2, 3]


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        (answer("better", score=1.0), answer("worse"), None),
        (answer(" ", score=1.0), answer("worse"), "empty"),
        (answer("better", score=1.0), answer(""), "empty"),
        (answer("same", score=1.0), answer("same "), "same text"),
        (answer("better", ended=False, score=1.0), answer("worse"), "chosen answer does not end"),
        (answer("better", score=1.0), answer("worse", ended=False), None),
        (answer("You asked: Where is it?", score=1.0), answer("worse"), "chosen answer repeats the prompt"),
        (answer("better", tokens=10, score=1.0), answer("worse", tokens=6), "lengths too different"),
        (answer("better", tokens=9, score=1.0), answer("worse", tokens=6), None),
        (answer("better", tokens=6, score=1.0), answer("worse", tokens=10), "lengths too different"),
        (answer("better", score=0.0), answer("worse"), "margin too small"),
        (answer("better", score=None), answer("worse", score=None), None),
    ],
)
def test_what_makes_no_pair(chosen, rejected, expected):
    assert fault(chosen, rejected, "Where is it?", **LOOSE) == expected


def test_the_margin_has_to_be_exceeded():
    pair = (answer("better", score=0.5), answer("worse"))
    assert fault(*pair, "?!", margin=0.5, length_ratio=2.0) == "margin too small"
    assert fault(*pair, "?!", margin=0.4, length_ratio=2.0) is None


def test_every_two_kept_rungs_are_paired_the_stronger_one_chosen():
    answers = [[answer(f"rung {rung}", score=float(rung))] for rung in range(4)]
    found, faults = candidates(answers, [0, 2, 3], ["?!"], **LOOSE)
    assert found == [[(2, 0), (3, 0), (3, 2)]]
    assert not faults
    answers[3] = [answer("rung 0", score=3.0)]
    found, faults = candidates(answers, [0, 2, 3], ["?!"], **LOOSE)
    assert found == [[(2, 0), (3, 2)]]
    assert faults == {"same text": 1}


def test_small_margins_are_hard():
    assert difficulties([3.0, 0.1, 1.0], [1, 1, 1], 3) == [0.0, 1.0, 0.5]
    assert difficulties([2.0], [1], 2) == [0.0]


def test_without_scores_neighbours_are_hard():
    assert difficulties([None] * 3, [1, 2, 3], 4) == [1.0, 0.5, 0.0]
    assert difficulties([None], [1], 2) == [1.0]
