"""One rollout: sampled responses with what policy, reference, value and reward say of them.

Old log-probabilities come from a forward pass over the finished responses, the same one the update runs, so that the
ratio is 1 before the first step. Shapes: B = batch, R = response tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ppo.data import PromptSet
from workbench.data.tokenise import decode_response
from workbench.model.generate import generate
from workbench.model.logprobs import token_kl, token_logprobs
from workbench.model.roles import Roles
from workbench.model.rows import Rows


@dataclass(frozen=True)
class Rollout:
    """What one iteration learns from. Everything is detached; (B, R) tensors are 0 on padding."""

    prompts: PromptSet
    rows: Rows
    ended: Tensor
    """(B,) bool: the response has an EOS."""
    scores: Tensor
    """(B,) float, the reward model's normalised scores, as they are."""
    old_logprobs: Tensor
    """(B, R) float, of the policy that sampled."""
    reference_logprobs: Tensor
    """(B, R) float."""
    kl: Tensor
    """(B, R) float, exact KL(policy ‖ reference) of each token's distribution, nats."""
    entropy: Tensor
    """(B, R) float, of the policy, nats."""
    values: Tensor
    """(B, R) float, value before each token."""

    @property
    def mask(self) -> Tensor:
        """(B, R) bool, True on real tokens."""
        return self.rows.response_mask

    @property
    def tokens(self) -> int:
        """Real response tokens."""
        return int(self.mask.sum())

    def texts(self, roles: Roles) -> list[str]:
        """The responses as text."""
        return [
            decode_response(roles.tokenizer, ids[real].tolist())
            for ids, real in zip(self.rows.response_ids, self.mask, strict=True)
        ]


def collect(
    roles: Roles,
    prompts: PromptSet,
    *,
    max_new_tokens: int,
    temperature: float,
    micro_batch_size: int,
    seed: int,
) -> Rollout:
    """Sample a response to each prompt with the policy, then let every role read it."""
    responses: list[list[int]] = []
    done: list[bool] = []
    for start in range(0, len(prompts), micro_batch_size):
        sampled = generate(
            roles,
            "policy",
            prompts.ids[start : start + micro_batch_size],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed + start,
        )
        responses += [ids[real].tolist() for ids, real in zip(sampled.ids, sampled.mask, strict=True)]
        done += sampled.ended.tolist()
    rows = Rows.of(prompts.ids, responses, roles.tokenizer.pad_token_id, roles.device)
    return read(
        roles, prompts, rows, torch.tensor(done, device=roles.device), temperature=temperature, size=micro_batch_size
    )


def read(roles: Roles, prompts: PromptSet, rows: Rows, ended: Tensor, *, temperature: float, size: int) -> Rollout:
    """Score, value and log-probabilities of finished responses, `size` rows at a time."""
    shape = rows.response_mask.shape
    old, reference, kl, entropy, values = (torch.zeros(shape, device=roles.device) for _ in range(5))
    scores = torch.zeros(len(rows), device=roles.device)
    for index, batch in rows.micro_batches(size):
        real, width = batch.response_mask, batch.response_mask.shape[1]
        targets = batch.response_ids[real]
        hidden = {}
        for role in ("policy", "reference", "value"):
            with roles.use(role) as forward:
                hidden[role] = batch.predicting(forward(batch.ids, batch.mask))[real]
        ours, uncertainty = token_logprobs(hidden["policy"], roles.lm_head, targets, temperature=temperature)
        theirs, _ = token_logprobs(hidden["reference"], roles.lm_head, targets, temperature=temperature)
        exact = token_kl(hidden["policy"], hidden["reference"], roles.lm_head, temperature=temperature)
        old[index, :width] = spread(ours, real)
        reference[index, :width] = spread(theirs, real)
        kl[index, :width] = spread(exact, real)
        entropy[index, :width] = spread(uncertainty, real)
        values[index, :width] = spread(roles.heads["value"](hidden["value"]).detach(), real)
        scores[index] = roles.scores("reward", batch.ids, batch.mask)
    return Rollout(prompts, rows, ended, scores, old, reference, kl, entropy, values)


def spread(values: Tensor, mask: Tensor) -> Tensor:
    """Put the values (n,) of the n real tokens back into their places (B, R); 0 on padding. Keeps gradients."""
    return torch.zeros(mask.shape, device=mask.device, dtype=values.dtype).masked_scatter(mask, values)
