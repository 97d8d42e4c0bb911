"""`python -m ppo pairs CONFIG`: a ladder of answers → measured → preference pairs, easy to hard."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppo.ladder.answers import climb
from ppo.ladder.config import LadderSection, PairsConfig
from ppo.ladder.select import Answer, candidates, difficulties, kept_rungs, win_matrix
from workbench.data.hashing import unit_hash
from workbench.data.inputs import data_files
from workbench.data.readers import read_prompts, write_records
from workbench.data.records import Message, Preference, Prompt
from workbench.data.rules import RowRules
from workbench.evaluate.statistics import share_interval
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import Problems, WorkbenchError


def build(config: PairsConfig) -> Path:
    """Sample, measure, select, write; returns the file of preferences."""
    out, prompts = Path(config.ladder.out), prompts_of(config)
    records, ladder = selected(config, prompts, climb(config.ladder, out / "rungs", prompts))
    file = out / "preferences.jsonl"
    write_records(file, records)
    write_text_atomically(out / "ladder.json", json.dumps(ladder, indent=1) + "\n")
    print(summary(ladder))
    print(f"{file}: {len(records):,} pairs")
    return file


def selected(
    config: PairsConfig, prompts: Sequence[Prompt], answers: Sequence[Sequence[Answer]]
) -> tuple[list[Preference], dict[str, Any]]:
    """The preferences, and what `ladder.json` says.

    Raises:
        WorkbenchError: no rung is better than another one, or no pair is left.
    """
    section = config.ladder
    names = [rung.name for rung in section.rungs]
    ladder: dict[str, Any] = {"rungs": names, "prompts": len(prompts)}
    kept = list(range(len(names)))
    if section.reward is not None:
        scores = np.array([[answer.score for answer in rung] for rung in answers])
        wins = win_matrix(scores)
        kept = kept_rungs(wins, config.select.win_rate)
        ladder |= {"wins": [[_share(scores[i], scores[j]) for j in range(len(names))] for i in range(len(names))]}
    ladder["dropped"] = [name for number, name in enumerate(names) if number not in kept]
    if len(kept) < 2:
        raise WorkbenchError(
            "ladder.rungs",
            f"none wins {config.select.win_rate:.0%} against the rung below it",
            expected="answers of different strength",
            remedy="rungs that lie further apart, or a smaller select.win_rate",
        )
    records, faults = preferences(config, prompts, answers, kept)
    ladder |= {"pairs": len(records), "left_out": faults}
    if not records:
        raise WorkbenchError(
            "select", f"leaves no pair: {faults}", remedy="loosen select.length_ratio or select.margin"
        )
    return records, ladder


def prompts_of(config: PairsConfig) -> list[Prompt]:
    """The prompts to answer."""
    files = data_files({"ladder.prompts": config.ladder.prompts}, Problems())
    assert files is not None  # checked before
    rules = RowRules(config.data.ignore, config.data.bad_rows)
    return read_prompts(files["ladder.prompts"], rules)[: config.ladder.number]


def preferences(
    config: PairsConfig, prompts: Sequence[Prompt], answers: Sequence[Sequence[Answer]], kept: Sequence[int]
) -> tuple[list[Preference], dict[str, int]]:
    """The selected pairs as records, and how many were not used, by reason."""
    section, select = config.ladder, config.select
    usable, faults = candidates(
        answers,
        kept,
        [prompt.prompt[-1].content for prompt in prompts],
        margin=select.margin,
        length_ratio=select.length_ratio,
    )
    chosen = [
        (number, better, worse)
        for number, couples in enumerate(usable)
        for better, worse in sorted(couples, key=lambda pair: unit_hash(section.seed, prompts[number].id, *pair))[
            : select.per_prompt
        ]
    ]
    margins = [_margin(answers[better][number], answers[worse][number]) for number, better, worse in chosen]
    gaps = [kept.index(better) - kept.index(worse) for _, better, worse in chosen]
    hard = difficulties(margins, gaps, len(kept))
    records = [
        preference(section, prompts[number], answers, better, worse, number, difficulty)
        for (number, better, worse), difficulty in zip(chosen, hard, strict=True)
    ]
    return records, dict(faults)


def preference(
    section: LadderSection,
    prompt: Prompt,
    answers: Sequence[Sequence[Answer]],
    better: int,
    worse: int,
    number: int,
    difficulty: float,
) -> Preference:
    """One record."""
    names = [rung.name for rung in section.rungs]

    def message(rung: int) -> tuple[Message, ...]:
        return (Message(role="assistant", content=answers[rung][number].text),)

    return Preference(
        id=f"{prompt.id}-{names[better]}-{names[worse]}",
        group=prompt.id,
        prompt=prompt.prompt,
        chosen=message(better),
        rejected=message(worse),
        resolution="ladder",
        chosen_run=names[better],
        rejected_run=names[worse],
        difficulty=difficulty,
    )


def _margin(better: Answer, worse: Answer) -> float | None:
    return better.score - worse.score if better.score is not None and worse.score is not None else None


def _share(first: np.ndarray, second: np.ndarray) -> list[float]:
    """Share of prompts that the first wins, with its 95 % interval."""
    found = share_interval((first > second) + 0.5 * (first == second))
    return [found.mean, found.low, found.high]


def summary(ladder: dict[str, Any]) -> str:
    """The ladder as lines: how often each rung wins against the one below it."""
    lines = [f"ladder, the weakest rung first, on {ladder['prompts']:,} prompts"]
    for number, name in enumerate(ladder["rungs"]):
        line = f"  {name}"
        if number and "wins" in ladder:
            mean, low, high = ladder["wins"][number][number - 1]
            line += f": wins {mean:.0%} against {ladder['rungs'][number - 1]} (95 % {low:.0%} to {high:.0%})"
        lines.append(line + (" (dropped)" if name in ladder["dropped"] else ""))
    if "wins" not in ladder:
        lines.append("  not measured: no ladder.reward")
    lines += [f"  left out: {count:,} pairs, {reason}" for reason, count in ladder["left_out"].items()]
    return "\n".join(lines)
