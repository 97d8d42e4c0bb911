"""Numerical tests for ppo.rewards."""

import pytest
import torch

from ppo.kl import kl_k1
from ppo.rewards import effective_scores, token_rewards, whiten
from tests.reference.rewards import token_rewards_by_definition, whiten_by_definition
from tests.reference.tolerances import EXACT, RECORDED

LENGTHS = [6, 4, 1]


def penalised(scores, logprobs, reference_logprobs, mask, *, kl_coef):
    """Token rewards with the default penalty, β · k1."""
    return token_rewards(scores, kl_coef * kl_k1(logprobs, reference_logprobs), mask)


@pytest.fixture
def sampled():
    """Random float64 scores, log-probabilities of policy and reference, and the mask of three responses."""
    g = torch.Generator().manual_seed(1)
    scores = torch.randn(3, generator=g, dtype=torch.float64)
    logprobs = -torch.rand(3, 6, generator=g, dtype=torch.float64) * 4
    reference = -torch.rand(3, 6, generator=g, dtype=torch.float64) * 4
    mask = torch.arange(6) < torch.tensor(LENGTHS).unsqueeze(1)
    return scores, logprobs, reference, mask


def effective(scores, ended, *, missing_eos_score, score_clip):
    lengths = torch.ones_like(ended).long()
    options = {"missing_eos_score": missing_eos_score, "score_clip": score_clip, "length_penalty": 0.0}
    return effective_scores(scores, ended, lengths, **options).tolist()


def test_effective_scores_by_hand():
    # Clipped to ±5: 7 → 5, −7 → −5, .5 stays; the last one has no EOS: −1, whatever its score.
    scores, ended = torch.tensor([7.0, -7.0, 0.5, 3.0]), torch.tensor([True, True, True, False])
    assert effective(scores, ended, missing_eos_score=-1.0, score_clip=5.0) == [5.0, -5.0, 0.5, -1.0]


def test_effective_scores_leave_what_they_are_told_to_leave():
    scores, ended = torch.tensor([7.0, -7.0]), torch.tensor([True, False])
    assert effective(scores, ended, missing_eos_score=None, score_clip=0.0) == [7.0, -7.0]
    assert effective(scores, ended, missing_eos_score=None, score_clip=2.0) == [2.0, -2.0]
    assert effective(scores, ended, missing_eos_score=-1.0, score_clip=0.0) == [7.0, -1.0]
    assert effective(scores, ended, missing_eos_score=-9.0, score_clip=2.0) == [2.0, -9.0]
    assert scores.tolist() == [7.0, -7.0]


def test_token_rewards_by_hand():
    # β = .5, log π − log ρ = [−1 + 2, −2 + 1.5] = [1, −.5]; penalties [−.5, +.25]; score 2 on the last: [−.5, 2.25]
    rewards = penalised(
        torch.tensor([2.0]),
        torch.tensor([[-1.0, -2.0]]),
        torch.tensor([[-2.0, -1.5]]),
        torch.tensor([[True, True]]),
        kl_coef=0.5,
    )
    assert rewards.tolist() == [[-0.5, 2.25]]


def test_token_rewards_match_the_objective(sampled):
    scores, logprobs, reference, mask = sampled
    ours = penalised(scores, logprobs, reference, mask, kl_coef=0.3)
    theirs = token_rewards_by_definition(scores.tolist(), logprobs.tolist(), reference.tolist(), LENGTHS, 0.3)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(ours[row, :length], torch.tensor(theirs[row], dtype=torch.float64), **EXACT)
    # The sum over a response is the objective R = r(x, y) − β log(π/ρ).
    log_ratio = ((logprobs - reference) * mask).sum(1)
    torch.testing.assert_close(ours.sum(1), scores - 0.3 * log_ratio, **EXACT)


def test_the_score_is_on_the_end_token_and_nowhere_else(sampled):
    scores, logprobs, reference, mask = sampled
    with_score = penalised(scores, logprobs, reference, mask, kl_coef=0.3)
    without = penalised(torch.zeros(3).double(), logprobs, reference, mask, kl_coef=0.3)
    for row, length in enumerate(LENGTHS):
        added = (with_score - without)[row]
        assert added.nonzero().flatten().tolist() == [length - 1]
        torch.testing.assert_close(added[length - 1], scores[row], **EXACT)


def test_equal_policies_and_a_zero_coefficient_leave_the_score_alone(sampled):
    scores, logprobs, reference, mask = sampled
    for rewards in (
        penalised(scores, logprobs, logprobs, mask, kl_coef=0.3),
        penalised(scores, logprobs, reference, mask, kl_coef=0.0),
    ):
        assert torch.equal(rewards.sum(1), scores)
        assert (rewards != 0).sum() == 3


def test_padding_is_zero_and_rows_do_not_see_each_other(sampled):
    scores, logprobs, reference, mask = sampled
    together = penalised(scores, logprobs, reference, mask, kl_coef=0.3)
    assert (together[~mask] == 0).all()
    for row, length in enumerate(LENGTHS):
        narrow = (x[row : row + 1, :length] for x in (logprobs, reference, mask))
        alone = penalised(scores[row : row + 1], *narrow, kl_coef=0.3)
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


def test_every_token_costs_the_length_penalty():
    # .1 per token: 12 tokens cost 1.2, 8 cost .8; a response without EOS keeps its fixed score.
    scores, lengths = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([12, 8, 30])
    ended = torch.tensor([True, True, False])
    options = {"missing_eos_score": -1.0, "score_clip": 5.0, "length_penalty": 0.1}
    assert effective_scores(scores, ended, lengths, **options).tolist() == pytest.approx([-0.2, 0.2, -1.0])
    unclipped = effective_scores(torch.tensor([9.0]), ended[:1], lengths[:1], **options)
    assert unclipped.tolist() == pytest.approx([3.8]), "the penalty is subtracted from the clipped score"
