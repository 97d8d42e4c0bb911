"""Numerical tests for ppo.loss."""

import math

import pytest
import torch
from sklearn.metrics import explained_variance_score

from ppo.loss import explained_variance, kl_loss, policy_loss, truncated_importance_weights, value_loss
from tests.reference.ppo_loss import policy_loss_by_cases, value_loss_by_cases
from tests.reference.tolerances import EXACT, FLOAT32

LENGTHS = [6, 4, 1, 3]
TOKENS = sum(LENGTHS)


@pytest.fixture
def minibatch():
    """Random float64 log-probabilities (new, old), advantages and mask of four responses; ratios from .4 to 2.5."""
    g = torch.Generator().manual_seed(2)
    old = -torch.rand(4, 6, generator=g, dtype=torch.float64) * 3
    new = old + torch.randn(4, 6, generator=g, dtype=torch.float64) * 0.4
    advantages = torch.randn(4, 6, generator=g, dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor(LENGTHS).unsqueeze(1)
    return new, old, advantages, mask


def gradient_of(loss_function, new, *arguments, **options):
    new = new.clone().requires_grad_()
    loss, _ = loss_function(new, *arguments, **options)
    loss.backward()
    return new.grad


def test_policy_loss_by_hand():
    # A = [1, −1, 2], ρ = [1.5, .5, 1], ε = .2
    # max(−1.5, −1.2) = −1.2;  max(.5, .8) = .8;  −2;  sum −2.4 over 3 tokens = −.8
    # approx_kl: ½(ln² 1.5 + ln² .5) = .322427;  two of three tokens clipped;  Σ ρ = 3
    new = torch.tensor([[1.5, 0.5, 1.0]]).double().log()
    advantages = torch.tensor([[1.0, -1.0, 2.0]]).double()
    real = torch.ones(1, 3, dtype=torch.bool)
    loss, stats = policy_loss(new, torch.zeros_like(new), advantages, real, clip_range=0.2, tokens=3)
    assert float(loss) == pytest.approx(-0.8, rel=1e-12)
    assert float(stats["approx_kl"]) == pytest.approx(0.5 * (math.log(1.5) ** 2 + math.log(0.5) ** 2), rel=1e-12)
    assert float(stats["clip_fraction"]) == 2
    assert float(stats["ratio"]) == pytest.approx(3.0, rel=1e-12)


@pytest.mark.parametrize("clip_range", [0.05, 0.2, 0.5])
def test_policy_loss_and_gradient_match_the_cases(minibatch, clip_range):
    new, old, advantages, mask = minibatch
    loss, _ = policy_loss(*minibatch, clip_range=clip_range, tokens=TOKENS)
    expected, slopes = policy_loss_by_cases(*(x.tolist() for x in (new, old, advantages)), LENGTHS, clip_range)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    gradient = gradient_of(policy_loss, new, old, advantages, mask, clip_range=clip_range, tokens=TOKENS)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(gradient[row, :length], torch.tensor(slopes[row], dtype=torch.float64), **EXACT)
    assert (gradient[~mask] == 0).all()


def test_ratio_1_is_the_policy_gradient(minibatch):
    _, old, advantages, mask = minibatch
    loss, stats = policy_loss(old, old, advantages, mask, clip_range=0.2, tokens=TOKENS)
    assert float(loss) == pytest.approx(-float(advantages[mask].mean()), rel=1e-12)
    assert (float(stats["approx_kl"]), float(stats["clip_fraction"]), float(stats["ratio"])) == (0, 0, TOKENS)
    gradient = gradient_of(policy_loss, old, old, advantages, mask, clip_range=0.2, tokens=TOKENS)
    torch.testing.assert_close(gradient, -advantages * mask / TOKENS, **EXACT)


def test_a_better_token_becomes_likelier_and_a_worse_one_less_likely(minibatch):
    _, old, advantages, mask = minibatch
    step = -gradient_of(policy_loss, old, old, advantages, mask, clip_range=0.2, tokens=TOKENS)
    assert (step[mask].sign() == advantages[mask].sign()).all()


@pytest.mark.parametrize(
    ("advantage", "ratio", "moves"),
    [(1.0, 1.3, False), (1.0, 0.7, True), (-1.0, 0.7, False), (-1.0, 1.3, True), (1.0, 1.1, True), (-1.0, 0.9, True)],
)
def test_only_a_ratio_that_went_too_far_the_wanted_way_stops(advantage, ratio, moves):
    new = torch.tensor([[math.log(ratio)]]).double()
    gradient = gradient_of(
        policy_loss,
        new,
        torch.zeros_like(new),
        torch.tensor([[advantage]]).double(),
        torch.ones(1, 1, dtype=torch.bool),
        clip_range=0.2,
        tokens=1,
    )
    assert bool(gradient) is moves


@pytest.mark.parametrize("loss_function", [policy_loss, value_loss])
def test_padding_changes_nothing(minibatch, loss_function):
    options = {"clip_range": 0.2} if loss_function is policy_loss else {"value_clip_range": 0.2}
    *numbers, mask = minibatch
    junk = [x.masked_fill(~mask, value) for x, value in zip(numbers, (9.0, -40.0, 7.0), strict=True)]
    plain, plain_stats = loss_function(*numbers, mask, tokens=TOKENS, **options)
    loss, stats = loss_function(*junk, mask, tokens=TOKENS, **options)
    assert float(loss) == float(plain)
    assert {k: float(v) for k, v in stats.items()} == {k: float(v) for k, v in plain_stats.items()}


@pytest.mark.parametrize("loss_function", [policy_loss, value_loss])
def test_micro_batches_of_different_lengths_add_up_to_the_minibatch(minibatch, loss_function):
    options = {"clip_range": 0.2} if loss_function is policy_loss else {"value_clip_range": 0.2}
    whole, whole_stats = loss_function(*minibatch, tokens=TOKENS, **options)
    parts = [loss_function(*(x[i : i + 2] for x in minibatch), tokens=TOKENS, **options) for i in (0, 2)]
    torch.testing.assert_close(sum(loss for loss, _ in parts), whole, **EXACT)
    for name, value in whole_stats.items():
        torch.testing.assert_close(sum(stats[name] for _, stats in parts), value, **EXACT)
    # A mean of the micro-batches' own means would be another number: 10 tokens here, 4 there.
    own = [loss_function(*(x[i : i + 2] for x in minibatch), tokens=n, **options)[0] for i, n in ((0, 10), (2, 4))]
    assert abs(float(sum(own) / 2 - whole)) > 1e-3


def test_value_loss_by_hand():
    # V = [1, 0], V_old = [0, 0], R = [2, −1], ±.2
    # token 0: (1 − 2)² = 1, limited to .2: (.2 − 2)² = 3.24, the larger counts;  token 1: (0 + 1)² = 1
    # ½ (3.24 + 1) / 2 = 1.06;  one limited
    new, old, targets = (torch.tensor([x]).double() for x in ([1.0, 0.0], [0.0, 0.0], [2.0, -1.0]))
    real = torch.ones(1, 2, dtype=torch.bool)
    loss, stats = value_loss(new, old, targets, real, value_clip_range=0.2, tokens=2)
    assert float(loss) == pytest.approx(1.06, rel=1e-12)
    assert float(stats["clip_fraction"]) == 1


@pytest.mark.parametrize("clip_range", [0.05, 0.2, 1.0])
def test_value_loss_matches_the_cases(minibatch, clip_range):
    new, old, targets, _ = minibatch
    loss, stats = value_loss(*minibatch, value_clip_range=clip_range, tokens=TOKENS)
    expected, clipped = value_loss_by_cases(*(x.tolist() for x in (new, old, targets)), LENGTHS, clip_range)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    assert float(stats["clip_fraction"]) == clipped


def test_unmoved_values_have_half_the_squared_error(minibatch):
    _, old, targets, mask = minibatch
    loss, stats = value_loss(old, old, targets, mask, value_clip_range=0.2, tokens=TOKENS)
    expected = torch.nn.functional.mse_loss(old[mask], targets[mask]) / 2
    torch.testing.assert_close(loss, expected, **EXACT)
    assert float(stats["clip_fraction"]) == 0
    step = -gradient_of(value_loss, old, old, targets, mask, value_clip_range=0.2, tokens=TOKENS)
    torch.testing.assert_close(step, (targets - old) * mask / TOKENS, **EXACT)


def test_stats_carry_no_gradient(minibatch):
    new, old, advantages, mask = minibatch
    new = new.clone().requires_grad_()
    for _, stats in (
        policy_loss(new, old, advantages, mask, clip_range=0.2, tokens=TOKENS),
        value_loss(new, old, advantages, mask, value_clip_range=0.2, tokens=TOKENS),
    ):
        assert not any(value.requires_grad for value in stats.values())


def test_explained_variance_by_hand_and_by_scikit_learn(minibatch):
    # targets [0, 2] (variance 1), values [1, 1]: the errors [−1, 1] vary as much: 0. Values off by a constant: 1.
    targets, real = torch.tensor([[0.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool)
    assert explained_variance(torch.ones(1, 2), targets, real) == 0
    assert explained_variance(targets + 5, targets, real) == 1
    assert explained_variance(-targets, targets, real) == -3
    values, _, targets, mask = minibatch
    expected = explained_variance_score(targets[mask].numpy(), values[mask].numpy())
    assert explained_variance(values, targets, mask) == pytest.approx(expected, rel=1e-12)
    assert math.isnan(explained_variance(values, torch.ones_like(values), mask))


def test_kl_loss_by_hand_and_over_micro_batches():
    # k2 of differences 2, −1 and, on padding, 9: (½·4 + ½·1) / 2 tokens.
    new, reference = torch.tensor([[-1.0, -3.0, -1.0]]), torch.tensor([[-3.0, -2.0, -10.0]])
    mask = torch.tensor([[True, True, False]])
    assert float(kl_loss(new, reference, mask, estimator="k2", tokens=2)) == pytest.approx(1.25)
    assert float(kl_loss(new, reference, mask, estimator="k2", tokens=5)) == pytest.approx(0.5)
    # k3: e^−2 − 1 + 2 and e^1 − 1 − 1.
    expected = (math.exp(-2) + 1 + math.e - 2) / 2
    assert float(kl_loss(new, reference, mask, estimator="k3", tokens=2)) == pytest.approx(expected)


def test_kl_loss_pulls_towards_the_reference():
    new = torch.tensor([[-1.0, -3.0]], requires_grad=True)
    kl_loss(new, torch.tensor([[-2.0, -2.0]]), torch.ones(1, 2).bool(), estimator="k2", tokens=2).backward()
    assert new.grad.tolist() == [[0.5, -0.5]]


def test_kl_loss_refuses_the_estimator_without_gradient():
    with pytest.raises(AssertionError, match="k1"):
        kl_loss(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1).bool(), estimator="k1", tokens=1)


def test_truncated_importance_weights_by_hand():
    # Drawn with probability 1/2, 1/4, 1/10; the policy gives 1/4, 1/2, 1/2: ratios 1/2, 2, 5, cut at 3.
    sampling = torch.tensor([[1 / 2, 1 / 4, 1 / 10, 1 / 9]]).log()
    old = torch.tensor([[1 / 4, 1 / 2, 1 / 2, 1.0]]).log().requires_grad_()
    mask = torch.tensor([[True, True, True, False]])
    weights = truncated_importance_weights(old, sampling, mask, cap=3.0)
    torch.testing.assert_close(weights, torch.tensor([[0.5, 2.0, 3.0, 0.0]]), **FLOAT32)
    assert not weights.requires_grad


def test_truncated_importance_weights_make_the_engine_s_mean_the_policy_s():
    """E_μ[w f] = E_π[f] where nothing is cut: over the whole vocabulary, by enumeration."""
    generator = torch.Generator().manual_seed(0)
    mu, pi = (torch.randn(50, generator=generator, dtype=torch.float64).softmax(0) for _ in range(2))
    f = torch.randn(50, generator=generator, dtype=torch.float64)
    everything = torch.ones(1, 50, dtype=torch.bool)
    weights = truncated_importance_weights(pi.log()[None], mu.log()[None], everything, cap=1e9)[0]
    torch.testing.assert_close((mu * weights * f).sum(), (pi * f).sum(), **EXACT)
    cut = truncated_importance_weights(pi.log()[None], mu.log()[None], everything, cap=1.0)[0]
    assert float(cut.max()) == 1.0
    assert float(cut.min()) == pytest.approx(float(weights.min()))
