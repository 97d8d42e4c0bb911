"""The update of one iteration: who moves, by how much, and what makes it stop."""

import pytest
import torch

from ppo.advantages import gae
from ppo.rewards import token_rewards, whiten
from ppo.update import Optimizers, RatioNotOne, Targets, update
from tests.ppo.conftest import random_responses, read_responses
from tests.reference.tolerances import SHAPES

OPTIONS = {
    "ppo_epochs": 2,
    "minibatch_size": 4,
    "micro_batch_size": 4,
    "temperature": 1.0,
    "clip_range": 0.2,
    "value_clip_range": 0.2,
    "entropy_coef": 0.0,
    "target_kl": 0.0,
    "max_grad_norm": 1.0,
    "train_policy": True,
    "seed": 0,
}


def targets_of(rollout):
    rewards = token_rewards(
        rollout.scores, rollout.old_logprobs, rollout.reference_logprobs, rollout.mask, kl_coef=0.05
    )
    advantages, value_targets = gae(rewards, rollout.values, rollout.mask, gamma=1.0, gae_lambda=0.95)
    return Targets(whiten(advantages, rollout.mask, keep_mean=False), value_targets)


def run_update(roles, rollout, *, lr=1e-3, value_lr=1e-3, targets=None, **changes):
    optimizers = Optimizers.of(roles, beta2=0.95, eps=1e-5)
    optimizers.set_learning_rates(lr, value_lr)
    return update(roles, optimizers, rollout, targets or targets_of(rollout), **(OPTIONS | changes))


def snapshot(roles):
    weights = {f"model {name}": p for name, p in roles.model.named_parameters()}
    weights |= {f"head {role} {n}": t for role, head in roles.heads.items() for n, t in head.state_dict().items()}
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_the_first_minibatch_has_ratio_1_and_loss_0(roles, rollout):
    found = run_update(roles, rollout, ppo_epochs=1, minibatch_size=8, micro_batch_size=8)
    assert found["policy/ratio"] == pytest.approx(1, abs=1e-6)
    assert found["policy/approx_kl"] < 1e-10
    assert found["policy/clip_fraction"] == 0
    assert abs(found["policy/loss"]) < 1e-6  # −mean of whitened advantages


def test_only_policy_and_value_move(roles, rollout):
    before = snapshot(roles)
    run_update(roles, rollout)
    changed = moved(before, snapshot(roles))
    adapters = {name for name in before if "lora_" in name and (".policy." in name or ".value." in name)}
    assert changed == adapters | {"head value weight", "head value bias"}


def test_value_only_iterations_leave_the_policy_alone(roles, rollout):
    before = snapshot(roles)
    found = run_update(roles, rollout, train_policy=False)
    changed = moved(before, snapshot(roles))
    assert changed
    assert not any(".policy." in name for name in changed)
    assert not any(name.startswith("policy/") for name in found)


def test_micro_batches_make_the_same_update(open_again, rollout):
    whole, parts = open_again(), open_again()
    targets = targets_of(rollout)
    results = [
        run_update(each, rollout, targets=targets, minibatch_size=8, micro_batch_size=size)
        for each, size in ((whole, 8), (parts, 2))
    ]
    for name, value in results[0].items():
        assert results[1][name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    start = open_again()
    for role in ("policy", "value"):
        ours, theirs, old = (each.adapter_state(role) for each in (whole, parts, start))
        for name, weight in ours.items():
            torch.testing.assert_close(theirs[name], weight, **SHAPES)
            assert float((weight - old[name]).abs().max()) > 1e-4, "the step is larger than the tolerance"


def test_metrics_are_means_over_real_tokens(roles, rollout):
    # Learning rate 0: the statistics of both epochs are those of the unmoved roles.
    targets = targets_of(rollout)
    found = run_update(roles, rollout, lr=0.0, value_lr=0.0, targets=targets, minibatch_size=4, micro_batch_size=2)
    error = (rollout.values - targets.value_targets)[rollout.mask]
    assert found["value/loss"] == pytest.approx(float((error**2).mean()) / 2, rel=1e-4)
    assert found["policy/ratio"] == pytest.approx(1, abs=1e-5)
    expected = -float(targets.advantages[rollout.mask].mean())
    assert found["policy/loss"] == pytest.approx(expected, abs=1e-5)


def test_another_temperature_is_noticed(roles, rollout):
    with pytest.raises(RatioNotOne, match="temperature"):
        run_update(roles, rollout, temperature=1.3)


def test_a_policy_that_moved_after_the_rollout_is_noticed(roles, rollout):
    with torch.no_grad():
        roles.parameters("policy")[1].add_(0.05)
    with pytest.raises(RatioNotOne):
        run_update(roles, rollout)


def test_dropout_is_noticed(roles, rollout):
    for module in roles.model.modules():
        if isinstance(getattr(module, "lora_dropout", None), torch.nn.ModuleDict):
            module.lora_dropout["policy"] = torch.nn.Dropout(0.2)
    with pytest.raises(RatioNotOne):
        run_update(roles, rollout)


def test_target_kl_stops_the_policy_and_not_the_value_model(roles, rollout):
    # The first step is made at ratio 1; the second minibatch finds the policy too far, and its step is the last.
    optimizers = Optimizers.of(roles, beta2=0.95, eps=1e-5)
    optimizers.set_learning_rates(0.01, 0.01)
    update(roles, optimizers, rollout, targets_of(rollout), **(OPTIONS | {"ppo_epochs": 3, "target_kl": 1e-9}))
    steps = [int(next(iter(o.state.values()))["step"]) for o in (optimizers.policy, optimizers.value)]
    assert steps == [2, 6]


def test_gradient_raises_tokens_of_positive_advantage(roles, prompts, rollout):
    advantages = torch.zeros_like(rollout.old_logprobs)
    advantages[0, 0], advantages[3, 2] = 1.0, -1.0
    run_update(roles, rollout, targets=Targets(advantages, rollout.values), minibatch_size=8, micro_batch_size=8)
    after = read_responses(roles, prompts, random_responses(roles))
    change = after.old_logprobs - rollout.old_logprobs
    assert change[0, 0] > 0
    assert change[3, 2] < 0


def test_the_entropy_bonus_raises_entropy(open_again, prompts, rollout):
    nothing = Targets(torch.zeros_like(rollout.old_logprobs), rollout.values)
    entropy = []
    for coefficient in (0.0, 1.0):
        roles = open_again()
        run_update(roles, rollout, targets=nothing, entropy_coef=coefficient, ppo_epochs=4)
        entropy.append(float(read_responses(roles, prompts, random_responses(roles)).entropy.sum()))
    assert entropy[0] == pytest.approx(float(rollout.entropy.sum()), rel=1e-6)
    assert entropy[1] > entropy[0] + 1e-3
