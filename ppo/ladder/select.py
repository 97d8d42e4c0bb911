"""Which answers of a ladder become preference pairs, and how hard each pair is. Pure.

Source: Xu et al. 2023, arXiv:2310.02263: pairs of answers by models of different strength, far apart or close.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Answer:
    """One answer of one rung."""

    text: str
    tokens: int
    """EOS included."""
    ended: bool
    """With an end token, before the limit of new tokens."""
    score: float | None
    """By the reward model; None: there is none."""


def win_matrix(scores: np.ndarray) -> np.ndarray:
    """(K, K) share of prompts on which rung i scores above rung j, ties ½.

    Args:
        scores: (K, N) of K rungs on N prompts.
    """
    apart = scores[:, None, :] - scores[None, :, :]
    return ((apart > 0) + 0.5 * (apart == 0)).mean(axis=2)


def kept_rungs(wins: np.ndarray, least: float) -> list[int]:
    """Rungs, weakest first, of which each wins at least so often against the one kept below it.

    Args:
        wins: (K, K) from `win_matrix`.
        least: share of prompts.
    """
    kept = [0]
    for rung in range(1, len(wins)):
        if wins[rung, kept[-1]] >= least:
            kept.append(rung)
    return kept


def fault(chosen: Answer, rejected: Answer, question: str, *, margin: float, length_ratio: float) -> str | None:
    """Why two answers make no pair; None: they do.

    Args:
        chosen, rejected: of the stronger and the weaker rung.
        question: the last message of the prompt.
        margin: by how much the chosen answer's score has to exceed the other's.
        length_ratio: largest ratio of their tokens.
    """
    longer, shorter = max(chosen.tokens, rejected.tokens), min(chosen.tokens, rejected.tokens)
    scored = chosen.score is not None and rejected.score is not None
    tests: dict[str, Callable[[], bool]] = {
        "empty": lambda: not chosen.text.strip() or not rejected.text.strip(),
        "same text": lambda: chosen.text.strip() == rejected.text.strip(),
        "chosen answer does not end": lambda: not chosen.ended,
        "chosen answer repeats the prompt": lambda: question.strip() in chosen.text,
        "lengths too different": lambda: longer > length_ratio * shorter,
        "margin too small": lambda: scored and not (chosen.score or 0) - (rejected.score or 0) > margin,
    }
    return next((name for name, fails in tests.items() if fails()), None)


def candidates(
    answers: Sequence[Sequence[Answer]],
    kept: Sequence[int],
    questions: Sequence[str],
    *,
    margin: float,
    length_ratio: float,
) -> tuple[list[list[tuple[int, int]]], Counter[str]]:
    """For each of N prompts the usable pairs (better, worse) of kept rungs; and how many are not, by reason.

    Args:
        answers: (K rungs, N prompts).
        kept: rungs to pair, weakest first.
        questions: (N,) last message of each prompt.
        margin, length_ratio: see `fault`.
    """
    found: list[list[tuple[int, int]]] = []
    faults: Counter[str] = Counter()
    couples = [(better, worse) for place, better in enumerate(kept) for worse in kept[:place]]
    for number, question in enumerate(questions):
        usable = []
        for better, worse in couples:
            chosen, rejected = answers[better][number], answers[worse][number]
            reason = fault(chosen, rejected, question, margin=margin, length_ratio=length_ratio)
            if reason is None:
                usable.append((better, worse))
            else:
                faults[reason] += 1
        found.append(usable)
    return found, faults


def difficulties(margins: Sequence[float | None], gaps: Sequence[int], rungs: int) -> list[float]:
    """(M,) how hard each pair is, 0 to 1: by the rank of its margin, or without scores by how close its rungs are.

    Args:
        margins: (M,) differences of the scores, or None.
        gaps: (M,) how many rungs lie between the answers, 1 for neighbours.
        rungs: on the ladder.
    """
    if any(margin is None for margin in margins):
        return [1 - (gap - 1) / max(rungs - 2, 1) for gap in gaps]
    order = np.argsort(np.argsort(-np.asarray(margins, dtype=float), kind="stable"), kind="stable")
    return (order / max(len(margins) - 1, 1)).tolist()
