"""One rollout: sampled responses with what policy, reference, value and reward say of them.

Old log-probabilities come from a forward pass over the finished responses, the same one the update runs, so that the
ratio is 1 before the first step. Shapes: B = batch, R = response tokens.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from ppo.sampler import Engine
from workbench.data.records import Prompt
from workbench.data.template import end_ids
from workbench.data.tokenise import decode_response
from workbench.model.logprobs import token_kl, token_logprobs
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.model.rows import Rows


@dataclass(frozen=True)
class PromptSet:
    """Prompts with their token ids."""

    records: list[Prompt]
    ids: list[list[int]]

    def __len__(self) -> int:
        return len(self.records)

    def take(self, indices: list[int]) -> "PromptSet":
        """The prompts at these indices, in this order."""
        return PromptSet([self.records[i] for i in indices], [self.ids[i] for i in indices])


def prompts_of_iteration(
    prompts: PromptSet, iteration: int, batch_size: int, seed: int, responses_per_prompt: int = 1
) -> PromptSet:
    """The prompts that one iteration answers: a new shuffle each pass over the set, no prompt left out of a pass.

    Each is there `responses_per_prompt` times in a row. A function of its arguments alone, so a resumed run meets the
    same prompts.
    """
    number, indices = batch_size // responses_per_prompt, []
    for position in range(iteration * number, (iteration + 1) * number):
        epoch, place = divmod(position, len(prompts))
        indices += [_shuffle(len(prompts), seed, epoch)[place]] * responses_per_prompt
    return prompts.take(indices)


@lru_cache(maxsize=2)  # the pass over the prompts, and the next one
def _shuffle(size: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order: list[int] = torch.randperm(size, generator=generator).tolist()
    return order


@dataclass(frozen=True)
class Rollout:
    """What one iteration learns from. Everything is detached; (B, R) tensors are 0 on padding."""

    prompts: PromptSet
    rows: Rows
    ended: Tensor
    """(B,) bool: the response has an EOS."""
    scores: Tensor
    """(B,) float, normalised scores as they are; the mean over the reward models where there are several."""
    score_spread: Tensor
    """(B,) float, standard deviation over the reward models; 0 where there is one."""
    old_logprobs: Tensor
    """(B, R) float, of the policy that sampled."""
    reference_logprobs: Tensor
    """(B, R) float."""
    kl: Tensor
    """(B, R) float, exact KL(policy ‖ reference) of each token's distribution, nats."""
    entropy: Tensor
    """(B, R) float, of the policy, nats."""
    values: Tensor
    """(B, R) float, value before each token; 0 without a value model."""
    sampling_logprobs: Tensor | None = None
    """(B, R) float, of the distribution the engine drew from; None where it does not tell."""

    @property
    def mask(self) -> Tensor:
        """(B, R) bool, True on real tokens."""
        return self.rows.response_mask

    @property
    def tokens(self) -> int:
        """Real response tokens."""
        return int(self.mask.sum())

    def ids(self) -> list[list[int]]:
        """The responses as token ids, EOS included."""
        return [ids[real].tolist() for ids, real in zip(self.rows.response_ids, self.mask, strict=True)]

    def texts(self, roles: Roles) -> list[str]:
        """The responses as text."""
        return [decode_response(roles.tokenizer, ids) for ids in self.ids()]


