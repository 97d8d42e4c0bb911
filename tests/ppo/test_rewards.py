"""Numerical tests for ppo.rewards."""

import pytest
import torch

from ppo.rewards import adapted_kl_coef, effective_scores, kl_k1, token_rewards, whiten
from tests.reference.rewards import token_rewards_by_definition, whiten_by_definition
from tests.reference.tolerances import EXACT, RECORDED

LENGTHS = [6, 4, 1]


@pytest.fixture
def sampled():
    """Random float64 scores, log-probabilities of policy and reference, and the mask of three responses."""
    g = torch.Generator().manual_seed(1)
    scores = torch.randn(3, generator=g, dtype=torch.float64)
    logprobs = -torch.rand(3, 6, generator=g, dtype=torch.float64) * 4
    reference = -torch.rand(3, 6, generator=g, dtype=torch.float64) * 4
    mask = torch.arange(6) < torch.tensor(LENGTHS).unsqueeze(1)
    return scores, logprobs, reference, mask


def test_effective_scores_by_hand():
    # Clipped to ±5: 7 → 5, −7 → −5, .5 stays; the last one has no end: −1, whatever its score.
    scores, ended = torch.tensor([7.0, -7.0, 0.5, 3.0]), torch.tensor([True, True, True, False])
    found = effective_scores(scores, ended, missing_eos_score=-1.0, score_clip=5.0)
    assert found.tolist() == [5.0, -5.0, 0.5, -1.0]


def test_effective_scores_leave_what_they_are_told_to_leave():
    scores, ended = torch.tensor([7.0, -7.0]), torch.tensor([True, False])
    assert effective_scores(scores, ended, missing_eos_score=None, score_clip=0.0).tolist() == [7.0, -7.0]
    assert effective_scores(scores, ended, missing_eos_score=None, score_clip=2.0).tolist() == [2.0, -2.0]
    assert effective_scores(scores, ended, missing_eos_score=-1.0, score_clip=0.0).tolist() == [7.0, -1.0]
    assert effective_scores(scores, ended, missing_eos_score=-9.0, score_clip=2.0).tolist() == [2.0, -9.0]
    assert scores.tolist() == [7.0, -7.0]


def test_k1_by_hand_and_its_mean_is_the_kl():
    assert kl_k1(torch.tensor([-1.0]), torch.tensor([-3.0])).tolist() == [2.0]
    # Over all tokens, weighted by the policy: Σ p (log p − log q) is the KL, of which torch has its own formula.
    p, q = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.2, 0.3, 0.5]).double()
    expected = torch.nn.functional.kl_div(q.log(), p, reduction="sum")
    torch.testing.assert_close((p * kl_k1(p.log(), q.log())).sum(), expected, **EXACT)


def test_token_rewards_by_hand():
    # β = .5, log π − log ρ = [−1 + 2, −2 + 1.5] = [1, −.5]; penalties [−.5, +.25]; score 2 on the last: [−.5, 2.25]
    rewards = token_rewards(
        torch.tensor([2.0]),
        torch.tensor([[-1.0, -2.0]]),
        torch.tensor([[-2.0, -1.5]]),
        torch.tensor([[True, True]]),
        kl_coef=0.5,
    )
    assert rewards.tolist() == [[-0.5, 2.25]]


def test_token_rewards_match_the_objective(sampled):
    scores, logprobs, reference, mask = sampled
    ours = token_rewards(scores, logprobs, reference, mask, kl_coef=0.3)
    theirs = token_rewards_by_definition(scores.tolist(), logprobs.tolist(), reference.tolist(), LENGTHS, 0.3)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(ours[row, :length], torch.tensor(theirs[row], dtype=torch.float64), **EXACT)
    # The sum over a response is the objective R = r(x, y) − β log(π/ρ).
    log_ratio = ((logprobs - reference) * mask).sum(1)
    torch.testing.assert_close(ours.sum(1), scores - 0.3 * log_ratio, **EXACT)


def test_the_score_is_on_the_end_token_and_nowhere_else(sampled):
    scores, logprobs, reference, mask = sampled
    with_score = token_rewards(scores, logprobs, reference, mask, kl_coef=0.3)
    without = token_rewards(torch.zeros(3).double(), logprobs, reference, mask, kl_coef=0.3)
    for row, length in enumerate(LENGTHS):
        added = (with_score - without)[row]
        assert added.nonzero().flatten().tolist() == [length - 1]
        torch.testing.assert_close(added[length - 1], scores[row], **EXACT)


def test_equal_policies_and_a_zero_coefficient_leave_the_score_alone(sampled):
    scores, logprobs, reference, mask = sampled
    for rewards in (
        token_rewards(scores, logprobs, logprobs, mask, kl_coef=0.3),
        token_rewards(scores, logprobs, reference, mask, kl_coef=0.0),
    ):
        assert torch.equal(rewards.sum(1), scores)
        assert (rewards != 0).sum() == 3


def test_padding_is_zero_and_rows_do_not_see_each_other(sampled):
    scores, logprobs, reference, mask = sampled
    together = token_rewards(scores, logprobs, reference, mask, kl_coef=0.3)
    assert (together[~mask] == 0).all()
    for row, length in enumerate(LENGTHS):
        narrow = (x[row : row + 1, :length] for x in (logprobs, reference, mask))
        alone = token_rewards(scores[row : row + 1], *narrow, kl_coef=0.3)
        torch.testing.assert_close(together[row : row + 1, :length], alone, **EXACT)


def test_whitening_recorded_numbers():
    # Recorded in Huang et al. 2024: the mean 1.6 is kept, the biased deviation becomes 1.
    values = torch.tensor([[1.2, 1.3, 1.4], [1.5, 1.6, 1.7], [1.8, 1.9, 2.0]]).double()
    kept = [[0.0508, 0.4381, 0.8254], [1.2127, 1.6000, 1.9873], [2.3746, 2.7619, 3.1492]]
    real = torch.ones(3, 3, dtype=torch.bool)
    torch.testing.assert_close(whiten(values, real, keep_mean=True), torch.tensor(kept).double(), **RECORDED)
    shifted = torch.tensor(kept).double() - 1.6
    torch.testing.assert_close(whiten(values, real, keep_mean=False), shifted, **RECORDED)


@pytest.mark.parametrize("keep_mean", [True, False])
def test_whitening_matches_the_definition_over_real_tokens_only(sampled, keep_mean):
    _, values, _, mask = sampled
    ours = whiten(values, mask, keep_mean=keep_mean)
    rows = [values[row, :length].tolist() for row, length in enumerate(LENGTHS)]
    theirs = whiten_by_definition(rows, keep_mean)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(ours[row, :length], torch.tensor(theirs[row], dtype=torch.float64), **EXACT)
    assert (ours[~mask] == 0).all()


def test_whitened_advantages_have_mean_0_and_deviation_1_whatever_the_padding(sampled):
    _, values, _, mask = sampled
    whitened = whiten(values, mask, keep_mean=False)[mask]
    assert abs(float(whitened.mean())) < 1e-12
    assert float(whitened.std(unbiased=False)) == pytest.approx(1, abs=1e-7)
    junk = values.masked_fill(~mask, 1e6)
    assert torch.equal(whiten(junk, mask, keep_mean=False), whiten(values, mask, keep_mean=False))


def test_whitening_of_equal_values_is_finite():
    equal = whiten(torch.full((1, 3), 2.0), torch.ones(1, 3, dtype=torch.bool), keep_mean=False)
    assert equal.tolist() == [[0.0, 0.0, 0.0]]


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
