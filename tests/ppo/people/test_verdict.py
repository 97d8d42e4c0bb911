"""Pairs and verdicts by hand."""

import re

import pytest

from ppo.people.pairs import Answer, make_check, outcome, read_checks, write_checks
from ppo.people.store import Judgement
from ppo.people.verdict import decide
from workbench.data.records import Message, Prompt

PROMPTS = [Prompt(id=f"p{n}", prompt=(Message(role="user", content=f"Question {n}?"),)) for n in range(20)]


def check(number=1, score=0.0):
    """Twenty pairs, of which the first has the same answer twice."""
    policy = [Answer("same" if n == 0 else f"policy {number}", ended=True) for n in range(20)]
    start = [Answer("same " if n == 0 else "start", ended=False) for n in range(20)]
    options = {"run": "demo/ppo", "temperature": 0.7}
    return make_check(number, 10 * number, score, PROMPTS, policy, start, **options)


def judgements(made, *, wins, losses, ties=0):
    """So many pairs judged, from the first on."""
    sides = zip(made.items, made.positions, strict=True)
    signs = [1] * wins + [-1] * losses + [0] * ties
    return [
        Judgement(item.id, sign * (2 if position else -2)) for (item, position), sign in zip(sides, signs, strict=False)
    ]


def test_sides_are_drawn_and_not_told_by_ids():
    made = check()
    assert (len(made.items), made.same) == (19, 1)
    assert 4 < sum(made.positions) < 15
    for item, position in zip(made.items, made.positions, strict=True):
        assert item.responses[position].text == "policy 1"
        assert item.responses[1 - position].text == "start"
        assert [response.id for response in item.responses] == ["0", "1"]
        assert (item.priority, item.round) == (1.0, 0)
        assert item.responses[position].run == "demo/ppo, iteration 10"
    assert made.items == check().items, "a resumed run makes the same pairs"


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
    found = verdict([made], [*judgements(made, wins=1, losses=4, ties=1), of_another_run])
    assert (found.action, found.judged, found.asked) == ("go on", 6, 19)
    assert found.standings[0].win_rate == pytest.approx(1.5 / 6)
    assert 0 < found.standings[0].low < 0.25 < found.standings[0].high < 1
    metrics = found.metrics()
    assert (metrics["people/win_rate"], metrics["people/judgements"]) == (0.25, 6.0)
    assert "people/win_rate" not in verdict([made], []).metrics()


@pytest.mark.parametrize(
    ("score", "action", "said"),
    [(1.5, "pause", r"is 0.50 higher .* exploits"), (0.5, "warn", r"is 0.50 lower .* training does harm")],
)
def test_a_lower_win_rate_pauses_while_the_reward_rises(score, action, said):
    first, second = check(1, 5.0), check(2, score)
    judged = [*judgements(first, wins=12, losses=0), *judgements(second, wins=1, losses=16)]
    found = verdict([first, second], judged)
    assert found.action == action
    assert re.search(said, found.why)
    assert "from iteration 20 on, people preferred the policy to the start policy in 1 of 17" in found.why
    assert found.row()["checks"][1]["judged"] == 17
