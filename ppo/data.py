"""Prompts as token ids, which of them an iteration answers, and demonstrations to imitate beside."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from ppo.inputs import read_sides
from workbench.data.batching import encode_demonstrations, encode_prompts
from workbench.data.readers import read_demonstrations
from workbench.data.records import Prompt
from workbench.data.rules import RowRules
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


def load_prompts(
    tokenizer: PreTrainedTokenizerBase,
    *,
    train: Path,
    heldout: Path | None,
    heldout_share: float,
    max_prompt_length: int,
    seed: int,
    rules: RowRules | None = None,
) -> tuple[PromptSet, PromptSet]:
    """Training and held-out prompts.

    Raises:
        WorkbenchError: from the readers; nothing is left on one side; a held-out prompt is also a training prompt.
    """
    records, held_out = read_sides(train, heldout, share=heldout_share, seed=seed, rules=rules)
    return tuple(  # type: ignore[return-value]
        _encode(tokenizer, side, max_prompt_length, place, rules)
        for side, place in ((records, train), (held_out, heldout or train))
    )


def _encode(
    tokenizer: PreTrainedTokenizerBase, records: list[Prompt], limit: int, place: Path, rules: RowRules | None
) -> PromptSet:
    encoded = encode_prompts(tokenizer, records, max_length=limit, place=place, rules=rules)
    return PromptSet([records[i] for i in encoded.kept], [row["prompt_ids"] for row in encoded.rows])


@dataclass(frozen=True)
class Demonstrations:
    """Demonstrations to imitate beside the reward (`train.ptx_coef`)."""

    prompts: list[list[int]]
    responses: list[list[int]]
    number: int
    """Drawn for each optimizer step."""
    pad_id: int
    device: torch.device

    def take(self, generator: torch.Generator) -> Rows:
        """Random ones."""
        index = torch.randint(len(self.prompts), (self.number,), generator=generator).tolist()
        return Rows.of([self.prompts[i] for i in index], [self.responses[i] for i in index], self.pad_id, self.device)


@dataclass(frozen=True)
class Data:
    """What a run reads."""

    prompts: PromptSet
    heldout: PromptSet
    demonstrations: Demonstrations | None


def load_demonstrations(
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    *,
    max_length: int,
    number: int,
    device: torch.device,
    rules: RowRules | None = None,
) -> Demonstrations:
    """Read and encode them; those longer than `max_length` tokens are left out, and counted.

    Raises:
        WorkbenchError: from the readers; all are too long.
    """
    rows = encode_demonstrations(
        tokenizer,
        read_demonstrations(path, rules),
        max_length=max_length,
        place=path,
        rules=rules,
        limit_name="data.max_prompt_length + rollout.max_new_tokens",
    ).rows
    split = [len(row["completion_mask"]) - sum(row["completion_mask"]) for row in rows]
    return Demonstrations(
        [row["input_ids"][:n] for row, n in zip(rows, split, strict=True)],
        [row["input_ids"][n:] for row, n in zip(rows, split, strict=True)],
        number,
        tokenizer.pad_token_id,
        device,
    )


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
