import json
from pathlib import Path

import numpy as np
import pytest

from annotate.statistics.agreement import agreement
from annotate.statistics.quality import (
    DawidSkene,
    agreement_with_others,
    classes_of,
    dawid_skene,
    share_by,
    speed_outliers,
)

RECORDED = json.loads((Path(__file__).parent / "oracles/recorded.json").read_text())
CASES = {name: case["dawid_skene"] for name, case in RECORDED["cases"].items() if "dawid_skene" in case}


def flat(table: list[list[int | None]]) -> tuple[list[int], list[int], list[int]]:
    """Items, annotators and strengths of a table with a row an item."""
    rows = [(i, a, value) for i, row in enumerate(table) for a, value in enumerate(row) if value is not None]
    items, people, values = zip(*rows, strict=True)
    return list(items), list(people), list(values)


@pytest.mark.parametrize("name", CASES)
def test_the_same_as_crowd_kit_step_by_step(name: str) -> None:
    items, people, strengths = flat(CASES[name]["judgements"])
    for step in CASES[name]["steps"]:
        found = dawid_skene(items, people, classes_of(strengths), iterations=step["iterations"], tolerance=0)
        assert found.posteriors == pytest.approx(np.array(step["posteriors"]), abs=1e-8)


def crowd(
    seed: int, *, items: int = 1500, people: int = 12, left_only: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, items, annotators, labels, flips and each annotator's share of right answers."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, items, p=[0.45, 0.1, 0.45])
    rows = np.repeat(np.arange(items), 3)
    who = np.concatenate([rng.choice(people, 3, replace=False) for _ in range(items)])
    skill = np.linspace(0.3, 0.95, people)
    labels = np.where(rng.random(len(rows)) < skill[who], truth[rows], rng.integers(3, size=len(rows)))
    flips = rng.random(len(rows)) < 0.5
    if left_only:
        labels = np.where(who < 4, np.where(flips, 2, 0), labels)
    return truth, rows, who, labels, flips, skill + (1 - skill) / 3


def test_informedness_by_hand() -> None:
    # Right .8, wrong .1, on both sides: .7. Blind, with whatever bias: 0. The first said in .9 and .2, the second in .6
    # and .05 of the cases: ½ (.7 + .55). Sides exchanged: −.7.
    tables = [
        [[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.1, 0.1, 0.8]],
        [[0.7, 0.1, 0.2], [0.7, 0.1, 0.2], [0.7, 0.1, 0.2]],
        [[0.9, 0.05, 0.05], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]],
        [[0.1, 0.1, 0.8], [0.3, 0.4, 0.3], [0.8, 0.1, 0.1]],
    ]
    found = DawidSkene(np.zeros((0, 3)), np.full(3, 1 / 3), np.array(tables), 1, True).informedness
    assert found == pytest.approx([0.7, 0, 0.625, -0.7])


def test_reliability_is_recovered_and_beats_the_majority() -> None:
    truth, items, who, labels, _, right = crowd(0)
    found = dawid_skene(items, who, labels)
    assert np.corrcoef(found.reliability, right)[0, 1] > 0.97
    majority = np.bincount(items * 3 + labels, minlength=3 * len(truth)).reshape(-1, 3).argmax(1)
    assert (found.posteriors.argmax(1) == truth).mean() > (majority == truth).mean() + 0.02


def test_posteriors_are_calibrated() -> None:
    truth, items, who, labels, _, _ = crowd(1, items=4000)
    found = dawid_skene(items, who, labels)
    claimed = found.posteriors.max(1).mean()
    assert claimed == pytest.approx((found.posteriors.argmax(1) == truth).mean(), abs=0.03)


def test_somebody_who_always_says_left_teaches_nothing() -> None:
    _, items, who, labels, flips, _ = crowd(2, left_only=True)
    found = dawid_skene(items, who, labels, flips=flips)
    assert found.confusion[0, :, 0] == pytest.approx(1, abs=1e-6)  # left, whatever is right
    without = who >= 4
    alone = dawid_skene(items[without], who[without] - 4, labels[without], flips=flips[without])
    some = np.unique(items[without])
    twice = some[np.bincount(items[without])[some] >= 2]
    # Items that only the others judged still move a little, because more items teach their mistakes.
    assert found.posteriors[twice] == pytest.approx(alone.posteriors[twice], abs=0.15)
    assert np.abs(found.posteriors[twice] - alone.posteriors[twice]).mean() < 0.01
    assert found.reliability[:4].max() < 0.5 < found.reliability[-1]


