import numpy as np
import pytest
from scipy.special import expit

from annotate.statistics.powered import FIRST_LOOK, PSEUDO_JUDGEMENTS, critical_value, powered


def world(seed: int, judged: int = 100, pairs: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of the judged pairs, and a sound reward model's predictions for all."""
    rng = np.random.default_rng(seed)
    gap = rng.normal(0.5, 4, pairs)
    return (rng.random(judged) < expit(gap[:judged])).astype(float), expit(gap)


def test_the_formula_of_ppi_plus_plus() -> None:
    """By the published formula: λ per half times the mean over the pairs without a judgement, plus the correction."""
    outcomes, predictions = world(0)
    own, others = predictions[:100], predictions[100:]
    expected = 0.0
    for half, other in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        slope = np.cov(outcomes[other], own[other])[0, 1] / own[other].var(ddof=1)
        weight = min(max(slope / (1 + 100 / 300), 0), 1 / (1 + 100 / 300))
        # Of all pairs, the judged ones' own predictions are those of both halves.
        judged_mean = own.mean()
        expected += 0.5 * (weight * others.mean() + (outcomes[half] - weight * own[half]).mean())
        expected += 0.5 * weight * (100 / 300) * (judged_mean - own[half].mean())
    found = powered(outcomes, own, predictions)
    assert found is not None
    assert found.with_predictions.mean == pytest.approx(expected, abs=1e-12)
    assert (found.judged, found.pairs) == (100, 400)


def test_people_only_is_the_mean_with_its_standard_error() -> None:
    outcomes, predictions = world(1)
    found = powered(outcomes, predictions[:100], predictions)
    assert found is not None
    alone, count = found.human_only, 100
    error = np.sqrt((outcomes.var(ddof=1) + PSEUDO_JUDGEMENTS / 4 / count) / count)
    # The variance of each half is around its own mean.
    assert alone.mean == pytest.approx(outcomes.mean())
    assert alone.high - alone.mean == pytest.approx(1.959964 * error, rel=0.02)
    assert alone.sequence_high - alone.mean > 1.4 * (alone.high - alone.mean)


@pytest.mark.parametrize("kind", ["reversed", "constant"])
def test_a_useless_model_leaves_the_human_figure(kind: str) -> None:
    outcomes, predictions = world(2)
    useless = 1 - predictions if kind == "reversed" else np.full_like(predictions, 0.7)
    found = powered(outcomes, useless[:100], useless)
    assert found is not None
    assert found.weight == 0
    assert found.with_predictions == found.human_only


def test_a_shift_of_all_predictions_changes_nothing() -> None:
    outcomes, predictions = world(3)
    found, shifted = (powered(outcomes, values[:100], values) for values in (predictions, predictions - 0.3))
    assert found is not None
    assert shifted is not None
    assert found.with_predictions.mean == pytest.approx(shifted.with_predictions.mean, abs=1e-12)
    assert found.with_predictions.high == pytest.approx(shifted.with_predictions.high, abs=1e-9)


def test_a_sound_model_narrows_both_intervals() -> None:
    outcomes, predictions = world(4)
    found = powered(outcomes, predictions[:100], predictions)
    assert found is not None
    own, alone = found.with_predictions, found.human_only
    assert own.high - own.low < 0.8 * (alone.high - alone.low)
    assert own.sequence_high - own.sequence_low < 0.8 * (alone.sequence_high - alone.sequence_low)


def test_a_first_look_waits_for_enough_judgements() -> None:
    outcomes, predictions = world(5)
    few = FIRST_LOOK - 1
    assert powered(outcomes[:few], predictions[:few], predictions) is None
    assert powered(outcomes[: few + 1], predictions[: few + 1], predictions) is not None
    certain = powered(np.ones(FIRST_LOOK), predictions[:FIRST_LOOK], predictions)
    assert certain is not None
    assert certain.human_only.low < 0.95  # thirty wins do not prove that no loss is possible


@pytest.mark.parametrize("ratio", [5, 30])
def test_a_brownian_motion_crosses_the_bound_as_often_as_it_says(ratio: float) -> None:
    """|B(t)|/√t on a fine geometric grid is a stationary autoregressive process."""
    rng, steps, paths = np.random.default_rng(0), 1500, 4000
    keep = np.exp(-np.log(ratio) / steps / 2)
    value, crossed = rng.normal(size=paths), np.zeros(paths, dtype=bool)
    bound = critical_value(ratio)
    for _ in range(steps):
        crossed |= np.abs(value) > bound
        value = keep * value + np.sqrt(1 - keep**2) * rng.normal(size=paths)
    assert crossed.mean() == pytest.approx(0.05, abs=0.012)


def test_one_look_has_the_bound_of_one_look() -> None:
    assert critical_value(1) == pytest.approx(1.95996, abs=1e-5)
    assert critical_value(1) < critical_value(4) < critical_value(400)
