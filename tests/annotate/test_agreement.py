import itertools
import warnings

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from annotate.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha, raw_agreement


def test_raw_agreement_by_hand() -> None:
    # Item 1: pairs (2, 1) agree, (2, 0) and (1, 0) do not. Item 2: (-1, 3) do not. Item 3 has one judgement.
    units = [[2, 1, 0], [-1, 3], [1]]
    assert raw_agreement(units, ties=True) == pytest.approx(1 / 4)
    assert raw_agreement(units, ties=False) == pytest.approx(1 / 2)
    assert raw_agreement([[0, 0]], ties=True) == 1.0


@pytest.mark.parametrize("units", [[], [[1]], [[0, 1]]])
def test_raw_agreement_is_undefined_without_a_pair(units: list[list[int]]) -> None:
    assert raw_agreement(units, ties=False) is None


def test_raw_agreement_counts_pairs_one_by_one() -> None:
    rng = np.random.default_rng(0)
    units = [rng.integers(-3, 4, size=rng.integers(1, 6)).tolist() for _ in range(50)]
    pairs = [(np.sign(a), np.sign(b)) for unit in units for a, b in itertools.combinations(unit, 2)]
    assert raw_agreement(units, ties=True) == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert raw_agreement(units, ties=False) == pytest.approx(np.mean([a == b for a, b in pairs if a and b]))


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
@pytest.mark.parametrize("seed", range(5))
def test_cohen_kappa_equals_scikit_learn(weights: str | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(-3, 4, 40)
    second = np.where(rng.random(40) < 0.5, first, rng.integers(-3, 4, 40))
    expected = cohen_kappa_score(first, second, weights=weights)
    assert cohen_kappa(first.tolist(), second.tolist(), weights=weights) == pytest.approx(expected)  # type: ignore[arg-type]


def test_cohen_kappa_undefined_and_limits() -> None:
    assert cohen_kappa([], []) is None
    assert cohen_kappa([1, 1, 1], [1, 1, 1]) is None
    assert cohen_kappa([0, 1, 0, 1], [0, 1, 0, 1]) == 1
    assert cohen_kappa([0, 1, 0, 1], [1, 0, 1, 0]) == -1
    with pytest.raises(ValueError, match="2 and 1 items"):
        cohen_kappa([1, 2], [1])


def test_fleiss_kappa_published_example() -> None:
    # Fleiss 1971's layout with the ten subjects, fourteen raters and five categories of the usual worked example.
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss_kappa(table) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_undefined_and_limits() -> None:
    assert fleiss_kappa([]) is None
    assert fleiss_kappa([[3, 0], [3, 0]]) is None
    assert fleiss_kappa([[3, 0], [0, 3]]) == 1
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa([[2, 1], [1, 1]])


# Krippendorff 2011, section C: four observers, twelve units, missing values left out.
_PUBLISHED = [
    [1, 1, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
    [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [5, 5, 5], [1, 1], [3],
]  # fmt: skip


@pytest.mark.parametrize(("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_alpha_published_example(level: str, expected: float) -> None:
    assert krippendorff_alpha(_PUBLISHED, level=level) == pytest.approx(expected, abs=5e-4)  # type: ignore[arg-type]


def test_krippendorff_alpha_for_two_annotators_from_the_definition() -> None:
    """1 - observed / expected disagreement, counted pair by pair over all values."""
    rng = np.random.default_rng(1)
    units = rng.integers(-3, 4, (30, 2))
    pooled = units.ravel()
    expected = np.mean([(a - b) ** 2 for a, b in itertools.permutations(pooled.tolist(), 2)])
    observed = np.mean((units[:, 0] - units[:, 1]) ** 2)
    assert krippendorff_alpha(units.tolist(), level="interval") == pytest.approx(1 - observed / expected)


@pytest.mark.parametrize("units", [[], [[1]], [[1, 1], [1, 1, 1]]])
def test_krippendorff_alpha_is_undefined_without_variation(units: list[list[int]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert krippendorff_alpha(units, level="ordinal") is None


def test_perfect_agreement_is_one_and_chance_is_about_zero() -> None:
    rng = np.random.default_rng(2)
    assert krippendorff_alpha([[v, v] for v in (-1, 0, 1, 1)], level="nominal") == 1
    chance = krippendorff_alpha(rng.integers(-3, 4, (2000, 2)).tolist(), level="ordinal")
    assert chance == pytest.approx(0, abs=0.09)  # 4 standard errors, 1/sqrt(2000) each
