"""Measures of classifiers from probabilities and labels. Pure: knows numbers and names, no model.

A text has one label (*single-label*) or any number (*multi-label*). Intervals are 95 % percentile bootstraps over
groups of near-duplicate texts; all methods share the draws, so differences between them are paired.
Shapes: N = texts, K = labels, G = groups, R = bootstrap draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from workbench.evaluate.metrics import Bin, equal_mass_bins
from workbench.evaluate.statistics import Estimate, Floats, share_interval

Flags = NDArray[np.bool_]
RESAMPLES = 1000
BINS = 12
CURVE_POINTS = 100
MISTAKES = 20
THRESHOLD = 0.5
"""A label of a multi-label task is predicted from this probability."""


@dataclass(frozen=True)
class Curve:
    """Points of a curve, at most `CURVE_POINTS`."""

    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class LabelScores:
    """One label against all others."""

    precision: Estimate
    recall: Estimate
    f1: Estimate
    texts: int
    """Held-out texts with this label."""
    predicted: int
    """Held-out texts for which it is predicted."""
    probability: float
    """Mean probability, to compare with its share of the texts."""
    roc_auc: float | None
    """Area under the ROC curve; None if all texts or none have the label."""
    average_precision: float | None
    """Area under the precision-recall curve as scikit-learn sums it; None likewise."""
    roc: Curve | None
    """False positive rate → true positive rate."""
    precision_recall: Curve | None
    """Recall → precision."""


@dataclass(frozen=True)
class MethodScores:
    """One classifier on the held-out texts."""

    accuracy: Estimate
    """Share of texts whose labels are predicted exactly. Wilson's interval on the effective number of texts."""
    macro_precision: Estimate
    macro_recall: Estimate
    macro_f1: Estimate
    """Means over the labels that held-out texts have."""
    labels: dict[str, LabelScores]
    confusion: list[list[int]] | None
    """Row: label; column: prediction. None for multi-label tasks."""
    ece: float
    """Expected calibration error of the prediction's probability, equal-mass bins; of every label's if multi-label."""
    ece_by_chance: float
    """The same of a perfectly calibrated classifier with these probabilities."""
    reliability: list[Bin]


@dataclass(frozen=True)
class Mistake:
    """A held-out text that is classified wrongly."""

    text: str
    labels: list[str]
    predicted: list[str]
    confidence: float
    """Probability of the wrong prediction; of the wrongest label decision if multi-label."""


@dataclass(frozen=True)
class ClassifierEvaluation:
    """The trained classifier and what it has to beat, on the same held-out texts."""

    trained: str
    """Its name among the methods."""
    multi_label: bool
    texts: int
    groups: int
    """Groups of near duplicates among the held-out texts."""
    methods: dict[str, MethodScores]
    best_baseline: str
    """The other method with the highest macro F1."""
    gain: Estimate
    """Macro F1 of the trained classifier minus that of the best baseline, paired."""
    mistakes: list[Mistake]
    """The most confident mistakes of the trained classifier."""

    def verdict(self) -> str:
        """Whether the trained classifier beats the best baseline, in words."""
        ours, theirs = (self.methods[name].macro_f1 for name in (self.trained, self.best_baseline))
        said = (
            f"{self.trained} beats the best baseline"
            if self.gain.low > 0
            else f"the baseline wins against {self.trained}"
            if self.gain.high < 0
            else f"no difference shown between {self.trained} and the best baseline"
        )
        return (
            f"{said}: macro F1 {ours.mean:.3f} against {theirs.mean:.3f} ({self.best_baseline}), difference "
            f"{self.gain.mean:+.3f}, 95% CI {self.gain.low:+.3f} to {self.gain.high:+.3f}"
        )


def predictions(probabilities: Floats, *, multi_label: bool) -> Flags:
    """(N, K) predicted labels: the most probable one, or each with probability ½ and more."""
    if multi_label:
        return probabilities >= THRESHOLD
    chosen = np.zeros(probabilities.shape, dtype=np.bool_)
    chosen[np.arange(len(chosen)), probabilities.argmax(axis=1)] = True
    return chosen


