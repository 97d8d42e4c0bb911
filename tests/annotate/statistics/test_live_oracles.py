"""Agreement and Dawid-Skene against other people's programs, on judgements drawn anew and on awkward ones.

krippendorff (GPL), crowd-kit and statsmodels are installed for the tests alone. What they and choix said of fixed sets
is recorded too (`oracles/recorded.json`), so that something is compared where they are missing.
"""

import warnings

import numpy as np
import pandas as pd
import pytest

from annotate.statistics.agreement import agreement
from annotate.statistics.agreement_sums import Level
from annotate.statistics.quality import dawid_skene
from tests.annotate.statistics.oracles.units import fleiss_kappa, krippendorff_alpha

LEVELS: tuple[Level, ...] = ("nominal", "ordinal", "interval")
_ = np.nan
EDGES: dict[str, list[list[float]]] = {
    "everybody, always the same": [[2, 2, 2], [2, 2, 2]],
    "two values, perfect": [[-3, -3], [3, 3]],
    "always opposite": [[-1, 1], [1, -1], [1, -1]],
    "ties but for one": [[0, 0, 0], [0, 0, 0], [0, 0, 1]],
    "one item": [[-3, 2, 2]],
    "one item judged twice, others once": [[1, 1, _], [_, 3, _], [_, _, -3], [2, _, _]],
    "the same, and it is split": [[1, -2, _], [_, 3, _], [_, _, -3]],
    "nobody judged anything twice": [[1, _], [_, 2], [-3, _]],
    "one annotator judged nothing": [[1, _, 2], [0, _, 0], [-1, _, -2]],
    "an item that nobody judged": [[1, 1], [_, _], [0, 1]],
    "the ends of the scale": [[-3, 3], [3, 3], [-3, -3], [3, -3]],
    "many people, one item split in halves": [[-1, -1, -1, 1, 1, 1], [0, 0, 0, 0, 0, 0]],
}


def random_table(seed: int) -> np.ndarray:
    """(items, people) strengths, from very alike to at random, with 0 to 80 % missing."""
    rng = np.random.default_rng(seed)
    items, people = int(rng.integers(2, 60)), int(rng.integers(2, 9))
    truth = rng.integers(-3, 4, items)
    spread = int(rng.integers(0, 5))
    table = np.clip(truth[:, None] + rng.integers(-spread, spread + 1, (items, people)), -3, 3).astype(float)
    table[rng.random(table.shape) < rng.choice([0, 0.2, 0.5, 0.8])] = np.nan
    return table


TABLES = {**{name: np.array(rows) for name, rows in EDGES.items()}, **{f"{n}": random_table(n) for n in range(40)}}


def krippendorffs(table: np.ndarray, level: Level) -> float | None:
    """None where that program refuses (one value only, nothing compared) or gives no number."""
    import krippendorff as theirs

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it divides by nothing where nothing is compared
            found = float(theirs.alpha(reliability_data=table.T, level_of_measurement=level))
    except ValueError:
        return None
    return None if np.isnan(found) else found


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", TABLES)
def test_alpha_is_that_of_krippendorff(name: str, level: Level) -> None:
    units = [row[~np.isnan(row)].astype(int).tolist() for row in TABLES[name]]
    expected = krippendorffs(TABLES[name], level)
    found = krippendorff_alpha(units, level=level)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-9))


@pytest.mark.parametrize("name", TABLES)
def test_the_lead_sees_the_same_alphas(name: str) -> None:
    """`agreement`, which has all statistics at once: nominal of the sides, ordinal and interval of the strengths."""
    table = TABLES[name]
    rows, people = np.nonzero(~np.isnan(table))
    found = agreement(rows, people, table[rows, people].astype(int), resamples=0)
    for level, values in zip(LEVELS, (np.sign(table), table, table), strict=True):
        expected = krippendorffs(values, level)
        assert found[f"alpha_{level}"].value == (None if expected is None else pytest.approx(expected, abs=1e-9))


