import numpy as np
import pytest

from workbench.tiny.annotators import SIMULATED, TIE_BELOW, SimulatedAnnotator


def judgements(annotator: SimulatedAnnotator, margin: float, count: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([annotator.judge(0.2, 0.2 + margin, rng) for _ in range(count)])


def probability_right(annotator: SimulatedAnnotator, margin: float) -> float:
    """P(right preferred | no tie), where a tie is a noisy margin within ±TIE_BELOW."""

    def above(threshold: float) -> float:
        logistic = 1 / (1 + np.exp(-threshold / annotator.tau))
        return (1 - annotator.random_rate) * logistic + annotator.random_rate / 2

    right, left = above(margin - TIE_BELOW), above(-margin - TIE_BELOW)
    return right / (right + left)


def test_they_say_that_they_are_simulated():
    names = [annotator.name for annotator in SIMULATED]
    assert all(name.startswith("simulated-") for name in names)
    assert len(set(names)) == len(names)
    assert [annotator.name for annotator in SIMULATED if annotator.random_rate > 0.1] == ["simulated-careless"]


@pytest.mark.parametrize("margin", [-0.4, -0.15, 0.0, 0.15, 0.4])
@pytest.mark.parametrize("annotator", SIMULATED, ids=lambda annotator: annotator.name)
def test_choices_follow_bradley_terry(annotator, margin):
    drawn = judgements(annotator, margin)
    decided = drawn[drawn != 0]
    expected = probability_right(annotator, margin)
    assert (decided > 0).mean() == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(len(decided)))
    # σ(margin / τ) shrunk by the random answers; the narrow band of ties changes it by little.
    plain = annotator.random_rate / 2 + (1 - annotator.random_rate) / (1 + np.exp(-margin / annotator.tau))
    assert expected == pytest.approx(plain, abs=0.03)


def test_strength_grows_with_the_margin_and_near_ones_tie():
    exact = SimulatedAnnotator("simulated-exact", 1e-9, 0.0)
    rng = np.random.default_rng(0)
    margins = (0.0, TIE_BELOW * 0.9, 0.1, 0.3, 0.7, -0.1, -0.3, -0.7)
    assert [exact.judge(0.0, margin, rng) for margin in margins] == [0, 0, 1, 2, 3, -1, -2, -3]


def test_a_random_annotator_ignores_the_gold_reward():
    drawn = judgements(SimulatedAnnotator("simulated-blind", 0.1, 1.0), 5.0)
    assert (drawn > 0).mean() == pytest.approx(0.5, abs=0.04)
    assert set(drawn) == {-3, -2, -1, 1, 2, 3}
