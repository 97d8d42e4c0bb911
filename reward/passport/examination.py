"""Puts a reward model through every question that needs scores alone. Knows a scoring function, no model and no run."""

from collections.abc import Mapping, Sequence

import numpy as np

from reward.passport.content import Calibration, Findings, Mistake
from reward.passport.interventions import damaged_answers, moved_words, swapped_askers, unfamiliar
from reward.passport.measures import (
    correlation_within_interval,
    fit_temperature,
    half_of_groups,
    judgement_agreement,
    noise_ceiling,
    slices,
    thirds,
)
from reward.passport.subject import Heldout, Subject, share_of
from workbench.data.records import Preference
from workbench.evaluate.metrics import (
    correctness,
    ece_by_chance,
    expected_calibration_error,
    reliability_bins,
    words,
)
from workbench.evaluate.statistics import Estimate, bootstrap_interval, share_interval
from workbench.run.errors import WorkbenchError

MISTAKES = 20


def examine(
    subject: Subject,
    pairs: Sequence[Preference],
    records: Sequence[Preference],
    *,
    answers: int,
    facts: Mapping[str, str],
    seed: int,
) -> Findings:
    """Ask everything.

    Args:
        subject: the reward model.
        pairs: held-out pairs with a preferred answer.
        records: all records of the labels, for the annotators' agreement.
        answers: at most so many held-out answers are damaged, and so many requests swapped.
        facts: right statement → a wrong one; empty where none is known.
        seed: of the damages, the halves and the bootstraps.

    Raises:
        WorkbenchError: there is no pair, or a score is not finite.
    """
    if not pairs:
        raise WorkbenchError("held-out pairs", "there are none with a preferred answer", remedy="label more pairs")
    prompts = [pair.prompt for pair in pairs]
    both = subject.score(prompts * 2, [p.chosen_text for p in pairs] + [p.rejected_text for p in pairs])
    if not np.isfinite(both).all():
        raise WorkbenchError("held-out pairs", "some of their scores are not finite", remedy="train the model again")
    heldout = Heldout(pairs, both[: len(pairs)], both[len(pairs) :], subject.gain)
    asked = _one_answer_a_prompt(heldout, answers)
    ceiling, agreement = _ceiling(pairs, records, seed)
    lengths, groups = heldout.lengths, heldout.groups
    shorter = lengths[0] < lengths[1]
    return Findings(
        accuracy=share_interval(correctness(heldout.gaps), groups),
        ceiling=ceiling,
        agreement=agreement,
        slices=slices(heldout.gaps, groups, _labels(heldout)),
        margins=[float(gap) for gap in heldout.gaps],
        length_correlation=correlation_within_interval(
            np.concatenate((heldout.chosen.mean(axis=1), heldout.rejected.mean(axis=1))),
            np.concatenate(lengths),
            groups * 2,
            seed=seed,
        ),
        shorter_better=share_of(correctness(heldout.gaps)[shorter], _of(groups, shorter)),
        words=moved_words(subject, heldout),
        probes=damaged_answers(subject, asked, facts, seed),
        swaps=swapped_askers(subject, asked, seed),
        unfamiliar=unfamiliar(subject, heldout, asked, seed),
        mistakes=_mistakes(heldout),
        calibration=_calibration(heldout, seed),
    )


def _one_answer_a_prompt(heldout: Heldout, most: int) -> list[Preference]:
    """The first pair of each prompt, then the others, at most so many: its chosen answer is what gets damaged."""
    seen: set[str] = set()
    first: list[Preference] = []
    later: list[Preference] = []
    for pair in heldout.pairs:
        (later if pair.group in seen else first).append(pair)
        seen.add(pair.group)
    return [*first, *later][:most]


def _of(items: Sequence[str], keep: np.ndarray) -> list[str]:
    return [item for item, wanted in zip(items, keep, strict=True) if wanted]


def _ceiling(
    pairs: Sequence[Preference], records: Sequence[Preference], seed: int
) -> tuple[Estimate | None, Estimate | None]:
    """The noise ceiling of the held-out labels, and the agreement it comes from.

    Where a file holds no ties, pairs with as many judgements on either side were left out of it: of an even number of
    judgements, then, only the pairs on which people agree are there, so these are no evidence.
    """
    ties_kept = any(record.strength == 0 for record in records)
    several = [
        record
        for record in records
        if record.agreement is not None
        and len(record.annotators) >= 2
        and record.resolution != "single"
        and (ties_kept or len(record.annotators) % 2)
    ]
    if not several:
        return None, None
    shares = [record.agreement or 0.0 for record in several]
    counts, groups = [len(record.annotators) for record in several], [record.group for record in several]
    labels = [1 if pair.resolution == "single" else len(pair.annotators) for pair in pairs]
    return (
        noise_ceiling(shares, counts, groups, labels, seed=seed),
        bootstrap_interval(judgement_agreement(shares, counts), groups, seed=seed),
    )


def _labels(heldout: Heldout) -> dict[str, list[str | None]]:
    """What pairs are told apart by."""
    pairs, (chosen, rejected) = heldout.pairs, heldout.lengths
    prompt_words = [float(sum(len(words(message.content)) for message in pair.prompt)) for pair in pairs]
    return {
        "strength": [f"{round(pair.strength):d}" for pair in pairs],
        "agreement": [None if pair.agreement is None else _share(pair.agreement) for pair in pairs],
        "source": [" > ".join((pair.chosen_run, pair.rejected_run)) if pair.chosen_run else None for pair in pairs],
        "prompt length": list(thirds(prompt_words, ("1 short", "2 middle", "3 long"))),
        "length gap": [
            "chosen shorter" if gap < 0 else "chosen longer" if gap > 0 else "equal" for gap in chosen - rejected
        ],
    }


def _share(agreement: float) -> str:
    return "all agree" if agreement == 1 else "most agree" if agreement > 0.5 else "no majority"


def _calibration(heldout: Heldout, seed: int) -> Calibration:
    """Temperature fitted on half of the prompts, and honesty on the other half."""
    raw, groups = heldout.gaps / heldout.gain, heldout.groups
    fitted = half_of_groups(groups, seed=seed)
    if not fitted.any():  # a single prompt
        fitted = ~fitted
    measured = ~fitted if (~fitted).any() else fitted
    temperature = fit_temperature(raw[fitted])
    cooled = raw[measured] / temperature
    squares = (1 - 1 / (1 + np.exp(-np.clip(cooled, -500, 500)))) ** 2
    return Calibration(
        temperature=temperature,
        ece_before=expected_calibration_error(raw[measured]),
        ece=expected_calibration_error(cooled),
        ece_by_chance=ece_by_chance(cooled),
        brier=bootstrap_interval(squares, _of(groups, measured), seed=seed),
        reliability=reliability_bins(cooled),
    )


def _mistakes(heldout: Heldout) -> list[Mistake]:
    worst = [int(place) for place in np.argsort(heldout.gaps, kind="stable")[:MISTAKES] if heldout.gaps[place] < 0]
    return [
        Mistake(
            id=heldout.pairs[place].id,
            prompt=[message.model_dump() for message in heldout.pairs[place].prompt],
            chosen=heldout.pairs[place].chosen_text,
            rejected=heldout.pairs[place].rejected_text,
            gap=float(heldout.gaps[place]),
            strength=heldout.pairs[place].strength,
        )
        for place in worst
    ]
