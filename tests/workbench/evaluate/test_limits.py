"""The limits shared by warnings and report."""

import pytest

from workbench.evaluate.limits import kl_limit


@pytest.mark.parametrize(("length", "nats"), [(8.0, 10.0), (100.0, 10.0), (150.0, 15.0), (300.0, 30.0)])
def test_the_kl_limit_grows_with_the_answers(length, nats):
    # A tenth of a nat per token, at least 10: 300 tokens may move 30 nats.
    assert kl_limit(length) == pytest.approx(nats)
