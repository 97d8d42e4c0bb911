"""The evaluation of a reward model, on fake reward models with known numbers."""

import numpy as np
import pytest

from tests.workbench.evaluate.fakes import gold, make_preference, score
from workbench.evaluate.reward_model import evaluate_reward_model
from workbench.run.errors import WorkbenchError


def of_gold(prompts, responses, ended):
    return np.array([gold(p, r).total for p, r in zip(prompts, responses, strict=True)])


def noisy_pairs(count, *, flip, seed=0):
    """Pairs labelled by the gold reward, with a share of the labels flipped."""
    rng = np.random.default_rng(seed)
    pairs = []
    for index in range(count):
        many, few = "good " * int(rng.integers(5, 9)), "good " * int(rng.integers(1, 5))
        chosen, rejected = (few, many) if rng.random() < flip else (many, few)
        pairs.append(make_preference(index, chosen, rejected))
    return pairs


def test_by_hand():
    # Words: 3 against 1 (right, gap 2), 1 against 2 (wrong, gap −1), 2 against 2 (tie). Accuracy (1 + 0 + ½)/3.
    # Gold reward: .3 − .1 agrees with its label; −.2 against .2 does not; .2 against 0 does: ceiling 2/3.
    # Scores against gold reward: right, right (gap −1, gold gap −.4), ½ of the tie: 2½/3.
    pairs = [
        make_preference(0, "good good good", "good"),
        make_preference(1, "bad", "good good"),
        make_preference(2, "good good", "well well"),
        make_preference(3, "good", "good good", strength=0),
    ]
    result = evaluate_reward_model(score, pairs, gold=gold, bins=3)
    assert result.accuracy.mean == pytest.approx(0.5)
    assert (result.accuracy.count, result.accuracy.prompts, result.ties_left_out) == (3, 2, 1)
    assert result.noise_ceiling.mean == pytest.approx(2 / 3)
    assert result.gold_accuracy.mean == pytest.approx(2.5 / 3)
    sigma = 1 / (1 + np.exp(-np.array([2.0, -1.0, 0.0])))
    assert result.brier == pytest.approx(np.mean((1 - sigma) ** 2))
    assert result.ece == pytest.approx((0.0 + (1 - sigma[1]) + (1 - sigma[0])) / 3)
    assert result.label_length_bias == 0.5
    assert result.length_correlation == pytest.approx(1.0)
    assert result.length_correlation_within == pytest.approx(1.0)


def test_a_perfect_model_reaches_exactly_the_noise_ceiling():
    pairs = noisy_pairs(400, flip=0.2)
    result = evaluate_reward_model(of_gold, pairs, gold=gold)
    assert result.gold_accuracy.mean == 1.0
    assert result.accuracy.mean == result.noise_ceiling.mean
    assert result.noise_ceiling.low < 0.8 < result.noise_ceiling.high


def test_inverted_model_mirrors():
    pairs = noisy_pairs(200, flip=0.2)
    straight = evaluate_reward_model(of_gold, pairs, gold=gold)
    inverted = evaluate_reward_model(lambda p, r, e: -of_gold(p, r, e), pairs, gold=gold)
    assert inverted.accuracy.mean == pytest.approx(1 - straight.accuracy.mean)
    assert inverted.gold_accuracy.mean == 0.0
    assert inverted.brier > straight.brier


def test_shuffled_labels_give_chance_accuracy():
    result = evaluate_reward_model(of_gold, noisy_pairs(600, flip=0.5), gold=gold)
    assert result.accuracy.low < 0.5 < result.accuracy.high


def test_label_length_bias_by_hand():
    # Chosen is longer in two of the three pairs of unequal length.
    texts = [("a b c", "a"), ("a b", "a"), ("a", "a b"), ("a b", "b a")]
    pairs = [make_preference(i, *pair) for i, pair in enumerate(texts)]
    assert evaluate_reward_model(score, pairs).label_length_bias == pytest.approx(2 / 3)
    assert evaluate_reward_model(score, pairs[3:]).label_length_bias is None


def test_normalised_scores_are_read_as_raw_ones():
    pairs = noisy_pairs(100, flip=0.2)
    raw = evaluate_reward_model(score, pairs)
    normalised = evaluate_reward_model(lambda p, r, e: 0.25 * score(p, r, e) - 3.0, pairs, gain=0.25)
    assert (normalised.ece, normalised.brier) == pytest.approx((raw.ece, raw.brier))
    assert normalised.accuracy == raw.accuracy
    assert normalised.score_sd == pytest.approx(0.25 * raw.score_sd)


def test_without_a_gold_reward():
    result = evaluate_reward_model(score, noisy_pairs(20, flip=0.1))
    assert result.gold_accuracy is result.noise_ceiling is None


def test_scores_are_requested_once_with_whole_texts():
    calls = []

    def spy(prompts, responses, ended):
        calls.append((prompts, responses, ended))
        return score(prompts, responses, ended)

    evaluate_reward_model(spy, [make_preference(0, "good good", "good")])
    ((prompts, responses, ended),) = calls
    assert responses == ["good good", "good"]
    assert ended == [True, True]
    assert prompts[0] == prompts[1]


def test_nothing_to_measure():
    with pytest.raises(WorkbenchError, match="none of them with a preferred answer"):
        evaluate_reward_model(score, [make_preference(0, "a", "b", strength=0)])
    with pytest.raises(WorkbenchError, match="2 of 2 scores are not finite"):
        evaluate_reward_model(lambda p, r, e: np.full(2, np.inf), [make_preference(0, "a", "b")])


def test_accuracy_by_category_and_of_longer_wins_by_hand():
    # Words and scores as in the first test: right, wrong, tie. "easy" holds the first two: ½; "hard" the tie: ½ of 1.
    texts = [("good good good", "good", "easy"), ("bad", "good good", "easy"), ("good good", "well well", "hard")]
    pairs = [
        make_preference(index, chosen, rejected).model_copy(update={"category": category})
        for index, (chosen, rejected, category) in enumerate(texts)
    ]
    unnamed = make_preference(3, "good good good good", "good")
    result = evaluate_reward_model(score, [*pairs, unnamed], bins=3)
    counts = {name: (one.mean, one.count) for name, one in result.by_category.items()}
    assert counts == {"easy": (0.5, 2), "hard": (0.5, 1)}
    assert result.longer_wins.mean == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert evaluate_reward_model(score, [unnamed]).by_category == {}
