"""The blind pairs of one check: an answer of the policy and one of the start policy, in an order drawn by a hash."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.data.hashing import text_digest, unit_hash
from workbench.data.records import Item, Prompt, Response
from workbench.run.checkpoints import write_text_atomically


@dataclass(frozen=True)
class Answer:
    """A sampled answer."""

    text: str
    ended: bool


@dataclass(frozen=True)
class Check:
    """What people are asked about the policy of one iteration."""

    number: int
    """1 for the first check of the run."""
    iteration: int
    score: float
    """Mean score of the rollout by the reward models."""
    same: int
    """Pairs that were left out because both answers are the same text; for people they would be ties, which are no
    evidence either way."""
    items: tuple[Item, ...]
    positions: tuple[int, ...]
    """Of the policy's answer in each item."""

    def sides(self) -> dict[str, int]:
        """Id of each item → position of the policy's answer."""
        return {item.id: position for item, position in zip(self.items, self.positions, strict=True)}


def outcome(strength: int, position: int) -> float:
    """1 if the policy's answer was preferred, 0 if the start policy's was, ½ for a tie.

    Args:
        strength: of the judgement; below 0: the item's first answer is better.
        position: of the policy's answer.
    """
    return 0.5 if strength == 0 else float((strength > 0) == (position == 1))


def make_check(
    number: int,
    iteration: int,
    score: float,
    prompts: Sequence[Prompt],
    policy: Sequence[Answer],
    start: Sequence[Answer],
    *,
    run: str,
    temperature: float,
) -> Check:
    """Items for different answers; newer checks are handed out first. Ids and order do not tell the sides apart."""
    items, positions = list[Item](), list[int]()
    for prompt, own, other in zip(prompts, policy, start, strict=True):
        if own.text.strip() == other.text.strip():
            continue
        messages = [(message.role, message.content) for message in prompt.prompt]
        position = int(unit_hash("spot check", "side", messages, own.text, other.text) < 0.5)
        answers = [(own, f"{run}, iteration {iteration}"), (other, f"start of {run}")]
        ordered = answers if position == 0 else answers[::-1]
        name = text_digest("spot check", messages, *(answer.text for answer, _ in ordered)).hex()[:24]
        if any(item.id == f"spot-{name}" for item in items):
            continue
        responses = tuple(
            Response(id=str(n), text=answer.text, run=source, temperature=temperature, ended=answer.ended)
            for n, (answer, source) in enumerate(ordered)
        )
        items.append(
            Item(id=f"spot-{name}", group=prompt.id, prompt=prompt.prompt, responses=responses, priority=float(number))
        )
        positions.append(position)
    same = len(prompts) - len(items)
    return Check(number, iteration, score, same, tuple(items), tuple(positions))


def write_checks(path: Path, checks: Sequence[Check]) -> None:
    """One line for each check, atomically."""
    rows = [{**vars(check), "items": [item.model_dump(mode="json") for item in check.items]} for check in checks]
    write_text_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_checks(path: Path) -> list[Check]:
    """The checks of a run so far."""
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return [
        Check(
            **row
            | {
                "items": tuple(Item.model_validate_json(json.dumps(item)) for item in row["items"]),
                "positions": tuple(row["positions"]),
            }
        )
        for row in rows
    ]
