"""The guard in PPO: each observed rollout, before anything is learnt from it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ppo.guard.decide import Decision
from ppo.guard.guard import Guard
from ppo.guard.measure import Answers, answers_in, labelled_cloud, observe
from ppo.guard.sources import labels_of
from ppo.kl import kl_k1
from workbench.model.adapters import read_adapter
from workbench.run.folder import RunFolder

if TYPE_CHECKING:
    from ppo.rollout import Rollout
    from ppo.start import Run

PLACE = "reward_1"
"""The reward model whose states are compared with those of the answers that it was fitted on."""


class RolloutGuard:
    """Judges rollouts and acts on the run.

    Args:
        run: with the judges on its base.
        judges: their roles.
        reward: the run of `PLACE`.
    """

    def __init__(self, run: "Run", judges: Sequence[str], reward: RunFolder) -> None:
        self.run, self.judges, self.section = run, judges, run.config.guard
        self.guard = Guard(run.folder, self.section, last_row=lambda step: step - 1)
        self.batch_size = run.config.rollout.micro_batch_size
        file, rules = labels_of(reward)
        rows = answers_in(run.roles.tokenizer, file, rules, max_length=run.roles.positions)
        self.cloud = run.processes.on_first(lambda: labelled_cloud(run.roles, PLACE, rows, batch_size=self.batch_size))

    def stops(self, rollout: "Rollout", iteration: int) -> bool:
        """Observe a rollout and act; whether the run ends here, with the policy of an earlier iteration."""
        if iteration % self.section.every:
            return False
        run = self.run
        decision = run.processes.on_first(lambda: self._see(rollout, iteration))
        if decision.action == "beta":
            run.state.kl_coef *= self.section.beta_factor
        if decision.back_to is None:
            return False
        run.roles.load_adapter_state("policy", read_adapter(self.guard.kept(decision.back_to)))
        run.tracker.status = "rolled back"
        return True

    def _see(self, rollout: "Rollout", iteration: int) -> Decision:
        roles, prompts = self.run.roles, rollout.prompts.ids
        answers = Answers(
            rows=[[*prompt, *ids] for prompt, ids in zip(prompts, rollout.ids(), strict=True)],
            scores=rollout.every_score.double().cpu().numpy(),
            logratios=kl_k1(rollout.old_logprobs, rollout.reference_logprobs).sum(dim=1).double().cpu().numpy(),
            length=float(rollout.mask.sum(dim=1).double().mean()),
            entropy=float(rollout.entropy.double().sum() / rollout.tokens),
            kl=float(rollout.kl.double().sum(dim=1).mean()),
        )
        found = observe(roles, self.judges, PLACE, self.cloud, answers, step=iteration, batch_size=self.batch_size)
        decision = self.guard.see(found, lambda folder: roles.save_adapter("policy", folder))
        self.run.tracker.log(self.guard.metrics(), iteration)
        return decision