def evaluate_classifiers(
    methods: Mapping[str, Floats],
    truth: Flags,
    *,
    texts: Sequence[str],
    groups: Sequence[int],
    labels: Sequence[str],
    trained: str,
    multi_label: bool,
    seed: int,
) -> ClassifierEvaluation:
    """Measure classifiers on the same texts, and compare the trained one with the best of the others.

    Args:
        methods: name → (N, K) probabilities.
        truth: (N, K) labels.
        texts: (N,), for the list of mistakes.
        groups: (N,) groups of near duplicates.
        labels: (K,) names.
        trained: the method to compare with the others.
        multi_label: whether a text may have any number of labels.
        seed: of the bootstrap.
    """
    draws = cluster_draws(groups, seed=seed)
    samples = {}
    measured = {}
    for name, probabilities in methods.items():
        found = predictions(probabilities, multi_label=multi_label)
        samples[name] = _macro(_rates(_counts(truth, found), groups, draws), truth)["f1"]
        measured[name] = measure(
            probabilities, truth, groups=groups, labels=labels, multi_label=multi_label, draws=draws
        )
    best = max((name for name in methods if name != trained), key=lambda name: measured[name].macro_f1.mean)
    low, high = np.quantile(samples[trained][1:] - samples[best][1:], [0.025, 0.975])
    difference = measured[trained].macro_f1.mean - measured[best].macro_f1.mean
    number = len(set(groups))
    return ClassifierEvaluation(
        trained=trained,
        multi_label=multi_label,
        texts=len(truth),
        groups=number,
        methods=measured,
        best_baseline=best,
        gain=Estimate(difference, float(low), float(high), len(truth), number),
        mistakes=_mistakes(methods[trained], truth, texts, labels, multi_label=multi_label),
    )


def cluster_draws(groups: Sequence[int], *, seed: int, resamples: int = RESAMPLES) -> Floats:
    """(1 + R, G) how often each group is drawn: once each in row 0, with replacement in the others."""
    number = len(set(groups))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(number, np.full(number, 1 / number), size=resamples)
    return np.concatenate([np.ones((1, number)), drawn]).astype(np.float64)


def measure(
    probabilities: Floats,
    truth: Flags,
    *,
    groups: Sequence[int],
    labels: Sequence[str],
    multi_label: bool,
    draws: Floats,
) -> MethodScores:
    """Measure one classifier.

    Args:
        probabilities: (N, K).
        truth: (N, K) labels.
        groups: (N,).
        labels: (K,) names.
        multi_label: whether a text may have any number of labels.
        draws: (1 + R, G) from `cluster_draws`.
    """
    found = predictions(probabilities, multi_label=multi_label)
    right = (found == truth).all(axis=1)
    rates = _rates(_counts(truth, found), groups, draws)
    macro = {name: _estimate(values, len(truth), draws.shape[1]) for name, values in _macro(rates, truth).items()}
    confidence, correct = _decisions(probabilities, truth, found, multi_label=multi_label)
    bins, ece, by_chance = calibration(confidence, correct)
    confusion = None
    if not multi_label:
        confusion = (truth.astype(int).T @ found.astype(int)).tolist()
    return MethodScores(
        accuracy=share_interval(right.astype(np.float64), groups),
        macro_precision=macro["precision"],
        macro_recall=macro["recall"],
        macro_f1=macro["f1"],
        labels={
            label: _label_scores(index, probabilities, truth, found, rates, draws.shape[1])
            for index, label in enumerate(labels)
        },
        confusion=confusion,
        ece=ece,
        ece_by_chance=by_chance,
        reliability=bins,
    )


def _counts(truth: Flags, found: Flags) -> Floats:
    """(N, K, 3) true positives, predictions and labels."""
    return np.stack([truth & found, found, truth], axis=2).astype(np.float64)


def _rates(counts: Floats, groups: Sequence[int], draws: Floats) -> dict[str, Floats]:
    """(1 + R, K) precision, recall and F1 of each label per draw; NaN for a label that no drawn text has.

    A label that is never predicted has precision 0, as in scikit-learn.
    """
    index = np.unique(np.asarray(groups), return_inverse=True)[1]
    sums = np.zeros((draws.shape[1], *counts.shape[1:]))  # (G, K, 3)
    np.add.at(sums, index, counts)
    hits, predicted, present = np.moveaxis(np.tensordot(draws, sums, axes=1), 2, 0)  # (1 + R, K) each
    absent = present == 0

    def share(numerator: Floats, denominator: Floats) -> Floats:
        return np.where(absent, np.nan, numerator / np.maximum(denominator, 1))

    return {
        "precision": share(hits, predicted),
        "recall": share(hits, present),
        "f1": share(2 * hits, predicted + present),
    }


