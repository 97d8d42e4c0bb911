"""Numerical tests for ppo.kl."""

import pytest
import torch

from ppo.kl import ESTIMATORS, adapted_kl_coef, kl_k1, kl_k2, kl_k3
from tests.reference.tolerances import EXACT

P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
Q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)


def test_estimators_by_hand():
    # log π = −1, log ρ = −3: r = e^−2, k1 = 2, k2 = 2²/2, k3 = e^−2 − 1 + 2.
    ours, theirs = torch.tensor([-1.0]).double(), torch.tensor([-3.0]).double()
    assert kl_k1(ours, theirs).item() == 2
    assert kl_k2(ours, theirs).item() == 2
    assert kl_k3(ours, theirs).item() == pytest.approx(1.1353352832366128, rel=1e-12)
    # The other way round: r = e², k1 = −2, k2 = 2, k3 = e² − 1 − 2.
    assert kl_k1(theirs, ours).item() == -2
    assert kl_k2(theirs, ours).item() == 2
    assert kl_k3(theirs, ours).item() == pytest.approx(4.38905609893065, rel=1e-12)


@pytest.mark.parametrize("name", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(name):
    # Over all tokens, weighted by the policy: the KL, of which torch has its own formula.
    expected = torch.nn.functional.kl_div(Q.log(), P, reduction="sum")
    torch.testing.assert_close((P * ESTIMATORS[name](P.log(), Q.log())).sum(), expected, **EXACT)


@pytest.mark.parametrize("name", ["k2", "k3"])
def test_k2_and_k3_are_never_negative_and_0_for_equal_policies(name):
    ours, theirs = torch.randn(2, 100, generator=torch.Generator().manual_seed(0)).double()
    assert (ESTIMATORS[name](ours, theirs) > 0).all()
    assert (ESTIMATORS[name](ours, ours) == 0).all()


def policy_gradient(estimator):
    """Expected gradient of an estimator as a loss, in the policy's logits, tokens weighted by the policy."""
    logits = P.log().requires_grad_()
    loss = (P * estimator(torch.log_softmax(logits, 0), Q.log())).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    return gradient


def test_gradients_as_losses():
    """k2's is the KL's, k1's is 0, k3's is that of KL(ρ ‖ π): what ppo.kl says of them."""
    logits = P.log().requires_grad_()
    log_p = torch.log_softmax(logits, 0)
    (forward,) = torch.autograd.grad((log_p.exp() * (log_p - Q.log())).sum(), logits, retain_graph=True)
    (backward,) = torch.autograd.grad((Q * (Q.log() - log_p)).sum(), logits)
    torch.testing.assert_close(policy_gradient(kl_k2), forward, **EXACT)
    torch.testing.assert_close(policy_gradient(kl_k1), torch.zeros(3).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(policy_gradient(kl_k3), backward, **EXACT)
    assert not torch.allclose(forward, backward, atol=1e-2)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (12.0, 0.151536),  # 12/6 − 1 = 1, limited to .2: .15·(1 + .2·512/10000)
        (3.0, 0.148464),  # 3/6 − 1 = −.5, limited to −.2
        (6.0, 0.15),
        (6.6, 0.150768),  # .1, not limited: .15·(1 + .1·.0512)
        (5.7, 0.149616),  # −.05: .15·(1 − .05·.0512)
    ],
)
def test_adaptive_coefficient_by_hand(kl, expected):
    found = adapted_kl_coef(0.15, kl, target=6.0, horizon=10_000, episodes=512)
    assert found == pytest.approx(expected, rel=1e-12)


def test_adaptive_coefficient_holds_a_kl_that_falls_with_it():
    # A policy whose KL is 1/β settles where 1/β is the target.
    coefficient = 0.05
    for _ in range(2000):
        coefficient = adapted_kl_coef(coefficient, 1 / coefficient, target=4.0, horizon=1000, episodes=100)
    assert 1 / coefficient == pytest.approx(4.0, rel=1e-3)
