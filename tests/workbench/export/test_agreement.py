"""Agreement of distributions: by hand, at its limits, and against rounding noise."""

import math
from dataclasses import replace

import pytest
import torch

from workbench.export.agreement import LIMITS, agreement, breaches

N, D, V = 400, 16, 50


@pytest.fixture
def states():
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(V, D, generator=generator)
    base = torch.randn(N, D, generator=generator)
    trained = base + 0.05 * torch.randn(N, D, generator=generator)
    return trained, base, head


def test_two_tokens_by_hand():
    """p = (3/4, 1/4), q = (1/2, 1/2) = b: KL = 3/4 ln 3/2 + 1/4 ln 1/2; nothing of the effect is left."""
    head = torch.eye(2)
    trained, base = torch.tensor([[math.log(3.0), 0.0]]), torch.zeros(1, 2)
    found = agreement(trained, base, head, [torch.zeros(1, 2)])
    assert found.kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert found.effect == pytest.approx(found.kl)
    assert found.survival == pytest.approx(0.0)
    assert (found.tokens, found.top1) == (1, 1.0)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 2.0])
def test_survival_is_the_share_of_the_change_that_is_there(states, share):
    trained, base, head = states
    written = (base + share * (trained - base)) @ head.T
    found = agreement(trained, base, head, written.split(64))
    assert found.survival == pytest.approx(share, abs=1e-4)
    assert bool(breaches(found, LIMITS["float32"])) == (share != 1.0)


def test_a_constant_in_the_logits_changes_nothing(states):
    trained, base, head = states
    assert breaches(agreement(trained, base, head, [trained @ head.T + 7]), LIMITS["float32"]) == []


def test_rounding_noise_is_not_taken_for_a_lost_adapter(states):
    """A small effect under noise of its own size: KL rises, survival stays near 1; without the adapter it does not."""
    _, base, head = states
    generator = torch.Generator().manual_seed(1)
    trained = base + 0.01 * torch.randn(N, D, generator=generator)
    noise = 0.01 * torch.randn(N, D, generator=generator)
    found = agreement(trained, base, head, [(trained + noise) @ head.T])
    assert found.kl > found.effect / 2
    assert found.survival == pytest.approx(1, abs=0.1)
    lost = agreement(trained, base, head, [(base + noise) @ head.T])
    assert any("adapter's effect" in one for one in breaches(lost, LIMITS["bfloat16"]))


def test_an_adapter_without_effect_has_no_share(states):
    _, base, head = states
    found = agreement(base, base, head, [base @ head.T])
    assert found.survival is None
    assert breaches(found, LIMITS["float32"]) == []


def test_nan_is_beyond_every_limit(states):
    trained, base, head = states
    logits = trained @ head.T
    logits[3, 5] = math.nan
    found = agreement(trained, base, head, [logits])
    assert breaches(replace(found, top1=math.nan), LIMITS["q8_0"])
    assert any("KL nan" in one for one in breaches(found, LIMITS["q8_0"]))
