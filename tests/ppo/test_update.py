"""The update of one iteration: who moves, by how much, and what makes it stop."""

import pytest
import torch

from ppo.advantages import Targets, gae
from ppo.kl import kl_k1, kl_k2
from ppo.rewards import token_rewards, whiten
from ppo.rollout import Demonstrations
from ppo.state import Optimizers
from ppo.update import Update
from tests.ppo.conftest import config_of, random_responses, read_responses
from tests.reference.tolerances import SHAPES
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.run.errors import WorkbenchError

SIZES = {"ppo_epochs": 2, "minibatch_size": 4, "micro_batch_size": 4}


def targets_of(rollout):
    penalties = 0.05 * kl_k1(rollout.old_logprobs, rollout.reference_logprobs)
    rewards = token_rewards(rollout.scores, penalties, rollout.mask)
    advantages, value_targets = gae(rewards, rollout.values, rollout.mask, gamma=1.0, gae_lambda=0.95)
    return Targets(whiten(advantages, rollout.mask, keep_mean=False), value_targets)


def run_update(
    roles,
    rollout,
    *,
    lr=1e-3,
    value_lr=1e-3,
    targets=None,
    optimizers=None,
    train_policy=True,
    demonstrations=None,
    temperature=1.0,
    kl_loss_coef=None,
    **changes,
):
    """One update; `changes` are keys of the section train."""
    optimizers = optimizers or Optimizers.of(roles, beta2=0.95, eps=1e-5)
    optimizers.set_learning_rates(lr, value_lr)
    reward = {} if kl_loss_coef is None else {"kl_in": "loss", "kl_estimator": "k2"}
    config = config_of(train=SIZES | changes, reward=reward, rollout={"temperature": temperature})
    update = Update(
        roles,
        optimizers,
        rollout,
        targets or targets_of(rollout),
        config,
        0.05 if kl_loss_coef is None else kl_loss_coef,
        Processes(),
        demonstrations,
    )
    return update.run(train_policy=train_policy, seed=0)


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


def test_micro_batches_hold_rows_of_similar_length(roles, rollout, monkeypatch):
    shapes, forward = [], Roles._forward

    def recorded(self, ids, mask, at=None):
        if self._active == "policy":
            shapes.append(tuple(ids.shape))
        return forward(self, ids, mask, at)

    monkeypatch.setattr(Roles, "_forward", recorded)
    run_update(roles, rollout, ppo_epochs=1, minibatch_size=8, micro_batch_size=2, target_kl=0.0)
    lengths = sorted(rollout.rows.mask.sum(dim=1).tolist())
    assert shapes == [(2, longest) for longest in lengths[1::2]]


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
    with pytest.raises(WorkbenchError, match="temperature"):
        run_update(roles, rollout, temperature=1.3)


def test_a_policy_that_moved_after_the_rollout_is_noticed(roles, rollout):
    with torch.no_grad():
        roles.parameters("policy")[1].add_(0.05)
    with pytest.raises(WorkbenchError, match="ratio"):
        run_update(roles, rollout)


def test_dropout_is_noticed(roles, rollout):
    for module in roles.model.modules():
        if isinstance(getattr(module, "lora_dropout", None), torch.nn.ModuleDict):
            module.lora_dropout["policy"] = torch.nn.Dropout(0.2)
    with pytest.raises(WorkbenchError, match="ratio"):
        run_update(roles, rollout)


def test_target_kl_stops_the_policy_and_not_the_value_model(roles, rollout):
    # The first step is made at ratio 1; the second minibatch finds the policy too far, and its step is the last.
    optimizers = Optimizers.of(roles, beta2=0.95, eps=1e-5)
    run_update(roles, rollout, lr=0.01, value_lr=0.01, optimizers=optimizers, ppo_epochs=3, target_kl=1e-9)
    steps = [int(next(iter(o.state.values()))["step"]) for o in (optimizers.policy, optimizers.value)]
    assert steps == [2, 6]


@pytest.mark.parametrize("shared", [False, True])
def test_target_kl_shortens_the_last_step_too(open_again, prompts, shared):
    moves = []
    for target in (0.0, 0.002):  # without a limit, the one step of an iteration goes far beyond it
        roles = open_again(value="head") if shared else open_again()
        read = read_responses(roles, prompts, random_responses(roles))
        found = run_update(roles, read, lr=0.02, ppo_epochs=1, minibatch_size=8, micro_batch_size=2, target_kl=target)
        after = read_responses(roles, prompts, random_responses(roles))
        moves.append(float(kl_k2(after.old_logprobs, read.old_logprobs)[read.mask].mean()))
    assert found["policy/move_kl"] == pytest.approx(moves[0], rel=1e-3)
    assert moves[0] > 0.01
    assert 0.001 < moves[1] <= 0.002


