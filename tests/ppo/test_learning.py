"""PPO raises what is rewarded, lowers it with the sign flipped, and stays near the reference when that is dear.

The reward is known in closed form and a random base is the policy, so nothing but the optimiser is tested.
"""

import pytest
import torch

from ppo.train import train
from workbench.model.open import open_runs
from workbench.model.roles import Roles


def share_of_odd_tokens(self, role, input_ids, attention_mask):
    """A score between −2 (all of the last 8 tokens have even ids) and 2 (odd ids)."""
    last = [ids[mask][-8:] for ids, mask in zip(input_ids, attention_mask, strict=True)]
    return torch.tensor([4 * float((response % 2).float().mean()) - 2 for response in last])


def with_opinions(*arguments, **options):
    """The roles on a base whose random logits have deviation 1 instead of .1, so that a policy has room."""
    roles = open_runs(*arguments, **options, check_probes=False)
    with torch.no_grad():
        roles.lm_head.mul_(8)
    return roles


@pytest.fixture
def learn(ppo_config, monkeypatch):
    """Trains for a dozen iterations of 32 responses and gives the rows of metrics."""
    monkeypatch.setattr("ppo.start.open_runs", with_opinions)
    monkeypatch.setattr(Roles, "scores", share_of_odd_tokens)

    def run(*overrides):
        sizes = ("rollout.batch_size=32", "rollout.micro_batch_size=32", "train.minibatch_size=16")
        rates = ("train.micro_batch_size=16", "train.lr=0.005", "train.value_lr=0.01", "train.iterations=12")
        reward = ("reward.missing_eos_score=null", "reward.kl_coef=0.0")
        quiet = ("evaluation.every=0", "checkpoint.every=0", "run.overwrite=true")
        folder = train(ppo_config(*sizes, *rates, *reward, *quiet, *overrides), resume=False)
        return [row for row in folder.read_metrics() if "objective/score" in row]

    return run


@pytest.mark.slow
def test_what_is_rewarded_rises(learn, kernels):
    rows = learn(kernels)
    assert rows[0]["objective/score"] < -0.5
    assert rows[-1]["objective/score"] > 1.0
    # Once nearly every response scores the highest, there is no variance left to explain.
    varied = [row["value/explained_variance"] for row in rows if row["objective/score"] < 1.5]
    assert max(varied[1:]) > varied[0] + 0.1


@pytest.mark.slow
def test_with_the_sign_flipped_it_falls(learn):
    """Below what the same rollouts score where nothing is learned; −2 is the end of the scale."""
    flipped, still = (learn("reward.sign=-1", rate)[4:] for rate in ("train.lr=0.005", "train.lr=1e-12"))
    late, unlearned = (sum(row["objective/score"] for row in rows) / len(rows) for rows in (flipped, still))
    assert late < unlearned - 0.1


@pytest.mark.slow
def test_a_dear_kl_keeps_the_policy_near_its_reference(learn):
    free, held = (learn(f"reward.kl_coef={coefficient}")[-1] for coefficient in (0.0, 2.0))
    assert held["objective/kl_exact"] < 0.5 * free["objective/kl_exact"]
    assert held["objective/score"] < free["objective/score"]


@pytest.mark.slow
def test_without_a_difference_in_reward_nothing_is_learned(learn, monkeypatch):
    monkeypatch.setattr(Roles, "scores", lambda self, role, ids, mask: torch.ones(len(ids)))
    assert learn()[-1]["objective/kl_exact"] < 1.0, "rewards that differ spend five times as much"