@pytest.mark.parametrize("seed", range(20))
def test_fleiss_kappa_is_that_of_statsmodels(seed: int) -> None:
    """On complete tables, which is all that it takes."""
    from statsmodels.stats import inter_rater as theirs

    rng = np.random.default_rng(seed)
    sides = np.clip(rng.integers(-1, 2, (30, 1)) + rng.integers(-1, 2, (30, int(rng.integers(2, 7)))), -1, 1)
    counts = np.stack([(sides == side).sum(1) for side in (-1, 0, 1)], axis=1)
    assert fleiss_kappa(counts) == pytest.approx(theirs.fleiss_kappa(counts), abs=1e-12)


def crowd_kit(
    rows: np.ndarray, who: np.ndarray, labels: np.ndarray, steps: int, known: np.ndarray | None = None
) -> np.ndarray:
    """Posteriors of crowd-kit's Dawid-Skene after so many steps; its own rule for stopping is switched off."""
    from crowdkit import aggregation

    data = pd.DataFrame({"task": rows, "worker": who, "label": labels})
    true = None if known is None else pd.Series(known)[known >= 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' of its future
        found = aggregation.DawidSkene(n_iter=steps, tol=-1e9).fit_predict_proba(data, true)
    return found.reindex(columns=range(3), fill_value=0.0).sort_index().to_numpy()


def judged_twice(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items, annotators and classes; each item judged at least twice, some classes perhaps by nobody."""
    rng = np.random.default_rng(1000 + seed)
    items, people = int(rng.integers(3, 50)), int(rng.integers(2, 8))
    truth = rng.choice(3, items, p=rng.dirichlet([1, 0.3, 1]))
    skill = rng.uniform(0.1, 1, people)
    rows, who = [], []
    for item in range(items):
        chosen = rng.choice(people, int(rng.integers(2, people + 1)), replace=False)
        rows += [item] * len(chosen)
        who += chosen.tolist()
    labels = np.where(rng.random(len(rows)) < skill[who], truth[rows], rng.integers(3, size=len(rows)))
    return np.array(rows), np.array(who), labels


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 20])
@pytest.mark.parametrize("seed", range(12))
def test_posteriors_are_those_of_crowd_kit(seed: int, steps: int) -> None:
    """Where every item has two judgements and nothing is flipped or pooled: there ours is the plain model."""
    rows, who, labels = judged_twice(seed)
    found = dawid_skene(rows, who, labels, iterations=steps, tolerance=-1)
    assert found.posteriors == pytest.approx(crowd_kit(rows, who, labels, steps), abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_known_items_are_those_of_crowd_kit(seed: int) -> None:
    rows, who, labels = judged_twice(seed)
    known = np.where(np.random.default_rng(seed).random(rows.max() + 1) < 0.3, 1 + rows.max() % 2, -1)
    found = dawid_skene(rows, who, labels, known=known, iterations=10, tolerance=-1)
    assert found.posteriors == pytest.approx(crowd_kit(rows, who, labels, 10, known), abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "who"),
    [
        ([0, 0, 0, 0], [0, 1, 0, 1]),
        ([1, 1, 1, 1], [0, 1, 2, 3]),
        ([0, 2, 0, 2], [0, 1, 0, 1]),
        ([0, 2, 2, 0], [0, 1, 0, 1]),
        ([0, 0, 2, 2], [0, 1, 0, 1]),
    ],
    ids=["one class only", "only ties", "always apart", "apart, in turns", "always together"],
)
def test_awkward_judgements_are_those_of_crowd_kit(labels: list[int], who: list[int]) -> None:
    rows = np.array([0, 0, 1, 1])
    for steps in (1, 2, 20):
        found = dawid_skene(rows, who, labels, iterations=steps, tolerance=-1)
        assert found.posteriors == pytest.approx(crowd_kit(rows, np.array(who), np.array(labels), steps), abs=1e-7)
