"""Each warning comes for its reason, with numbers, and not before."""

import pytest

from ppo.watch import PATIENCE, WINDOW, warnings

HEALTHY = {
    "objective/kl": 2.0,
    "objective/entropy": 1.0,
    "response/length": 40.0,
    "response/eos_rate": 1.0,
    "value/explained_variance": 0.4,
}
BAD = {
    "kl": ({"objective/kl": 30.0}, "30.0 nats"),
    "entropy": ({"objective/entropy": 0.1}, "from 1.00 to 0.10"),
    "length": ({"response/length": 70.0}, "from 40 to 70 tokens"),
    "eos": ({"response/eos_rate": 0.5}, "50%"),
    "value": ({"value/explained_variance": -0.2}, "-0.20"),
    "sampling": ({"rollout/sampling_gap": 0.5}, "by 0.50 nats"),
}


def kinds(rows, iteration=PATIENCE):
    return dict(warnings(HEALTHY, rows, iteration))


def test_a_healthy_run_gets_none():
    assert kinds([HEALTHY] * 4) == {}


@pytest.mark.parametrize("kind", BAD)
def test_each_reason_is_named_with_its_numbers_and_a_remedy(kind):
    change, numbers = BAD[kind]
    found = kinds([HEALTHY | change] * WINDOW)
    assert found.keys() == {kind}
    assert numbers in found[kind]
    assert any(word in found[kind] for word in ("reward.", "train.", "rollout."))
    assert kinds([HEALTHY, *[HEALTHY | change] * (WINDOW - 1)]) == {}, "one or two iterations are no trend"
    assert kinds([HEALTHY | change] * (WINDOW - 1)) == {}


def test_shrinking_is_a_drift_too():
    assert "shrank from 40 to 10" in kinds([HEALTHY | {"response/length": 10.0}] * WINDOW)["length"]


def test_the_value_model_has_time_to_learn_and_need_not_be_there():
    bad = HEALTHY | BAD["value"][0]
    assert kinds([bad] * WINDOW, iteration=PATIENCE - 1) == {}
    without = {name: value for name, value in HEALTHY.items() if not name.startswith("value/")}
    assert kinds([without] * WINDOW) == {}


def test_longer_answers_may_move_further():
    # A tenth of a nat per token: 250 tokens may move 25 nats, 40 tokens 10.
    first, long = HEALTHY | {"response/length": 250.0}, {"response/length": 250.0, "objective/kl": 20.0}
    assert dict(warnings(first, [HEALTHY | long] * WINDOW, PATIENCE)) == {}
    assert "above 25" in dict(warnings(first, [HEALTHY | long | {"objective/kl": 26.0}] * WINDOW, PATIENCE))["kl"]
