"""One rollout: the prompts of an iteration, sampled responses, and what every role computes for them.

The policy's own forward pass scores the finished responses, as the update does, and gives the old log-probabilities.
The ratio is therefore 1 before the first step, whichever engine sampled. Shapes: B = batch, T = prompt and response
tokens, R = response tokens, n = real response tokens of a batch, D = hidden.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from ppo.config import RolloutSection
from ppo.sampler import Engine
from workbench.data.records import Prompt
from workbench.data.template import end_ids
from workbench.data.tokenise import decode_response
from workbench.model.logprobs import token_kl, token_logprobs
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.model.rows import Rows
from workbench.run.out_of_memory import DOCTOR, memory_hint


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


def prompts_of_iteration(prompts: PromptSet, iteration: int, section: RolloutSection, *, seed: int) -> PromptSet:
    """The prompts of one iteration: each pass over the set is a new shuffle, and no prompt is left out of a pass.

    Each prompt is repeated `responses_per_prompt` times in a row. The result depends on the arguments alone, so a
    resumed run draws the same prompts.
    """
    number, indices = section.batch_size // section.responses_per_prompt, []
    for position in range(iteration * number, (iteration + 1) * number):
        epoch, offset = divmod(position, len(prompts))
        indices += [_shuffle(len(prompts), seed, epoch)[offset]] * section.responses_per_prompt
    return prompts.take(indices)


@lru_cache(maxsize=2)  # the pass over the prompts, and the next one
def _shuffle(size: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order: list[int] = torch.randperm(size, generator=generator).tolist()
    return order


@dataclass(frozen=True)
class Demonstrations:
    """Demonstrations for the auxiliary SFT loss (`train.ptx_coef`)."""

    prompts: list[list[int]]
    responses: list[list[int]]
    number: int
    """Drawn for each optimizer step."""
    pad_id: int
    device: torch.device

    def take(self, generator: torch.Generator) -> Rows:
        """`number` random ones."""
        index = torch.randint(len(self.prompts), (self.number,), generator=generator).tolist()
        return Rows.of([self.prompts[i] for i in index], [self.responses[i] for i in index], self.pad_id, self.device)


@dataclass(frozen=True)
class Rollout:
    """What one iteration learns from. Everything is detached; (B, R) tensors are 0 on padding."""

    prompts: PromptSet
    rows: Rows
    ended: Tensor
    """(B,) bool: the response has an EOS."""
    scores: Tensor
    """(B,) float, normalised scores; the mean over the reward models if there are several."""
    score_std: Tensor
    """(B,) float, standard deviation over the reward models; 0 if there is only one."""
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
    every_score: Tensor
    """(K, B) float, the scores of each reward model."""
    sampling_logprobs: Tensor | None = None
    """(B, R) float, under the distribution that the engine sampled from; None if it does not report them."""

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


@memory_hint("while sampling", f"a smaller rollout.sample_batch_size or rollout.max_new_tokens. {DOCTOR}")
def collect(
    roles: Roles,
    engine: Engine,
    prompts: PromptSet,
    section: RolloutSection,
    *,
    seed: int,
    processes: Processes,
) -> Rollout:
    """Sample a response to each prompt, then score the responses with every role.

    Prompts of similar length are sampled together. A batch's seed depends on its position among all prompts, so the
    responses do not depend on the number of processes.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts.ids[i]))
    size = section.sampled_at_once if engine.in_batches else -(-len(order) // processes.number)  # rounded up
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    sampled: dict[int, tuple[list[int], list[float] | None]] = {}  # prompt index → token ids, their log-probabilities
    for number, batch in processes.shard(batches):
        samples = engine.sample(
            [prompts.ids[i] for i in batch],
            max_new_tokens=section.max_new_tokens,
            temperature=section.temperature,
            seed=seed + number * size,
        )
        logprobs = samples.logprobs if samples.logprobs is not None else [None] * len(batch)
        sampled.update(zip(batch, zip(samples.ids, logprobs, strict=True), strict=True))
    in_order = [answer for _, answer in sorted(processes.gather(sampled).items())]
    responses, sampling_logprobs = [ids for ids, _ in in_order], [logprobs for _, logprobs in in_order]
    rows = Rows.of(prompts.ids, responses, roles.tokenizer.pad_token_id, roles.device)
    rollout = score_rows(roles, prompts, rows, section, processes=processes)
    reported = [value for logprobs in sampling_logprobs for value in logprobs or ()]  # (n,)
    if not reported:
        return rollout
    sampling = scatter_rows(torch.tensor(reported, device=roles.device), rows.response_mask)
    return replace(rollout, sampling_logprobs=sampling)


@memory_hint("while scoring the responses", "a smaller rollout.micro_batch_size")
def score_rows(
    roles: Roles, prompts: PromptSet, rows: Rows, section: RolloutSection, *, processes: Processes
) -> Rollout:
    """Scores, values and log-probabilities of finished responses, `micro_batch_size` rows at a time."""
    shape, names = rows.response_mask.shape, reward_models(roles)
    old, reference, kl, entropy, values = (torch.zeros(shape, device=roles.device) for _ in range(5))  # (B, R)
    scores = torch.zeros(len(names), len(rows), device=roles.device)  # (K, B)
    temperature = section.temperature
    for _, (index, batch) in processes.shard(list(rows.micro_batches(section.micro_batch_size))):  # index (b,)
        real, width = batch.response_mask, batch.response_mask.shape[1]  # (b, r), r ≤ R
        targets = batch.response_ids[real]  # (n,)
        hidden = {}  # role → (n, D), the states that predict the response tokens
        for role in ("policy", "reference", *(["value"] if "value" in roles.names else [])):
            with roles.use(role) as forward:
                hidden[role] = forward(batch.ids, batch.mask, batch.predicting)
        states, head = hidden["policy"], roles.lm_head
        policy_logprobs, policy_entropy = token_logprobs(states, head, targets, temperature=temperature)  # (n,) each
        reference_logprobs, _ = token_logprobs(hidden["reference"], head, targets, temperature=temperature)
        exact_kl = token_kl(states, hidden["reference"], head, temperature=temperature)
        old[index, :width] = scatter_rows(policy_logprobs, real)
        reference[index, :width] = scatter_rows(reference_logprobs, real)
        kl[index, :width] = scatter_rows(exact_kl, real)
        entropy[index, :width] = scatter_rows(policy_entropy, real)
        if "value" in roles.heads:  # on a value adapter's states, or on the policy's
            value_states = hidden.get("value", states)
            values[index, :width] = scatter_rows(roles.heads["value"](value_states).detach(), real)
        for number, name in enumerate(names):
            scores[number, index] = roles.scores(name, batch.ids, batch.mask)
    # Each process filled its own rows and left zeros elsewhere, so the sum over processes is the whole rollout.
    processes.all_reduce(old, reference, kl, entropy, values, scores)
    std = scores.std(dim=0, unbiased=True) if len(scores) > 1 else torch.zeros_like(scores[0])  # (B,)
    mean, ended = scores.mean(dim=0), _ended(roles, rows)
    return Rollout(prompts, rows, ended, mean, std, old, reference, kl, entropy, values, every_score=scores)


def _ended(roles: Roles, rows: Rows) -> Tensor:
    """(B,) bool: the last response token is an end token."""
    last = rows.response_mask.sum(dim=1, keepdim=True) - 1  # (B, 1)
    ends = torch.tensor(end_ids(roles.tokenizer), device=roles.device)
    return torch.isin(rows.response_ids.gather(1, last), ends).squeeze(1)


def reward_models(roles: Roles) -> tuple[str, ...]:
    """The roles that score: reward_1 … reward_K."""
    return tuple(name for name in roles.names if name.startswith("reward_"))


def scatter_rows(values: Tensor, mask: Tensor) -> Tensor:
    """Put the values (n,) of the n real tokens back into their rows (B, R); 0 on padding. Keeps gradients."""
    return torch.zeros(mask.shape, device=mask.device, dtype=values.dtype).masked_scatter(mask, values)
