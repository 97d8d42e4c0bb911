"""Numerical tests of reward.loss."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from statsmodels.miscmodels.ordinal_model import OrderedModel

from reward.loss import (
    bradley_terry_log_likelihood,
    first_thresholds,
    ordinal_log_likelihood,
    thresholds_of,
)
from tests.reference.preferences import bradley_terry_by_definition, ordinal_by_definition, soft_by_definition
from tests.reference.tolerances import EXACT

THRESHOLDS = torch.tensor([0.3, 1.5, 4.0], dtype=torch.float64)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def gaps():
    """Random float64 gaps of 9 pairs."""
    return torch.randn(9, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2


def test_bradley_terry_by_hand():
    # Gap 0: chance, ln ½. Gap ln 3: the chosen answer wins with probability 3/4. Gap −ln 3: with 1/4.
    gap = double(0, math.log(3), -math.log(3))
    hand = [math.log(1 / 2), math.log(3 / 4), math.log(1 / 4)]
    assert bradley_terry_log_likelihood(gap).tolist() == pytest.approx(hand, rel=1e-12)
    # A soft label of ¾ mixes both outcomes.
    mixed = 0.75 * hand[1] + 0.25 * hand[2]
    assert float(bradley_terry_log_likelihood(gap[1:2], targets=0.75)) == pytest.approx(mixed, rel=1e-12)


def test_bradley_terry_matches_the_definition_and_scikit_learn(gaps):
    ours = -float(bradley_terry_log_likelihood(gaps).mean())
    assert ours == pytest.approx(bradley_terry_by_definition(gaps.tolist(), [0.0] * 9), rel=1e-12)
    assert ours == pytest.approx(log_loss([1] * 9, torch.sigmoid(gaps).numpy(), labels=[0, 1]), rel=1e-10)


def test_soft_bradley_terry_matches_the_definition_torch_and_scikit_learn(gaps):
    targets = torch.linspace(0, 1, 9).double()
    ours = bradley_terry_log_likelihood(gaps, targets=targets)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(gaps, targets, reduction="none")
    torch.testing.assert_close(ours, -theirs, **EXACT)
    torch.testing.assert_close(ours, double(*map(soft_by_definition, gaps.tolist(), targets.tolist())), **EXACT)
    # Each pair as two pairs with hard labels, weighted by q and 1 − q.
    sides, chances = torch.sigmoid(torch.cat((gaps, gaps))), torch.cat((targets, 1 - targets))
    weighted = log_loss([1] * 9 + [0] * 9, sides.numpy(), sample_weight=chances.numpy(), labels=[0, 1])
    assert -float(ours.mean()) == pytest.approx(weighted, rel=1e-10)


def test_soft_labels_are_fitted_where_the_model_says_what_they_say():
    """The gradient vanishes at σ(gap) = q, and pulls towards it from either side."""
    targets = double(0.7, 0.7, 0.7)
    gap = torch.logit(double(0.6, 0.7, 0.8)).requires_grad_()
    bradley_terry_log_likelihood(gap, targets=targets).sum().backward()
    torch.testing.assert_close(gap.grad, double(0.1, 0.0, -0.1), **EXACT)


def test_bradley_terry_gradient_is_largest_where_the_order_is_wrong(gaps):
    gaps = gaps.clone().requires_grad_()
    bradley_terry_log_likelihood(gaps).sum().backward()
    torch.testing.assert_close(gaps.grad, torch.sigmoid(-gaps.detach()), **EXACT)


def test_large_gaps_stay_finite():
    assert bradley_terry_log_likelihood(double(200, -200)).tolist() == pytest.approx([0, -200], abs=1e-6)
    for level in (0.0, 1.0, 2.0, 2.5, 3.0):
        far = double(-200, 200).requires_grad_()
        value = ordinal_log_likelihood(far, double(level, level), THRESHOLDS)
        value.sum().backward()
        assert torch.isfinite(value).all()
        assert torch.isfinite(far.grad).all()


def test_ordinal_by_hand():
    # Gap 0, θ = (ln 3, …): P(strength ≥ 1) = σ(−ln 3) = 1/4, the same for the other side, so a tie has 1/2.
    threshold, zero = double(math.log(3)), double(0)
    assert float(ordinal_log_likelihood(zero, zero, threshold).exp()) == pytest.approx(0.5, rel=1e-12)
    assert float(ordinal_log_likelihood(zero, double(1), threshold).exp()) == pytest.approx(0.25, rel=1e-12)
    # θ_2 = ln 7: P(≥ 2) = 1/8, so level 1 has 1/4 − 1/8.
    two = double(math.log(3), math.log(7))
    assert float(ordinal_log_likelihood(zero, double(1), two).exp()) == pytest.approx(0.125, rel=1e-12)
    # Halfway between the levels: the mean of both log-probabilities, here of two eighths.
    assert float(ordinal_log_likelihood(zero, double(1.5), two)) == pytest.approx(math.log(0.125), rel=1e-12)
    assert float(ordinal_log_likelihood(zero, double(0.25), two)) == pytest.approx(
        0.75 * math.log(0.5) + 0.25 * math.log(0.125), rel=1e-12
    )


def test_ordinal_soft_label_by_hand():
    # Gap ln 3, θ = (0): the chosen side wins with ¾, the other with ¼. With a soft label of ¾: ¾ ln ¾ + ¼ ln ¼.
    gap = double(math.log(3))
    expected = 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    assert float(ordinal_log_likelihood(gap, double(1), double(0), targets=0.75)) == pytest.approx(expected, rel=1e-12)
    # Gap ln 3, θ = (0, ln 9): level 2 for the chosen side 1/(1 + 3) = ¼, for the other 1/(1 + 27).
    two = ordinal_log_likelihood(gap, double(2), double(0, math.log(9)), targets=double(0.5))
    assert float(two) == pytest.approx(0.5 * math.log(1 / 4) + 0.5 * math.log(1 / 28), rel=1e-12)


def test_a_tie_has_no_side_that_a_soft_label_could_doubt(gaps):
    zero = torch.zeros(9).double()
    certain = ordinal_log_likelihood(gaps, zero, THRESHOLDS)
    torch.testing.assert_close(ordinal_log_likelihood(gaps, zero, THRESHOLDS, targets=0.3), certain, **EXACT)


def test_ordinal_soft_labels_match_the_definition(gaps):
    levels, targets = double(0, 1, 2, 3, 0.4, 1.7, 2.2, 3, 0), torch.linspace(0, 1, 9).double()
    ours = ordinal_log_likelihood(gaps, levels, THRESHOLDS, targets=targets)
    expected = [
        q * ordinal_by_definition(g, s, THRESHOLDS.tolist())
        + (1 - q) * ordinal_by_definition(-g, s, THRESHOLDS.tolist())
        for g, s, q in zip(gaps.tolist(), levels, targets.tolist(), strict=True)
    ]
    torch.testing.assert_close(ours, double(*expected), **EXACT)


def test_soft_ordinal_without_ties_or_strengths_is_soft_bradley_terry(gaps):
    targets = torch.linspace(0, 1, 9).double()
    ours = ordinal_log_likelihood(gaps, torch.ones(9).double(), double(0), targets=targets)
    torch.testing.assert_close(ours, bradley_terry_log_likelihood(gaps, targets=targets), **EXACT)


def test_ordinal_matches_the_definition(gaps):
    levels = double(0, 1, 2, 3, 0.4, 1.7, 2.2, 3, 0)
    ours = ordinal_log_likelihood(gaps, levels, THRESHOLDS)
    expected = [ordinal_by_definition(g, s, THRESHOLDS.tolist()) for g, s in zip(gaps.tolist(), levels, strict=True)]
    torch.testing.assert_close(ours, double(*expected), **EXACT)


def test_ordinal_matches_statsmodels():
    """Signed levels are ordered categories −3 … 3 of a cumulative logit model with symmetric cuts."""
    gaps = torch.linspace(-2, 2, 14).double()
    signed = torch.arange(14) % 7 - 3
    model = OrderedModel(signed.numpy(), gaps.numpy()[:, None], distr="logit")
    cuts = torch.cat((-THRESHOLDS.flip(0), THRESHOLDS)).numpy()
    theirs = model.loglikeobs(
        np.array([1.0, cuts[0], *np.log(np.diff(cuts))])
    )  # slope 1, then the cuts in its parametrisation
    ours = ordinal_log_likelihood(torch.where(signed < 0, -gaps, gaps), signed.abs().double(), THRESHOLDS)
    torch.testing.assert_close(ours, double(*theirs), rtol=1e-9, atol=1e-11)


def test_ordinal_probabilities_of_all_outcomes_add_up_to_one(gaps):
    total = ordinal_log_likelihood(gaps, torch.zeros(9).double(), THRESHOLDS).exp()
    for level in (1.0, 2.0, 3.0):
        for side in (gaps, -gaps):
            total = total + ordinal_log_likelihood(side, torch.full((9,), level).double(), THRESHOLDS).exp()
    torch.testing.assert_close(total, torch.ones(9).double(), **EXACT)


def test_ordinal_without_ties_or_strengths_is_bradley_terry(gaps):
    ours = ordinal_log_likelihood(gaps, torch.ones(9).double(), double(0))
    torch.testing.assert_close(ours, bradley_terry_log_likelihood(gaps), **EXACT)


def test_ordinal_pulls_a_tie_to_no_gap_and_a_strong_win_further_than_a_weak_one():
    gap = double(1.0, 1.0, 1.0).requires_grad_()
    ordinal_log_likelihood(gap, double(0, 1, 3), THRESHOLDS).sum().backward()
    tie, weak, strong = gap.grad.tolist()
    assert tie < 0 < weak + 1 < strong + 1
    assert tie < weak < strong


def test_thresholds_ascend_from_zero_or_above():
    raw = double(-1.0, 0.5, -3.0)
    with_ties, without = thresholds_of(raw, ties=True), thresholds_of(raw, ties=False)
    softplus = [math.log1p(math.exp(x)) for x in raw.tolist()]
    torch.testing.assert_close(with_ties, double(*torch.tensor(softplus).double().cumsum(0)), rtol=1e-6, atol=1e-7)
    assert without[0] == 0
    torch.testing.assert_close(without[1:], with_ties, **EXACT)


def test_first_thresholds_reproduce_the_shares_at_no_gap():
    shares = double(0.1, 0.2, 0.4, 0.3)
    thresholds = first_thresholds(shares)
    levels = torch.arange(4).double()
    found = ordinal_log_likelihood(torch.zeros(4).double(), levels, thresholds).exp() * double(1, 2, 2, 2)
    torch.testing.assert_close(found, shares, **EXACT)
    assert first_thresholds(double(0, 1))[0] == 0
