"""The evaluation of a reward model on held-out preference pairs.

The model and the gold reward are passed in.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from workbench.data.records import Message, Preference
from workbench.evaluate.evaluation import RewardEvaluation
from workbench.evaluate.metrics import (
    accuracy_by_margin,
    brier,
    correctness,
    correlation,
    correlation_within,
    ece_by_chance,
    expected_calibration_error,
    reliability_bins,
    words,
)
from workbench.evaluate.policy import Gold, Score, finite_scores
from workbench.evaluate.statistics import Estimate, Floats, bootstrap_interval
from workbench.run.errors import WorkbenchError


def evaluate_reward_model(
    score: Score,
    preferences: Sequence[Preference],
    *,
    gold: Gold | None = None,
    gain: float = 1.0,
    bins: int = 12,
    seed: int = 0,
) -> RewardEvaluation:
    """Accuracy, calibration and length bias of a reward model on held-out pairs.

    Args:
        score: the reward model; called once, with the chosen and then the rejected answers.
        preferences: held-out pairs; ties (strength 0) are left out and counted.
        gold: the gold reward, if it is known.
        gain: factor that turned raw scores into scores; Bradley-Terry probabilities use raw scores.
        bins: of the reliability diagram and the calibration error.
        seed: of the bootstraps over prompts.
    Raises:
        WorkbenchError: no pair is left, or a score is not finite.
    """
    pairs = [preference for preference in preferences if preference.strength > 0]
    if not pairs:
        raise WorkbenchError(
            "held-out preferences",
            f"{len(preferences)} pairs, none of them with a preferred answer",
            remedy="label more pairs, or hold out more of them: python -m annotate export …",
        )
    prompts = [pair.prompt for pair in pairs] * 2
    texts = [pair.chosen_text for pair in pairs] + [pair.rejected_text for pair in pairs]
    scores = finite_scores(score(prompts, texts, [True] * len(texts)))
    gaps, groups = (scores[: len(pairs)] - scores[len(pairs) :]) / gain, [pair.group for pair in pairs]
    lengths = np.array([len(words(text)) for text in texts], dtype=np.float64)
    gold_gaps = _gold_gaps(gold, prompts, texts, len(pairs))
    return RewardEvaluation(
        accuracy=bootstrap_interval(correctness(gaps), groups, seed=seed),
        gold_accuracy=_agreement(gaps, gold_gaps, groups, seed=seed),
        noise_ceiling=_ceiling(gold_gaps, groups, seed=seed),
        ece=expected_calibration_error(gaps, bins=bins),
        ece_by_chance=ece_by_chance(gaps, bins=bins),
        brier=brier(gaps),
        reliability=reliability_bins(gaps, bins=bins),
        by_margin=accuracy_by_margin(gaps, bins=4),
        length_correlation=correlation(scores, lengths),
        length_correlation_within=correlation_within(scores, lengths, groups * 2),
        label_length_bias=_share_longer(lengths[: len(pairs)] - lengths[len(pairs) :]),
        score_mean=float(scores.mean()),
        score_sd=float(scores.std()),
        ties_left_out=len(preferences) - len(pairs),
        by_category=_by_category(pairs, correctness(gaps), seed=seed),
        longer_wins=bootstrap_interval(correctness(lengths[: len(pairs)] - lengths[len(pairs) :]), groups, seed=seed),
    )


def _by_category(pairs: Sequence[Preference], right: Floats, *, seed: int) -> dict[str, Estimate]:
    """Accuracy within each category; pairs without a category are in none."""
    counts = Counter(pair.category for pair in pairs if pair.category)
    found = {}
    for category, _ in counts.most_common():
        own = [index for index, pair in enumerate(pairs) if pair.category == category]
        found[category] = bootstrap_interval(right[own], [pairs[index].group for index in own], seed=seed)
    return found


def _gold_gaps(
    gold: Gold | None, prompts: Sequence[Sequence[Message]], texts: Sequence[str], count: int
) -> Floats | None:
    """(count,) gold reward of chosen − rejected; NaN for prompts that it does not cover; None if it covers none."""
    if gold is None:
        return None
    points = [gold(prompt, text, True) for prompt, text in zip(prompts, texts, strict=True)]
    totals = np.array([np.nan if one is None else one.total for one in points])
    gaps = totals[:count] - totals[count:]
    return None if np.isnan(gaps).all() else np.where(np.abs(gaps) < 1e-9, 0.0, gaps)


def _agreement(gaps: Floats, gold_gaps: Floats | None, groups: Sequence[str], *, seed: int) -> Estimate | None:
    """How often the scores order a pair as the gold reward does."""
    if gold_gaps is None:
        return None
    apart = ~np.isnan(gold_gaps) & (gold_gaps != 0)
    if not apart.any():
        return None
    kept = [group for group, keep in zip(groups, apart, strict=True) if keep]
    return bootstrap_interval(correctness(gaps[apart] * np.sign(gold_gaps[apart])), kept, seed=seed)


def _ceiling(gold_gaps: Floats | None, groups: Sequence[str], *, seed: int) -> Estimate | None:
    """How often the gold reward orders a pair as its label does; a tie in gold reward counts ½."""
    if gold_gaps is None:
        return None
    known = ~np.isnan(gold_gaps)
    kept = [group for group, keep in zip(groups, known, strict=True) if keep]
    return bootstrap_interval(correctness(gold_gaps[known]), kept, seed=seed)


def _share_longer(differences: Floats) -> float | None:
    unequal = differences[differences != 0]
    return float((unequal > 0).mean()) if unequal.size else None
