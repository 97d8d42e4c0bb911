"""Measurements before and after training: the loss on held-out responses, and sampled answers to look at."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from sft.config import SampleSection
from workbench.data.records import Demonstration
from workbench.model.generate import sample
from workbench.model.roles import Roles
from workbench.model.score import response_nll
from workbench.run.out_of_memory import memory_hint


@memory_hint("while validating", "a smaller train.micro_batch_size")
def validate(roles: Roles, role: str, rows: Dataset, *, batch_size: int) -> tuple[float, int]:
    """Mean −log π over the held-out tokens that count, in nats per token; its exp is the perplexity.

    Args:
        roles: the base with the adapter.
        role: whose log-probabilities.
        rows: columns input_ids and completion_mask (1 on the tokens that count).
        batch_size: rows in one forward pass.

    Returns:
        nats per token, and the number of tokens.
    """
    prompts, responses = [], []
    for row in rows:
        for start, end in spans(row["completion_mask"]):
            prompts.append(row["input_ids"][:start])
            responses.append(row["input_ids"][start:end])
    nats, tokens = response_nll(roles, role, prompts, responses, batch_size=batch_size)
    return float(nats.sum() / tokens.sum()), int(tokens.sum())


def spans(mask: Sequence[int]) -> list[tuple[int, int]]:
    """Start and end of each stretch of ones."""
    padded = (0, *mask, 0)
    edges = [index for index in range(len(mask) + 1) if padded[index] != padded[index + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


@memory_hint("while sampling answers", "a smaller sample.prompts or sample.max_new_tokens")
def sample_answers(
    roles: Roles,
    role: str,
    records: Sequence[Demonstration],
    section: SampleSection,
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows for samples.jsonl: the prompts of these records, answered by the adapter as it is now."""
    answered = sample(
        roles,
        role,
        records,
        temperatures=[section.temperature],
        responses_per_prompt=1,
        max_new_tokens=section.max_new_tokens,
        batch_size=len(records),
        seed=seed,
    )
    return [
        {
            "prompt_id": prompt.id,
            "prompt": [message.model_dump() for message in prompt.prompt],
            "response": answers[0].text,
            "ended": answers[0].ended,
            "ids": list(answers[0].ids),
        }
        for prompt, answers in answered
    ]
