"""What a tuned adapter is measured by between its steps: loss on held-out responses, and answers to look at."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from workbench.data.records import Demonstration
from workbench.model.generate import sample
from workbench.model.roles import Roles
from workbench.model.score import response_nll


def validate(roles: Roles, role: str, rows: Dataset, *, batch_size: int) -> float:
    """Mean −log π over all held-out response tokens, in nats a token; its exp is the perplexity.

    Args:
        roles: the base with the adapter.
        role: whose log-probabilities.
        rows: columns input_ids and completion_mask (0 on the prompt).
        batch_size: rows in one forward pass.
    """
    prompts, responses = [], []
    for row in rows:
        start = row["completion_mask"].index(1)
        prompts.append(row["input_ids"][:start])
        responses.append(row["input_ids"][start:])
    nats, tokens = response_nll(roles, role, prompts, responses, batch_size=batch_size)
    return float(nats.sum() / tokens.sum())


def sample_answers(
    roles: Roles,
    role: str,
    records: Sequence[Demonstration],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows for samples.jsonl: the same prompts every time, answered by the adapter as it is now."""
    answered = sample(
        roles,
        role,
        records,
        temperatures=[temperature],
        responses_per_prompt=1,
        max_new_tokens=max_new_tokens,
        batch_size=len(records),
        seed=seed,
    )
    return [
        {
            "prompt_id": prompt.id,
            "prompt": [message.model_dump() for message in prompt.prompt],
            "response": answers[0].text,
            "ended": answers[0].ended,
        }
        for prompt, answers in answered
    ]
