import json

import numpy as np
import pytest

from annotate.labels.resolve import Label, Mode, _Tally, fit, resolve
from annotate.labels.votes import Votes, collect
from annotate.store.statements import Adjudication, CurrentJudgement, StoredItem, StoredResponse

Answer = int | str | tuple[int, ...]
"""A strength, another choice, or ranks."""


def item(number: int = 1, **more: object) -> StoredItem:
    values = {"item_id": f"i{number}", "group_id": f"g{number}", "prompt": "[]", "overlap": 1, "done": 0, "round": 0}
    return StoredItem(id=number, **{**values, **more})  # type: ignore[arg-type]


def judgement(answer: Answer, who: str, number: int = 1, **more: object) -> CurrentJudgement:
    choice = "ranked" if isinstance(answer, tuple) else "compared" if isinstance(answer, int) else answer
    strength = answer if isinstance(answer, int) else None
    values = {"swapped": False, "seconds": None, "ranking": json.dumps(answer) if choice == "ranked" else None}
    return CurrentJudgement(number, who, False, choice, strength, **{**values, **more})  # type: ignore[arg-type]


def votes_on(*answers: Answer, count: int = 2) -> Votes:
    """Votes of person-0, person-1 … on one item."""
    judgements = [judgement(answer, f"person-{n}") for n, answer in enumerate(answers)]
    return collect([item()], {1: [StoredResponse(f"text {n}", "", True) for n in range(count)]}, judgements)


def label_of(*answers: Answer, mode: Mode = "majority") -> Label:
    (label,) = resolve(votes_on(*answers), {}, mode=mode)
    return label


@pytest.mark.parametrize(
    ("answers", "outcome", "chosen", "strength", "probability", "agreement"),
    [
        ((-2,), "decided", 0, 2, 1, None),
        ((3, 1, -2), "decided", 1, 2, 2 / 3, 2 / 3),
        ((1, 1, -3), "decided", 1, 1, 2 / 3, 2 / 3),  # the dissent is in the probability, not in the strength
        ((2, 0), "decided", 1, 1, 3 / 4, 3 / 4),  # one vote and a half against a half
        ((2, -1), "tie", None, 0, 1 / 2, 1 / 2),
        ((0, 0), "tie", None, 0, 1 / 2, 1 / 2),
        ((3, "both_bad", 1), "decided", 1, 4 / 3, 5 / 6, 5 / 6),
        (("both_bad", 3), "both_bad", None, 1.5, 3 / 4, 3 / 4),
        ((-1, "skipped"), "decided", 0, 1, 1, None),
    ],
)
def test_majority_by_hand(
    answers: tuple[Answer, ...],
    outcome: str,
    chosen: int | None,
    strength: float,
    probability: float,
    agreement: float | None,
) -> None:
    label = label_of(*answers)
    assert label.outcome == outcome
    assert chosen is None or label.chosen == chosen
    assert label.strength == pytest.approx(strength)
    assert label.probability == pytest.approx(probability)
    assert label.agreement == (None if agreement is None else pytest.approx(agreement))


def test_nothing_is_said_of_what_everybody_skipped() -> None:
    assert resolve(votes_on("skipped", "skipped"), {}, mode="majority") == []


def test_single_judgements_are_labels_of_their_own() -> None:
    labels = resolve(votes_on(-2, 3, 0), {}, mode="single")
    assert [(label.key, label.outcome, label.strength, label.annotators) for label in labels] == [
        ("i1#0", "decided", 2, ("person-0",)),
        ("i1#1", "decided", 3, ("person-1",)),
        ("i1#2", "tie", 0, ("person-2",)),
    ]
    assert [label.chosen for label in labels[:2]] == [0, 1]
    assert labels[0].agreement == labels[1].agreement == 0.5


def test_a_ranking_becomes_all_pairs_of_its_answers() -> None:
    labels = resolve(votes_on((2, 1, 2, 4), count=4), {}, mode="majority")
    said = {label.key: (label.outcome, label.chosen, label.strength) for label in labels}
    assert said == {
        "i1:0-1": ("decided", 1, 1),
        "i1:0-2": ("tie", 0, 0),
        "i1:0-3": ("decided", 0, 2),
        "i1:1-2": ("decided", 0, 1),
        "i1:1-3": ("decided", 0, 3),
        "i1:2-3": ("decided", 0, 2),
    }


def test_where_the_answers_of_a_ranking_stood_is_known_for_each_pair() -> None:
    responses = {1: [StoredResponse(f"text {n}", "", True) for n in range(3)]}
    shown = judgement((1, 2, 3), "ann", display_order="[2, 0, 1]", seconds=30.0)
    votes = collect([item()], responses, [shown])
    assert votes.flipped.tolist() == [False, True, True]  # (0, 1), (0, 2), (1, 2)
    assert votes.seconds[0] == 30
    assert np.isnan(votes.seconds[1:]).all()


