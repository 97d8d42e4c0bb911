"""From a rollout to its targets: what each rule does to the rewards."""

import math
from dataclasses import replace

import pytest
import torch

from ppo.advantages import targets_of
from ppo.config import RewardSection
from ppo.evaluate import kl_per_response, rollout_metrics
from ppo.rewards import rewards_of
from tests.ppo.conftest import config_of

PLAIN = RewardSection(missing_eos_score=None, score_clip=0.0)
"""The score on the last token and the k1 penalty on each, nothing else."""


def changed(**values):
    return PLAIN.model_copy(update=values)


@pytest.fixture
def moved(rollout):
    """The rollout of a policy that is .5 nats a token surer than its reference."""
    return replace(rollout, reference_logprobs=(rollout.old_logprobs - 0.5) * rollout.mask)


def test_penalty_and_score_add_up_to_the_objective(moved):
    rewards = rewards_of(moved, PLAIN, kl_coef=0.1)
    lengths = moved.mask.sum(dim=1)
    torch.testing.assert_close(rewards.sum(dim=1), moved.scores - 0.1 * 0.5 * lengths)
    assert kl_per_response(moved) == pytest.approx(0.5 * float(lengths.float().mean()), rel=1e-5)


def test_another_estimator_is_another_penalty(moved):
    # ½·.5² and e^−.5 − 1 + .5 a token.
    for name, nats in (("k2", 0.125), ("k3", 0.10653066)):
        rewards = rewards_of(moved, changed(kl_estimator=name), kl_coef=0.1)
        expected = moved.scores - 0.1 * nats * moved.mask.sum(dim=1)
        torch.testing.assert_close(rewards.sum(dim=1), expected, rtol=1e-4, atol=1e-5)


def test_as_a_loss_the_kl_leaves_the_rewards_alone(moved):
    rewards = rewards_of(moved, changed(kl_in="loss", kl_estimator="k2"), kl_coef=0.1)
    torch.testing.assert_close(rewards.sum(dim=1), moved.scores)


def test_disagreement_of_reward_models_is_taken_off(moved):
    unsure = replace(moved, score_std=torch.arange(len(moved.rows)).float())
    rewards = rewards_of(unsure, changed(std_coef=0.25), kl_coef=0.0)
    torch.testing.assert_close(rewards.sum(dim=1), moved.scores - 0.25 * unsure.score_std)
    metrics = rollout_metrics(unsure, rewards, targets(unsure, rewards), kl_coef=0.0)
    assert metrics["objective/score_spread"] == pytest.approx(3.5)


def targets(rollout, rewards, method="gae"):
    return targets_of(rollout, rewards, config_of(train={"advantage": method}, rollout={"responses_per_prompt": 2}))


def test_group_baselines_need_no_value_model(moved):
    rewards = rewards_of(moved, PLAIN, kl_coef=0.1)
    for method in ("rloo", "grpo"):
        found = targets(moved, rewards, method)
        assert found.value_targets is None
        pairs = found.advantages[:, 0].reshape(-1, 2)
        torch.testing.assert_close(pairs.sum(dim=1), torch.zeros(4), rtol=0, atol=1e-5)
        assert "value/explained_variance" not in rollout_metrics(moved, rewards, found, kl_coef=0.1)


def test_metrics_are_means_over_responses_or_over_real_tokens(moved):
    rewards = rewards_of(moved, PLAIN, kl_coef=0.1)
    found = targets(moved, rewards)
    metrics = rollout_metrics(moved, rewards, found, kl_coef=0.1)
    assert metrics["objective/score"] == pytest.approx(float(moved.scores.mean()))
    assert metrics["objective/entropy"] == pytest.approx(float(moved.entropy[moved.mask].mean()), rel=1e-5)
    assert metrics["response/length"] == pytest.approx(float(moved.mask.sum()) / len(moved.rows))
    assert metrics["response/eos_rate"] == 0.5
    assert metrics["objective/reward"] == pytest.approx(float(rewards.sum()) / len(moved.rows), rel=1e-5)
    assert "objective/score_spread" not in metrics
    error = (moved.values - found.value_targets)[moved.mask]
    explained = 1 - float(error.var(unbiased=False) / found.value_targets[moved.mask].var(unbiased=False))
    assert metrics["value/explained_variance"] == pytest.approx(explained, rel=1e-4)


def test_importance_weights_scale_the_advantages_alone(rollout):
    """Twice as likely under the policy as under the engine: twice the advantage, up to the cap; value targets stay."""
    rewards = torch.ones_like(rollout.kl) * rollout.mask
    plain = targets_of(rollout, rewards, config_of())
    told = replace(rollout, sampling_logprobs=(rollout.old_logprobs - math.log(2)) * rollout.mask)
    for cap, factor in ((0.0, 1.0), (3.0, 2.0), (1.5, 1.5)):
        found = targets_of(told, rewards, config_of(rollout={"importance_cap": cap}))
        torch.testing.assert_close(found.advantages, factor * plain.advantages)
        torch.testing.assert_close(found.value_targets, plain.value_targets)
    untold = targets_of(rollout, rewards, config_of(rollout={"importance_cap": 3.0}))
    assert untold.advantages.equal(plain.advantages)
