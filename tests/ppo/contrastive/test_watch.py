"""Each warning comes for its reason, with numbers and a remedy, and not before."""

import pytest

from ppo.contrastive.watch import warnings

START = {"heldout/kl": 0.0, "heldout/length": 40.0, "heldout/eos_rate": 0.9}
BAD = {
    "kl": ({"heldout/kl": 10.5}, "10.5 nats per response (above 10)"),
    "length": ({"heldout/length": 60.5}, "from 40 to 60 tokens"),
    "eos": ({"heldout/eos_rate": 0.7}, "from 90% to 70%"),
}


def rows(*logratios):
    return [{"contrastive/chosen_logratio": value} for value in logratios]


def kinds(evaluations, training=()):
    return dict(warnings(training, evaluations))


def test_a_healthy_run_gets_none():
    assert kinds([START, START], rows(-9.0, -9.5, -9.9)) == {}
    assert kinds([], rows(-90.0, -90.0, -90.0)) == {}
    edge = {"heldout/kl": 10.0, "heldout/length": 60.0, "heldout/eos_rate": 0.73}
    assert kinds([START, edge], rows(-10.0, -10.0, -10.0)) == {}, "at the limits"


@pytest.mark.parametrize("kind", BAD)
def test_each_reason_is_named_with_its_numbers_and_a_remedy(kind):
    change, numbers = BAD[kind]
    found = kinds([START, START | change])
    assert found.keys() == {kind}
    assert numbers in found[kind]
    assert "loss." in found[kind]
    assert kinds([START, START | change, START]) == {}, "only the newest evaluation counts"


def test_shrinking_is_a_drift_too():
    assert "shrank from 40 to 26" in kinds([START, START | {"heldout/length": 26.0}])["length"]
    assert kinds([START, START | {"heldout/length": 27.0}]) == {}


def test_chosen_responses_that_become_unlikely_are_named():
    found = kinds([START], rows(0.0, -10.5, -14.0, -12.0))
    assert found.keys() == {"chosen"}
    assert "lost 10.5 nats" in found["chosen"]
    assert kinds([START], rows(-12.0, -12.0)) == {}, "two rows are no trend"
    assert kinds([START], rows(-9.0, -14.0, -12.0)) == {}


def test_longer_answers_may_move_further():
    # A tenth of a nat per token: 250 tokens may move 25 nats, 40 tokens 10.
    long = START | {"heldout/length": 250.0}
    assert kinds([long, long | {"heldout/kl": 24.0}], rows(-24.0, -24.0, -24.0)) == {}
    assert kinds([long, long | {"heldout/kl": 26.0}], rows(-26.0, -26.0, -26.0)).keys() == {"kl", "chosen"}