def _macro(rates: Mapping[str, Floats], truth: Flags) -> dict[str, Floats]:
    """(1 + R,) mean over the labels that texts have."""
    present = truth.any(axis=0)
    return {name: np.nanmean(values[:, present], axis=1) for name, values in rates.items()}


def _estimate(samples: Floats, texts: int, groups: int) -> Estimate:
    """From the value (first) and its bootstrap draws; 0 if it is undefined."""
    value = 0.0 if np.isnan(samples[0]) else float(samples[0])
    known = samples[1:][~np.isnan(samples[1:])]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (value, value)
    return Estimate(value, float(low), float(high), texts, groups)


def _label_scores(
    index: int, probabilities: Floats, truth: Flags, found: Flags, rates: Mapping[str, Floats], groups: int
) -> LabelScores:
    present, score = truth[:, index], probabilities[:, index]
    estimates = {name: _estimate(values[:, index], len(truth), groups) for name, values in rates.items()}
    ranked = 0 < present.sum() < len(present)
    roc = precision_recall = None
    if ranked:
        false_rate, true_rate, _ = roc_curve(present, score)
        roc = _thinned(false_rate, true_rate)
        precision, recall, _ = precision_recall_curve(present, score)
        precision_recall = _thinned(recall[::-1], precision[::-1])
    return LabelScores(
        **estimates,
        texts=int(present.sum()),
        predicted=int(found[:, index].sum()),
        probability=float(score.mean()),
        roc_auc=float(roc_auc_score(present, score)) if ranked else None,
        average_precision=float(average_precision_score(present, score)) if ranked else None,
        roc=roc,
        precision_recall=precision_recall,
    )


def _thinned(x: Floats, y: Floats) -> Curve:
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), CURVE_POINTS)).round().astype(int))
    return Curve(x[kept].tolist(), y[kept].tolist())


def _decisions(probabilities: Floats, truth: Flags, found: Flags, *, multi_label: bool) -> tuple[Floats, Floats]:
    """Probability of each decision and whether it is right: one decision per text, or one per text and label."""
    if multi_label:
        return np.maximum(probabilities, 1 - probabilities).ravel(), (found == truth).ravel().astype(np.float64)
    confidence: Floats = probabilities.max(axis=1)
    return confidence, np.asarray((found & truth).any(axis=1), dtype=np.float64)


def calibration(confidence: Floats, correct: Floats) -> tuple[list[Bin], float, float]:
    r"""Reliability bins of equal mass, the calibration error, and that of a perfectly calibrated classifier.

        ECE = Σ_k n_k/N · |accuracy_k − confidence_k|;   by chance Σ_k n_k/N · √(2/π · mean_k p(1−p) / n_k)

    Source: Naeini et al. 2015 (AAAI); bins of equal mass: Nguyen and O'Connor 2015, arXiv:1508.05154.

    Args:
        confidence: (N,) probability of each decision.
        correct: (N,) 1 if it is right, else 0.
    """
    bins = equal_mass_bins(confidence, correct, bins=BINS)
    total = len(confidence)
    ece = sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / total
    parts = np.array_split(np.sort(confidence), min(BINS, total))
    spread = [len(part) * np.sqrt(2 / np.pi * (part * (1 - part)).mean() / len(part)) for part in parts]
    return bins, ece, float(sum(spread) / total)


def _mistakes(
    probabilities: Floats, truth: Flags, texts: Sequence[str], labels: Sequence[str], *, multi_label: bool
) -> list[Mistake]:
    """The most confident mistakes, the most confident first."""
    found = predictions(probabilities, multi_label=multi_label)
    wrong = np.flatnonzero((found != truth).any(axis=1))
    confidence = np.abs(probabilities - truth).max(axis=1) if multi_label else probabilities.max(axis=1)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]

    def names(flags: Flags) -> list[str]:
        return [label for label, flag in zip(labels, flags, strict=True) if flag]

    return [Mistake(texts[i], names(truth[i]), names(found[i]), float(confidence[i])) for i in worst]
