"""The blind pairs of one check: an answer of the policy and one of the start policy, in an order drawn by a hash.

A quarter of the pairs is random and tells the win rate. The others are those in which the reward model prefers the
policy most: where a policy exploits the reward model, people disagree there first.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.data.hashing import text_digest, unit_hash
from workbench.data.records import Item, Prompt, Response
from workbench.run.checkpoints import write_text_atomically

RANDOM_SHARE = 0.25
"""Of the pairs of a check."""
CANDIDATES = 4
"""Prompts per pair that the surest ones are chosen from."""


@dataclass(frozen=True)
class Answer:
    """A sampled answer."""

    text: str
    ended: bool
    score: float
    """By the reward models: what training maximises."""


@dataclass(frozen=True)
class Check:
    """What people are asked about the policy of one iteration."""

    number: int
    """1 for the first check of the run."""
    iteration: int
    score: float
    """Mean score of the rollout by the reward models."""
    items: tuple[Item, ...]
    positions: tuple[int, ...]
    """Of the policy's answer in each item."""
    surest: tuple[bool, ...]
    """Whether an item was chosen because the reward model prefers the policy's answer so much."""

    def asked(self) -> dict[str, tuple[int, bool]]:
        """Id of each item → position of the policy's answer, and whether it is one of the surest."""
        rows = zip(self.items, self.positions, self.surest, strict=True)
        return {item.id: (position, sure) for item, position, sure in rows}


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
    pairs: int,
    run: str,
    temperature: float,
    known: Collection[str] = (),
) -> Check:
    """Items for different answers; newer checks are handed out first. Ids and order do not tell sides or kinds apart.

    Args:
        number, iteration, score: see `Check`.
        prompts, policy, start: (N,) candidates in a random order, and one answer of each policy.
        pairs: that are asked at most. The same text twice would be a tie, which is no evidence either way: left out.
        run: name of the training run.
        temperature: of both answers.
        known: ids of earlier checks' items, which are left out: a judgement counts once.
    """
    chosen: dict[str, tuple[Item, int, bool]] = {}
    for index, sure in _chosen(policy, start, pairs):
        messages = [(message.role, message.content) for message in prompts[index].prompt]
        own, other = policy[index], start[index]
        position = int(unit_hash("spot check", "side", messages, own.text, other.text) < 0.5)
        answers = [(own, f"{run}, iteration {iteration}"), (other, f"start of {run}")]
        ordered = answers if position == 0 else answers[::-1]
        name = text_digest("spot check", messages, *(answer.text for answer, _ in ordered)).hex()[:24]
        item = Item(
            id=f"spot-{name}",
            group=prompts[index].id,
            prompt=prompts[index].prompt,
            responses=tuple(
                Response(id=str(n), text=answer.text, run=source, temperature=temperature, ended=answer.ended)
                for n, (answer, source) in enumerate(ordered)
            ),
            priority=float(number),
        )
        if item.id not in known:
            chosen.setdefault(item.id, (item, position, sure))
    rows = [chosen[name] for name in sorted(chosen)]
    items, positions, surest = zip(*rows, strict=True) if rows else ((), (), ())
    return Check(number, iteration, score, items, positions, surest)


def _chosen(policy: Sequence[Answer], start: Sequence[Answer], pairs: int) -> list[tuple[int, bool]]:
    """Indices of the candidates that are asked, and whether they are the surest ones: random ones first."""
    gaps = {
        index: own.score - other.score
        for index, (own, other) in enumerate(zip(policy, start, strict=True))
        if own.text.strip() != other.text.strip()
    }
    number = max(1, round(pairs * RANDOM_SHARE))
    random, rest = list(gaps)[:number], list(gaps)[number:]
    surest = sorted((index for index in rest if gaps[index] > 0), key=lambda index: -gaps[index])[: pairs - number]
    return [(index, False) for index in random] + [(index, True) for index in surest]


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
                "surest": tuple(row["surest"]),
            }
        )
        for row in rows
    ]