def test_turning_the_answers_of_every_item_round_turns_the_posteriors_round() -> None:
    _, items, who, labels, flips, _ = crowd(3, items=300)
    found = dawid_skene(items, who, labels, flips=flips)
    turned = dawid_skene(items, who, 2 - labels, flips=~flips)
    assert turned.posteriors == pytest.approx(found.posteriors[:, ::-1], abs=1e-9)
    assert turned.confusion == pytest.approx(found.confusion, abs=1e-9)


def test_single_judgements_teach_nothing_and_known_items_do() -> None:
    # Ann and Bea judge an item each, alone: nothing is known of them beyond chance.
    alone = dawid_skene([0, 1], [0, 1], [0, 2])
    assert alone.posteriors == pytest.approx(np.full((2, 3), 1 / 3))
    # Gold items say that Ann is right and Bea is wrong; then her answer to the open item counts, and Bea's does not.
    items, who, labels = [0, 1, 2, 3, 0, 1, 2, 3, 4, 5], [0] * 4 + [1] * 4 + [0, 1], [0, 2, 0, 2, 2, 0, 2, 0, 0, 2]
    known = [0, 2, 0, 2, -1, -1]
    taught = dawid_skene(items, who, labels, known=known)
    assert taught.reliability == pytest.approx([1, 0], abs=1e-6)
    assert taught.posteriors[4].argmax() == 0
    assert taught.posteriors[5].argmax() == 0  # she says 2 where 0 is right


def test_known_items_teach_even_when_judged_once_and_nobody_outvotes_them() -> None:
    # Ann alone on items 0 to 3, right; Bea and Cai together on items 4 to 7, wrong.
    items, who = [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7], [0] * 4 + [1, 2] * 4
    labels = [0, 2, 0, 2, 2, 2, 0, 0, 2, 2, 0, 0]
    found = dawid_skene(items, who, labels, known=[0, 2] * 4)
    assert found.reliability == pytest.approx([1, 0, 0], abs=1e-6)
    assert found.posteriors == pytest.approx(np.eye(3)[[0, 2] * 4])


def test_pooling_lends_the_mistakes_of_everybody() -> None:
    _, items, who, labels, _, _ = crowd(4)
    newcomer = who.max() + 1
    more = np.append(items, 7), np.append(who, newcomer), np.append(labels, 2)
    lent = dawid_skene(*more, pooling=1000.0).reliability
    assert lent[newcomer] == pytest.approx(lent[:-1].mean(), abs=0.02)
    assert np.ptp(lent) < 0.5 * np.ptp(dawid_skene(*more).reliability)


def test_nothing_gives_nothing() -> None:
    empty = dawid_skene([], [], [])
    assert empty.posteriors.shape == (0, 3)
    assert empty.confusion.shape == (0, 3, 3)


def test_speed_outliers_are_far_below_the_quartiles() -> None:
    seconds = np.array([10.0, 12, 14, 16, 18, 20, 22, 24] * 5 + [0.5, np.nan])
    found = speed_outliers(seconds)
    low, high = np.quantile(np.log(seconds[:-1]), [0.25, 0.75])
    assert found.fence == pytest.approx(np.exp(low - 1.5 * (high - low)))
    assert found.outliers.nonzero()[0].tolist() == [40]
    few = speed_outliers([1.0, 2.0, 0.001])
    assert few.fence is None
    assert not few.outliers.any()


def test_shares_by_annotator_by_hand() -> None:
    hits, cases = share_by(np.array([0, 0, 1, 1, 2]), [1, 0, 1, 1, 1], [True, True, True, False, False], 3)
    assert hits.tolist() == [1, 1, 0]
    assert cases.tolist() == [2, 1, 0]


def test_agreement_with_others_by_hand() -> None:
    # Item 0: annotators 0, 1 say 2, annotator 2 says 0. Item 1: annotator 0 alone.
    same, pairs = agreement_with_others(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0]), np.array([2, 2, 0, 1]), 3)
    assert same.tolist() == [1, 1, 0]
    assert pairs.tolist() == [2, 2, 2]


def test_fifty_thousand_judgements() -> None:
    _, items, who, labels, flips, _ = crowd(5, items=17_000, people=30)
    assert len(items) > 50_000
    statistics = agreement(items, who, 3 * (labels - 1))
    found = dawid_skene(items, who, labels, flips=flips, pooling=2.0)
    assert found.converged
    assert statistics["alpha_ordinal"].low is not None
