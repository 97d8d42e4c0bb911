"""Pairs and verdicts by hand."""

import re

import pytest

from ppo.people.pairs import Answer, make_check, outcome, read_checks, write_checks
from ppo.people.store import Judgement
from ppo.people.verdict import decide
from workbench.data.records import Message, Prompt

PROMPTS = [Prompt(id=f"p{n}", prompt=(Message(role="user", content=f"Question {n}?"),)) for n in range(20)]


def check(number=1, score=0.0, pairs=16, **changes):
    """Twenty candidates, of which the first has the same answer twice; the reward model prefers the last ones most."""
    policy = [Answer("same" if n == 0 else f"policy {number}", ended=True, score=n / 10 - 0.5) for n in range(20)]
    start = [Answer("same " if n == 0 else "start", ended=False, score=0.0) for n in range(20)]
    options = {"pairs": pairs, "run": "demo/ppo", "temperature": 0.7, **changes}
    return make_check(number, 10 * number, score, PROMPTS, policy, start, **options)


def judgements(made, *, wins, losses, ties=0, surest=False):
    """So many pairs of a kind judged, from the first on."""
    sides = [
        (item, side) for item, side, sure in zip(made.items, made.positions, made.surest, strict=True) if sure == surest
    ]
    signs = [1] * wins + [-1] * losses + [0] * ties
    assert len(signs) <= len(sides)
    return [
        Judgement(item.id, sign * (2 if position else -2)) for (item, position), sign in zip(sides, signs, strict=False)
    ]


def test_sides_and_kinds_are_drawn_and_not_told_by_ids():
    made = check()
    assert len(made.items) == 16
    assert 3 < sum(made.positions) < 13
    assert [item.id for item in made.items] == sorted(item.id for item in made.items)
    for item, position in zip(made.items, made.positions, strict=True):
        assert item.responses[position].text == "policy 1"
        assert item.responses[1 - position].text == "start"
        assert [response.id for response in item.responses] == ["0", "1"]
        assert (item.priority, item.round) == (1.0, 0)
        assert item.responses[position].run == "demo/ppo, iteration 10"
    assert made == check(), "a resumed run makes the same pairs"


def test_a_pair_of_an_earlier_check_is_not_asked_again():
    """Its judgement would move to the later check."""
    ids = [item.id for item in check().items]
    again = check(known=set(ids[:9]))
    assert [item.id for item in again.items] == ids[9:]
    assert len(again.positions) == len(again.surest) == 7


@pytest.mark.parametrize(
    ("pairs", "random", "surest"),
    [
        (16, {1, 2, 3, 4}, set(range(8, 20))),
        (4, {1}, {17, 18, 19}),
        (1, {1}, set()),
        (40, set(range(1, 11)), set(range(11, 20))),  # fewer candidates than pairs
        (24, set(range(1, 7)), set(range(7, 20))),
    ],
)
def test_a_quarter_is_random_and_the_rest_are_those_the_reward_model_is_surest_of(pairs, random, surest):
    made = check(pairs=pairs)
    kinds = dict[bool, set[int]]({False: set(), True: set()})
    for item, sure in zip(made.items, made.surest, strict=True):
        kinds[sure].add(int(item.group[1:]))
    assert kinds == {False: random, True: surest}


def test_where_the_reward_model_prefers_the_start_it_is_not_sure_of_the_policy():
    policy = [Answer(f"policy {n}", ended=True, score=-1.0) for n in range(20)]
    start = [Answer("start", ended=True, score=0.0) for _ in range(20)]
    made = make_check(1, 10, 0.0, PROMPTS, policy, start, pairs=8, run="run", temperature=1.0)
    assert made.surest == (False, False)


def test_outcomes_are_those_of_the_policy():
    assert [outcome(strength, 0) for strength in (-3, -1, 0, 2)] == [1.0, 1.0, 0.5, 0.0]
    assert [outcome(strength, 1) for strength in (-3, -1, 0, 2)] == [0.0, 0.0, 0.5, 1.0]


def test_checks_survive_a_file(tmp_path):
    made = [check(1), check(2, 0.5)]
    assert read_checks(tmp_path / "checks.jsonl") == []
    write_checks(tmp_path / "checks.jsonl", made)
    assert read_checks(tmp_path / "checks.jsonl") == made


def verdict(checks, judged, **options):
    return decide(checks, judged, first_score=1.0, planned=3, alpha=0.05, **options)


def test_few_judgements_decide_nothing():
    made = check()
    of_another_run = Judgement("spot-another", 2)
    sure = judgements(made, wins=2, losses=1, surest=True)
    found = verdict([made], [*judgements(made, wins=1, losses=2, ties=1), of_another_run, *sure])
    assert (found.action, found.judged, found.asked) == ("go on", 7, 16)
    random, surest = found.standings[0].random, found.standings[0].surest
    assert (random.judged, random.won, surest.judged, surest.won) == (4, 1.5, 3, 2.0)
    assert 0 < random.low < 1.5 / 4 < random.high < 1
    metrics = found.metrics()
    assert (metrics["people/win_rate"], metrics["people/judgements"]) == (1.5 / 4, 7.0)
    assert metrics["people/agreement"] == pytest.approx(2 / 3)
    assert set(verdict([made], []).metrics()) == {"people/judgements", "people/evidence"}


@pytest.mark.parametrize(
    ("score", "action", "said"),
    [(1.5, "pause", r"is 0.50 higher .* exploits"), (0.5, "warn", r"is 0.50 lower .* training does harm")],
)
def test_people_who_disagree_pause_a_run_while_the_reward_rises(score, action, said):
    first, second = check(1, 5.0), check(2, score)
    judged = [*judgements(first, wins=4, losses=0), *judgements(first, wins=12, losses=0, surest=True)]
    judged += [*judgements(second, wins=2, losses=2), *judgements(second, wins=0, losses=12, surest=True)]
    found = verdict([first, second], judged)
    assert found.action == action
    assert re.search(said, found.why)
    assert "from iteration 20 on, people preferred the policy to the start policy in 2 of 4 random pairs" in found.why
    assert "in 0 of 12 pairs of which the reward model was surest" in found.why
    assert found.row()["checks"][1]["surest"]["judged"] == 12


def test_half_of_the_surest_pairs_is_too_few_and_half_of_random_ones_is_not():
    made = [check(n, 5.0, pairs=20) for n in range(1, 4)]
    sure = [one for each in made for one in judgements(each, wins=7, losses=7, surest=True)]
    random = [one for each in made for one in judgements(each, wins=2, losses=2)]
    assert verdict(made, sure).evidence > 3
    assert verdict(made, random).evidence == 1.0
