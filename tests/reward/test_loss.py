"""Numerical tests for reward.loss."""

import math

import pytest
import torch
from sklearn.metrics import log_loss

from reward.loss import bradley_terry_loss
from tests.reference.preferences import bradley_terry_by_definition
from tests.reference.tolerances import EXACT


@pytest.fixture
def scores():
    """Random float64 scores of 9 chosen and 9 rejected responses."""
    g = torch.Generator().manual_seed(3)
    return torch.randn(2, 9, generator=g, dtype=torch.float64) * 2


def test_by_hand():
    # Equal scores: a coin, ln 2. A gap of ln 3: the chosen one wins with 3/4. Of −ln 3: with 1/4.
    zero, gap = torch.zeros(1).double(), torch.tensor([math.log(3)], dtype=torch.float64)
    assert float(bradley_terry_loss(zero, zero)) == pytest.approx(math.log(2), rel=1e-12)
    assert float(bradley_terry_loss(gap, zero)) == pytest.approx(math.log(4 / 3), rel=1e-12)
    assert float(bradley_terry_loss(zero, gap)) == pytest.approx(math.log(4), rel=1e-12)
    both = bradley_terry_loss(torch.cat([gap, zero]), torch.cat([zero, gap]))
    assert float(both) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, rel=1e-12)


def test_matches_the_definition_and_scikit_learn(scores):
    ours = float(bradley_terry_loss(*scores))
    assert ours == pytest.approx(bradley_terry_by_definition(*scores.tolist()), rel=1e-12)
    claimed = torch.sigmoid(scores[0] - scores[1]).numpy()
    assert ours == pytest.approx(log_loss([1] * 9, claimed, labels=[0, 1]), rel=1e-10)


def test_only_gaps_count(scores):
    torch.testing.assert_close(bradley_terry_loss(*(scores + 7)), bradley_terry_loss(*scores), **EXACT)


def test_gradient_raises_the_chosen_score_most_where_the_order_is_wrong(scores):
    scores = scores.clone().requires_grad_()
    bradley_terry_loss(*scores).backward()
    gap = (scores[0] - scores[1]).detach()
    torch.testing.assert_close(scores.grad[0], -torch.sigmoid(-gap) / 9, **EXACT)
    torch.testing.assert_close(scores.grad[1], torch.sigmoid(-gap) / 9, **EXACT)


def test_large_gaps_stay_finite():
    far, zero = torch.tensor([200.0]), torch.zeros(1)
    assert float(bradley_terry_loss(far, zero)) == pytest.approx(0, abs=1e-6)
    assert float(bradley_terry_loss(zero, far)) == pytest.approx(200)


def test_a_swapped_label_is_the_other_loss(scores):
    assert float(bradley_terry_loss(scores[1], scores[0])) != pytest.approx(float(bradley_terry_loss(*scores)))
