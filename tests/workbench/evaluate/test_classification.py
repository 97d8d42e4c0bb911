"""Measures of classifiers against scikit-learn, by hand, and their intervals."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from workbench.evaluate.classification import (
    MISTAKES,
    calibration,
    cluster_draws,
    evaluate_classifiers,
    measure,
    predictions,
)

LABELS = ("a", "b", "c")


def random_case(number=200, seed=0, skill=1.0):
    rng = np.random.default_rng(seed)
    truth = np.eye(3, dtype=bool)[rng.choice(3, number, p=[0.6, 0.3, 0.1])]
    scores = np.exp(skill * truth + rng.normal(size=(number, 3)))
    return scores / scores.sum(axis=1, keepdims=True), truth


def evaluated(methods, truth, **changes):
    number = len(truth)
    options = {
        "texts": [f"text {n}" for n in range(number)],
        "groups": range(number),
        "labels": LABELS,
        "trained": "ours",
        "multi_label": False,
        "seed": 0,
    }
    return evaluate_classifiers(methods, truth, **(options | changes))


def test_single_label_measures_are_those_of_scikit_learn():
    probabilities, truth = random_case()
    found = measure(
        probabilities,
        truth,
        groups=range(200),
        labels=LABELS,
        multi_label=False,
        draws=cluster_draws(range(200), seed=0, resamples=50),
    )
    right, guess = truth.argmax(1), probabilities.argmax(1)
    precision, recall, f1, support = precision_recall_fscore_support(right, guess, labels=[0, 1, 2], zero_division=0)
    assert found.accuracy.mean == pytest.approx(accuracy_score(right, guess))
    assert found.macro_f1.mean == pytest.approx(f1.mean())
    assert found.macro_precision.mean == pytest.approx(precision.mean())
    assert found.macro_recall.mean == pytest.approx(recall.mean())
    assert found.confusion == confusion_matrix(right, guess).tolist()
    for index, label in enumerate(LABELS):
        scores = found.labels[label]
        assert (scores.precision.mean, scores.recall.mean, scores.f1.mean) == pytest.approx(
            (precision[index], recall[index], f1[index])
        )
        assert (scores.texts, scores.predicted) == (support[index], (guess == index).sum())
        assert scores.roc_auc == pytest.approx(roc_auc_score(right == index, probabilities[:, index]))
        assert scores.average_precision == pytest.approx(
            average_precision_score(right == index, probabilities[:, index])
        )
        assert scores.probability == pytest.approx(probabilities[:, index].mean())
        assert scores.roc.x[0] == scores.roc.y[0] == 0
        assert scores.roc.x[-1] == scores.roc.y[-1] == 1
        assert scores.precision_recall.x == sorted(scores.precision_recall.x)


def test_multi_label_measures_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    truth = rng.random((150, 3)) < 0.4
    probabilities = np.clip(0.3 * truth + 0.7 * rng.random((150, 3)), 0, 1)
    found = measure(
        probabilities,
        truth,
        groups=range(150),
        labels=LABELS,
        multi_label=True,
        draws=cluster_draws(range(150), seed=0, resamples=50),
    )
    guess = probabilities >= 0.5
    _, _, f1, _ = precision_recall_fscore_support(truth, guess, zero_division=0)
    assert found.macro_f1.mean == pytest.approx(f1.mean())
    assert found.accuracy.mean == pytest.approx(accuracy_score(truth, guess))
    assert found.confusion is None
    assert sum(one.count for one in found.reliability) == truth.size


def test_predictions_by_hand():
    table = np.array([[0.2, 0.5, 0.3], [0.6, 0.5, 0.1]])
    assert predictions(table, multi_label=False).tolist() == [[False, True, False], [True, False, False]]
    assert predictions(table, multi_label=True).tolist() == [[False, True, False], [True, True, False]]


def test_a_label_without_texts_is_left_out_of_the_mean():
    truth = np.eye(3, dtype=bool)[[0, 0, 1, 1]]
    table = np.eye(3)[[0, 0, 1, 2]] * 0.9 + 0.01
    found = evaluated({"ours": table, "other": np.full((4, 3), 1 / 3)}, truth).methods["ours"]
    assert found.macro_f1.mean == pytest.approx((1 + 2 / 3) / 2)
    assert (found.labels["c"].roc_auc, found.labels["c"].roc, found.labels["c"].texts) == (None, None, 0)
    assert found.labels["c"].f1.mean == 0


def test_intervals_cover_the_true_value_about_as_often_as_they_say():
    """150 sets of 150 texts; the truth is the macro F1 of 200 000 texts."""
    large_table, large_truth = random_case(200_000, seed=99)
    right, guess = large_truth.argmax(1), large_table.argmax(1)
    wanted = precision_recall_fscore_support(right, guess)[2].mean()
    covered = []
    for seed in range(150):
        table, truth = random_case(150, seed=seed)
        draws = cluster_draws(range(150), seed=seed, resamples=200)
        found = measure(table, truth, groups=range(150), labels=LABELS, multi_label=False, draws=draws).macro_f1
        covered.append(found.low <= wanted <= found.high)
    assert 0.88 <= np.mean(covered) <= 0.98


def test_copies_of_a_text_do_not_narrow_the_interval():
    table, truth = random_case(100)
    copies = [np.repeat(part, 4, axis=0) for part in (table, truth)]
    one = evaluated({"ours": table, "other": table}, truth).methods["ours"].macro_f1
    groups = np.repeat(np.arange(100), 4)
    four = evaluated({"ours": copies[0], "other": copies[0]}, copies[1], groups=groups).methods["ours"].macro_f1
    assert (four.mean, four.low, four.high) == pytest.approx((one.mean, one.low, one.high))
    assert (four.count, four.prompts) == (400, 100)


def test_the_verdict_says_who_wins():
    good, truth = random_case(400, skill=4.0)
    bad, _ = random_case(400, seed=0, skill=0.5)
    constant = np.tile(truth.mean(axis=0), (400, 1))
    wins = evaluated({"majority": constant, "weak": bad, "ours": good}, truth)
    assert (wins.best_baseline, wins.gain.low > 0) == ("weak", True)
    assert wins.verdict().startswith("ours beats the best baseline: macro F1")
    loses = evaluated({"strong": good, "ours": bad}, truth)
    assert loses.verdict().startswith("the baseline wins against ours")
    same = evaluated({"twin": good, "ours": good}, truth)
    assert (same.gain.low, same.gain.high) == (0, 0)
    assert same.verdict().startswith("no difference shown between ours and the best baseline")


def test_mistakes_are_the_most_confident_wrong_ones():
    table, truth = random_case(300)
    found = evaluated({"ours": table, "other": table}, truth)
    assert len(found.mistakes) == MISTAKES
    confidences = [one.confidence for one in found.mistakes]
    assert confidences == sorted(confidences, reverse=True)
    wrong = table.argmax(1) != truth.argmax(1)
    assert confidences[0] == pytest.approx(table.max(axis=1)[wrong].max())
    first = found.mistakes[0]
    number = int(first.text.split()[1])
    assert first.labels == [LABELS[truth[number].argmax()]]
    assert first.predicted == [LABELS[table[number].argmax()]]
    flags = np.array([[True, False, False]])
    multi = evaluated(
        {"ours": np.array([[0.2, 0.9, 0.4]]), "other": np.array([[0.5, 0.5, 0.5]])}, flags, multi_label=True
    )
    assert (multi.mistakes[0].predicted, multi.mistakes[0].confidence) == (["b"], pytest.approx(0.9))


def test_calibration_by_hand():
    # One bin per text: |1 − .9| and |0 − .6| → mean .35; by chance the mean of √(2/π · p(1 − p)).
    bins, ece, by_chance = calibration(np.array([0.9, 0.6]), np.array([1.0, 0.0]))
    assert len(bins) == 2
    assert ece == pytest.approx(0.35)
    assert by_chance == pytest.approx(np.sqrt(2 / np.pi) * (np.sqrt(0.09) + np.sqrt(0.24)) / 2)
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 20_000)
    right = (rng.random(20_000) < confidence).astype(float)
    _, ece, by_chance = calibration(confidence, right)
    assert ece == pytest.approx(by_chance, abs=0.006), "a calibrated classifier has the error that chance explains"
    assert calibration(confidence, 1 - right)[1] > 0.3


def test_draws_keep_the_number_of_groups():
    draws = cluster_draws(["x", "y", "y", "z"], seed=0, resamples=20)
    assert draws.shape == (21, 3)
    assert (draws.sum(axis=1) == 3).all()
    assert (draws[0] == 1).all()
    assert len(np.unique(draws[1:], axis=0)) > 3