def crowd(skill: tuple[float, ...], *, items: int = 300, seed: int = 0) -> tuple[Votes, np.ndarray]:
    """Everybody judges everything; the truth is 0 (first) or 1 (second)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, items)
    stored = [item(n) for n in range(items)]
    answers = {n: [StoredResponse("a", "", True), StoredResponse("b", "", True)] for n in range(items)}
    judged = [
        judgement(2 if (rng.random() < right) == bool(truth[n]) else -2, f"p{who}", n, swapped=bool(rng.random() < 0.5))
        for n in range(items)
        for who, right in enumerate(skill)
    ]
    return collect(stored, answers, judged), truth


def test_a_blind_much_better_does_not_make_a_strong_label() -> None:
    """Two who see that the second is slightly better, three who say "much better" of any side."""
    rng = np.random.default_rng(1)
    answers = {n: [StoredResponse("a", "", True), StoredResponse("b", "", True)] for n in range(300)}
    judged = [
        judgement((1 if n % 2 else -1) if who < 2 else int(rng.choice((-3, 3))), f"p{who}", n)
        for n in range(300)
        for who in range(5)
    ]
    votes = collect([item(n) for n in range(300)], answers, judged)
    strength = {
        mode: np.mean([label.strength for label in resolve(votes, {}, mode=mode)])
        for mode in ("majority", "dawid-skene")
    }
    assert strength["dawid-skene"] == pytest.approx(1, abs=0.15)
    assert strength["majority"] > 1.7
    assert max(label.strength for label in resolve(votes, {}, mode="dawid-skene")) <= 3


def test_a_weighted_mean_of_equal_strengths_is_that_strength() -> None:
    """0.1 + 0.2 is not 0.3 in floating point: no rounding may lift a strength above the scale."""
    tally = _Tally(votes_on(3).comparisons[0], tuple(range(3)), ("a", "b", "c"), (3, 3, 3), (False,) * 3)
    for weights in np.random.default_rng(0).random((500, 3)):
        assert tally.strength(1, weights) <= 3


def test_the_posterior_follows_the_good_annotator_where_the_majority_does_not() -> None:
    votes, truth = crowd((0.97, 0.9, 0.55, 0.55, 0.55))
    right = {
        mode: np.mean([label.chosen == truth[label.comparison.item.id] for label in resolve(votes, {}, mode=mode)])
        for mode in ("majority", "dawid-skene")
    }
    assert right["dawid-skene"] > 0.93 > right["majority"] + 0.03
    labels = resolve(votes, {}, mode="dawid-skene")
    claimed = np.mean([label.probability for label in labels])
    assert claimed == pytest.approx(right["dawid-skene"], abs=0.03)
    assert all(0 <= label.weight <= 1 and 0.5 <= label.probability <= 1 for label in labels)
    assert labels[0].weight == pytest.approx(2 * labels[0].probability - 1, abs=1e-9)


def test_gold_items_teach_whom_to_believe() -> None:
    gold = [item(n, kind="gold", known_strength=2) for n in range(6)]
    answers = {n: [StoredResponse("a", "", True), StoredResponse("b", "", True)] for n in range(7)}
    judged = [judgement(2, "good", n) for n in range(6)] + [judgement(-2, "bad", n) for n in range(6)]
    judged += [judgement(-1, "good", 6), judgement(1, "bad", 6)]
    votes = collect([*gold, item(6)], answers, judged)
    reliability = dict(zip(votes.names, fit(votes).reliability, strict=True))
    assert reliability["good"] > 0.7 > 0.4 > reliability["bad"]


@pytest.mark.parametrize("mode", ["majority", "dawid-skene", "single"])
def test_the_reviewer_has_the_last_word(mode: Mode) -> None:
    def word(choice: str, strength: int | None) -> dict[int, Adjudication]:
        return {1: Adjudication(1, choice, strength, None, None, "rita", 0.0)}

    votes = votes_on(3, 3, -1)
    (label,) = resolve(votes, word("compared", -2), mode=mode)
    assert (label.outcome, label.chosen, label.strength, label.weight) == ("decided", 0, 2, 1)
    assert (label.resolution, label.annotators) == ("adjudicated", ("person-0", "person-1", "person-2"))
    assert label.agreement == pytest.approx(1 / 3)
    outcomes = [resolve(votes, word(*said), mode=mode)[0].outcome for said in (("both_bad", None), ("left_out", None))]
    assert outcomes == ["both_bad", "left_out"]
    (alone,) = resolve(votes_on("skipped"), word("compared", 1), mode=mode)
    assert (alone.outcome, alone.annotators, alone.agreement) == ("decided", (), None)
