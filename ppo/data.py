"""Prompts as token ids, and which of them an iteration answers."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from workbench.data.batching import encode_prompts
from workbench.data.readers import read_prompts
from workbench.data.records import Prompt
from workbench.data.splits import split_by_group
from workbench.run.errors import WorkbenchError


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
) -> tuple[PromptSet, PromptSet]:
    """Training and held-out prompts.

    Raises:
        WorkbenchError: from the readers; nothing is left on one side; a held-out prompt is also a training prompt.
    """
    records = read_prompts(train)
    if heldout is None or heldout == train:
        records, held_out = split_by_group(records, heldout_share, seed)
    else:
        held_out = read_prompts(heldout)
        both = {p.prompt for p in records} & {p.prompt for p in held_out}
        if both:
            raise WorkbenchError(
                heldout,
                f"{len(both)} of its prompts are also in {train}",
                expected="held-out prompts that are never trained on",
                remedy="leave data.heldout out to split the training prompts",
            )
    if not records or not held_out:
        raise WorkbenchError(
            train,
            f"{len(records)} prompts to train on and {len(held_out)} held out",
            expected="at least one of each",
            remedy="data.heldout=FILE, or another data.heldout_share",
        )
    return tuple(  # type: ignore[return-value]
        _encode(tokenizer, side, max_prompt_length, place)
        for side, place in ((records, train), (held_out, heldout or train))
    )


def _encode(tokenizer: PreTrainedTokenizerBase, records: list[Prompt], limit: int, place: Path) -> PromptSet:
    encoded = encode_prompts(tokenizer, records, max_length=limit, place=place)
    return PromptSet([records[i] for i in encoded.kept], [row["prompt_ids"] for row in encoded.rows])


def prompts_of_iteration(prompts: PromptSet, iteration: int, batch_size: int, seed: int) -> PromptSet:
    """The prompts that one iteration answers: a new shuffle each pass over the set, no prompt left out of a pass.

    A function of its arguments alone, so a resumed run meets the same prompts.
    """
    indices = []
    for position in range(iteration * batch_size, (iteration + 1) * batch_size):
        epoch, place = divmod(position, len(prompts))
        indices.append(_shuffle(len(prompts), seed, epoch)[place])
    return prompts.take(indices)


def _shuffle(size: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order: list[int] = torch.randperm(size, generator=generator).tolist()
    return order