def test_a_move_within_target_kl_is_not_changed(open_again, prompts, rollout):
    weights = []
    for target in (0.0, 1.0):
        roles = open_again()
        found = run_update(roles, rollout, target_kl=target)
        weights.append([weight.clone() for weight in roles.parameters("policy")])
    assert 0 < found["policy/move_kl"] < 1
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_a_kl_that_no_shortening_removes_ends_the_shortening(roles, rollout, monkeypatch):
    calls = []

    def rounding(self, index):
        calls.append(1)
        assert len(calls) < 10, "it never ends"
        return 1.0

    monkeypatch.setattr(Update, "_kl_since_rollout", rounding)
    assert run_update(roles, rollout, target_kl=0.01)["policy/move_kl"] == 1.0
    assert len(calls) == 4


def test_an_iteration_for_the_value_model_alone_moves_no_policy(roles, rollout):
    assert "policy/move_kl" not in run_update(roles, rollout, train_policy=False, target_kl=0.01)


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


def test_a_value_head_on_the_policys_trunk_learns_with_the_policy(open_again, prompts, rollout):
    roles = open_again(value="head")
    assert "value" not in roles.names
    read = read_responses(roles, prompts, random_responses(roles))
    assert (read.values == 0).all()
    before, targets = snapshot(roles), targets_of(rollout)
    found = run_update(roles, read, targets=targets)
    changed = moved(before, snapshot(roles))
    assert changed == {n for n in before if "lora_" in n and ".policy." in n} | {"head value weight", "head value bias"}
    read = read_responses(roles, prompts, random_responses(roles))
    run_update(roles, read, targets=targets, lr=0.0, value_lr=0.05, value_clip_range=10.0, ppo_epochs=40)
    again = read_responses(roles, prompts, random_responses(roles))
    error = [((r.values - targets.value_targets)[r.mask] ** 2).mean() for r in (read, again)]
    assert error[1] < 0.8 * error[0]
    assert found["value/loss"] > 0


def test_a_value_head_alone_leaves_the_trunk_to_the_policys_loss(open_again, prompts, rollout):
    """Weight 0 in the trunk: the policy moves exactly as without any value loss."""
    targets, states = targets_of(rollout), []
    for head in ("head", "none"):
        roles = open_again(value=head)
        read = read_responses(roles, prompts, random_responses(roles))
        own = targets if head == "head" else Targets(targets.advantages, None)
        run_update(roles, read, targets=own, value_coef=0.0, max_grad_norm=1e9)
        states.append(roles.adapter_state("policy"))
    for name, weight in states[0].items():
        torch.testing.assert_close(states[1][name], weight, **SHAPES)


def test_value_only_iterations_train_the_head_alone(open_again, prompts, rollout):
    roles = open_again(value="head")
    read = read_responses(roles, prompts, random_responses(roles))
    before = snapshot(roles)
    run_update(roles, read, targets=targets_of(rollout), train_policy=False)
    assert moved(before, snapshot(roles)) == {"head value weight", "head value bias"}


def test_without_a_value_model_there_is_none_to_train(open_again, prompts, rollout):
    roles = open_again(value="none")
    optimizers = Optimizers.of(roles, beta2=0.95, eps=1e-5)
    assert optimizers.value is None
    read = read_responses(roles, prompts, random_responses(roles))
    targets = Targets(targets_of(rollout).advantages, None)
    found = run_update(roles, read, targets=targets, optimizers=optimizers)
    assert not any(name.startswith("value/") for name in found)


def test_the_kl_as_a_loss_pulls_the_policy_back(open_again, prompts, rollout):
    roles = open_again()
    with torch.no_grad():
        for weight in roles.parameters("policy"):
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    away = read_responses(roles, prompts, random_responses(roles))
    nothing = Targets(torch.zeros_like(away.old_logprobs), away.values)
    run_update(roles, away, targets=nothing, kl_loss_coef=1.0, lr=0.01, ppo_epochs=10)
    back = read_responses(roles, prompts, random_responses(roles))
    assert float(back.kl.sum()) < 0.7 * float(away.kl.sum())


def test_imitation_raises_the_likelihood_of_demonstrations_and_0_does_nothing(open_again, prompts, rollout):
    nothing = Targets(torch.zeros_like(rollout.old_logprobs), rollout.values)
    likelihood = []
    for coefficient in (0.0, 2.0):
        roles = open_again()
        shown = Demonstrations(prompts.ids[:2], random_responses(roles)[5:7], 4, 0, roles.device)
        run_update(roles, rollout, targets=nothing, ptx_coef=coefficient, demonstrations=shown, lr=0.01, ppo_epochs=4)
        after = read_responses(roles, prompts.take([0, 1]), random_responses(roles)[5:7])
        likelihood.append(float(after.old_logprobs.sum()))
    before = read_responses(open_again(), prompts.take([0, 1]), random_responses(roles)[5:7])
    assert likelihood[0] == pytest.approx(float(before.old_logprobs.sum()), rel=1e-5)
    assert likelihood[1] > likelihood[0] + 0.5