def collect(
    roles: Roles,
    engine: Engine,
    prompts: PromptSet,
    *,
    role: str = "policy",
    max_new_tokens: int,
    temperature: float,
    sample_batch_size: int,
    micro_batch_size: int,
    seed: int,
    processes: Processes,
) -> Rollout:
    """Sample a response to each prompt, then let every role read it.

    Prompts of similar length are sampled together. A batch's seed depends on its place among all prompts, so that the
    responses do not depend on how many processes share the work.

    Args:
        sample_batch_size: prompts of one call of an engine that works in batches; the others get their whole share.
        micro_batch_size: rows of one scoring pass.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts.ids[i]))
    at_once = not engine.in_batches and role == "policy"  # other roles are sampled in this process
    size = -(-len(order) // processes.number) if at_once else sample_batch_size
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    found: dict[int, tuple[list[int], list[float] | None]] = {}
    for place, batch in processes.shard(batches):
        samples = engine.sample(
            [prompts.ids[i] for i in batch],
            role=role,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed + place * size,
        )
        logprobs = samples.logprobs if samples.logprobs is not None else [None] * len(batch)
        found.update(zip(batch, zip(samples.ids, logprobs, strict=True), strict=True))
    in_order = [answer for _, answer in sorted(processes.gather(found).items())]
    responses, sampling_logprobs = [ids for ids, _ in in_order], [logprobs for _, logprobs in in_order]
    rows = Rows.of(prompts.ids, responses, roles.tokenizer.pad_token_id, roles.device)
    ends = end_ids(roles.tokenizer)
    done = torch.tensor([r[-1] in ends for r in responses], device=roles.device)
    rollout = read(
        roles,
        prompts,
        rows,
        done,
        role=role,
        temperature=temperature,
        size=micro_batch_size,
        processes=processes,
    )
    told = [value for logprobs in sampling_logprobs for value in logprobs or ()]
    if not told:
        return rollout
    return replace(rollout, sampling_logprobs=scatter_rows(torch.tensor(told, device=roles.device), rows.response_mask))


def read(
    roles: Roles,
    prompts: PromptSet,
    rows: Rows,
    ended: Tensor,
    *,
    role: str = "policy",
    temperature: float,
    size: int,
    processes: Processes,
) -> Rollout:
    """Scores, values and log-probabilities of finished responses, `size` rows at a time."""
    shape = rows.response_mask.shape
    old, reference, kl, entropy, values = (torch.zeros(shape, device=roles.device) for _ in range(5))
    judges = reward_models(roles)
    scores = torch.zeros(len(judges), len(rows), device=roles.device)
    for _, (index, batch) in processes.shard(list(rows.micro_batches(size))):
        real, width = batch.response_mask, batch.response_mask.shape[1]
        targets = batch.response_ids[real]
        hidden = {}
        for name in (role, "reference", *(["value"] if "value" in roles.names else [])):
            with roles.use(name) as forward:
                hidden[name] = forward(batch.ids, batch.mask, batch.predicting)
        ours, uncertainty = token_logprobs(hidden[role], roles.lm_head, targets, temperature=temperature)
        theirs, _ = token_logprobs(hidden["reference"], roles.lm_head, targets, temperature=temperature)
        exact = token_kl(hidden[role], hidden["reference"], roles.lm_head, temperature=temperature)
        old[index, :width] = scatter_rows(ours, real)
        reference[index, :width] = scatter_rows(theirs, real)
        kl[index, :width] = scatter_rows(exact, real)
        entropy[index, :width] = scatter_rows(uncertainty, real)
        if "value" in roles.heads:
            trunk = hidden.get("value", hidden[role])
            values[index, :width] = scatter_rows(roles.heads["value"](trunk).detach(), real)
        for number, name in enumerate(judges):
            scores[number, index] = roles.scores(name, batch.ids, batch.mask)
    processes.all_reduce(old, reference, kl, entropy, values, scores)
    return Rollout(prompts, rows, ended, scores.mean(dim=0), _spread_of(scores), old, reference, kl, entropy, values)


def reward_models(roles: Roles) -> tuple[str, ...]:
    """The roles that score: reward_1 … reward_K."""
    return tuple(name for name in roles.names if name.startswith("reward_"))


def _spread_of(scores: Tensor) -> Tensor:
    """Standard deviation (B,) over the reward models' scores (K, B); 0 for one."""
    return scores.std(dim=0, unbiased=True) if len(scores) > 1 else torch.zeros_like(scores[0])


def scatter_rows(values: Tensor, mask: Tensor) -> Tensor:
    """Put the values (n,) of the n real tokens back into their places (B, R); 0 on padding. Keeps gradients."""
    return torch.zeros(mask.shape, device=mask.device, dtype=values.dtype).masked_scatter(mask, values)
