import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from annotate.statistics.agreement import agreement
from annotate.statistics.agreement_sums import (
    NO_VARIATION,
    NOTHING_COMPARED,
    NOTHING_DECIDED,
    SHARED,
    TOO_FEW_SHARED,
)
from tests.annotate.statistics.oracles.units import fleiss_kappa, krippendorff_alpha, raw_agreement, unit_counts

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "oracles/recorded.json").read_text())
CASES: dict[str, Any] = RECORDED["cases"]


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


def test_fleiss_kappa_of_unequal_items_by_hand() -> None:
    # Items of 3 and 2 judgements: P = 1/3 and 1, of 5 judgements 2 and 3; the item judged once is left out.
    assert fleiss_kappa([[2, 1], [0, 2], [1, 0]]) == pytest.approx((2 / 3 - by_chance(2, 3)) / (1 - by_chance(2, 3)))


def by_chance(first: int, second: int) -> float:
    """Two people draw from so many judgements of either category, with replacement."""
    return (first**2 + second**2) / (first + second) ** 2


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


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_is_that_of_the_package_krippendorff(name: str, level: str) -> None:
    """None where that program refuses, or divides by nothing."""
    units = [[value for value in row if value is not None] for row in CASES[name]["judgements"]]
    recorded = CASES[name]["alpha"][level]
    found = krippendorff_alpha(units, level=level)  # type: ignore[arg-type]
    assert found == (pytest.approx(recorded, abs=1e-9) if isinstance(recorded, float) else None)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name]["kappa"]])
def test_fleiss_kappa_is_that_of_statsmodels(name: str) -> None:
    rows, recorded = np.array(CASES[name]["judgements"]), CASES[name]["kappa"]
    fleiss = fleiss_kappa(unit_counts(list(np.sign(rows)), (-1, 0, 1)))
    assert fleiss == (None if recorded["fleiss"] is None else pytest.approx(recorded["fleiss"], abs=1e-9))


def judged(seed: int, *, items: int = 60, people: int = 5, missing: float = 0.4) -> tuple[np.ndarray, ...]:
    """Items, annotators and strengths at random, in random order."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(-3, 4, items)
    rows, who = np.nonzero(rng.random((items, people)) >= missing)
    values = np.clip(truth[rows] + rng.integers(-2, 3, len(rows)), -3, 3)
    order = rng.permutation(len(rows))
    return 100 + rows[order], 7 * who[order], values[order]


def test_all_statistics_together_are_each_of_them_alone() -> None:
    items, people, values = judged(0)
    found = agreement(items, people, values, resamples=50)
    units = [values[items == item].tolist() for item in np.unique(items)]
    signs = [np.sign(unit).tolist() for unit in units]
    expected = {
        "raw_with_ties": raw_agreement(units, ties=True),
        "raw_without_ties": raw_agreement(units, ties=False),
        "fleiss": fleiss_kappa(unit_counts(signs, (-1, 0, 1))),
        "alpha_nominal": krippendorff_alpha(signs, level="nominal"),
        "alpha_ordinal": krippendorff_alpha(units, level="ordinal"),
        "alpha_interval": krippendorff_alpha(units, level="interval"),
    }
    assert {name: found[name].value for name in expected} == {n: pytest.approx(v) for n, v in expected.items()}
    assert {statistic.items for statistic in found.values()} == {sum(len(unit) > 1 for unit in units)}


def test_the_pooled_kappa_of_two_people_is_cohens() -> None:
    items, people, values = judged(1, people=2, missing=0.2)
    both = [item for item in np.unique(items) if (items == item).sum() == 2]
    first, second = ([int(values[(items == item) & (people == who)][0]) for item in both] for who in (0, 7))
    found = agreement(items, people, values, resamples=0)["kappa_quadratic"]
    assert found.value == pytest.approx(cohen_kappa_score(first, second, weights="quadratic", labels=range(-3, 4)))
    assert (found.low, found.high) == (None, None)


def test_the_pooled_kappa_of_several_from_the_definition() -> None:
    items, people, values = judged(2)
    table = {(i, a): int(v) for i, a, v in zip(items, people, values, strict=True)}
    apart = by_chance = 0.0
    for a, b in itertools.combinations(np.unique(people).tolist(), 2):
        pairs = np.array([(table[i, a], table[i, b]) for i in np.unique(items) if (i, a) in table and (i, b) in table])
        assert len(pairs) >= SHARED
        apart += float(((pairs[:, 0] - pairs[:, 1]) ** 2).mean()) * len(pairs)
        by_chance += float(((pairs[:, :1] - pairs[:, 1:].T) ** 2).mean()) * len(pairs)
    found = agreement(items, people, values, resamples=0)["kappa_quadratic"].value
    assert found == pytest.approx(1 - apart / by_chance)


def test_the_interval_is_that_of_drawing_whole_items_again() -> None:
    items, people, values = judged(3, items=40)
    found = agreement(items, people, values, resamples=4000, seed=1)["alpha_ordinal"]
    units = [values[items == item].tolist() for item in np.unique(items) if (items == item).sum() > 1]
    rng = np.random.default_rng(0)
    again = [
        krippendorff_alpha([units[i] for i in rng.integers(len(units), size=len(units))], level="ordinal")
        for _ in range(1500)
    ]
    low, high = np.quantile([value for value in again if value is not None], [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.025), pytest.approx(high, abs=0.025))
    assert found.low is not None
    assert found.value is not None
    assert found.low < found.value


def test_resamples_in_which_a_statistic_is_undefined_are_left_out() -> None:
    """Two items, each agreed on: drawing the same one twice leaves nothing to tell from; else alpha is 1."""
    found = agreement([0, 0, 1, 1], [0, 1, 0, 1], [2, 2, -2, -2])["alpha_nominal"]
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_undefined_statistics_say_why() -> None:
    nothing = agreement([0, 1], [0, 0], [1, 2])
    assert {statistic.reason for statistic in nothing.values()} == {NOTHING_COMPARED}
    same = agreement([0, 0, 1, 1], [0, 1, 0, 1], [2, 2, 2, 2])
    assert same["raw_with_ties"].value == 1
    assert (same["fleiss"].value, same["fleiss"].reason) == (None, NO_VARIATION)
    assert (same["alpha_ordinal"].value, same["alpha_ordinal"].low) == (None, None)
    assert same["kappa_quadratic"].reason == TOO_FEW_SHARED
    assert agreement([0, 0], [0, 1], [0, 1])["raw_without_ties"].reason == NOTHING_DECIDED
    often = agreement(np.repeat(range(SHARED), 2), [0, 1] * SHARED, [1] * 2 * SHARED)["kappa_quadratic"]
    assert (often.value, often.reason) == (None, NO_VARIATION)


def test_order_and_codes_do_not_matter() -> None:
    items, people, values = judged(4)
    order = np.random.default_rng(0).permutation(len(items))
    found = agreement(items, people, values, resamples=0)
    again = agreement(-items[order], people[order] + 3, values[order], resamples=0)
    assert {n: s.value for n, s in again.items()} == {n: pytest.approx(s.value) for n, s in found.items()}
