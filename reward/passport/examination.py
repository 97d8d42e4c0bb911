"""Examines a reward model through its scores. Knows a scoring function, no model and no run.

Shapes: N = held-out pairs or answers, K = members of the ensemble (1 without one).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reward.passport.findings import (
    Calibration,
    Findings,
    Mistake,
    ProbeFinding,
    SwapFinding,
    UnfamiliarFinding,
    WordFinding,
)
from reward.passport.interventions import (
    OTHER_ANSWER,
    PROBES,
    SWAPS,
    WRONG_FACT,
    Probe,
    Swap,
    damaged,
    moved,
    other_answers,
    wrong_facts,
)
from reward.passport.measures import (
    correlation_within_interval,
    fit_temperature,
    half_of_groups,
    judgement_agreement,
    noise_ceiling,
    raised,
    slices,
    telling_words,
    thirds,
)
from workbench.data.records import Message, Preference, with_last
from workbench.evaluate.metrics import (
    correctness,
    ece_by_chance,
    expected_calibration_error,
    reliability_bins,
    words,
)
from workbench.evaluate.statistics import Estimate, Floats, bootstrap_interval, share_interval
from workbench.run.errors import WorkbenchError

MISTAKES = 20
"""Pairs that the passport shows, at most."""
WORDS = 3
"""Telling words that are moved."""

MemberScores = Callable[[Sequence[Sequence[Message]], Sequence[str]], Floats]
"""(prompts, responses) → (N, K) normalised scores of each member."""


@dataclass(frozen=True)
class Subject:
    """The reward model that is examined."""

    score: MemberScores
    gain: float
    """Normalised score per raw score; Bradley-Terry probabilities come from raw scores."""

    def mean(self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> Floats:
        """(N,) the mean score over the members."""
        if not responses:
            return np.zeros(0)
        scores: Floats = self.score(prompts, responses).mean(axis=1)
        return scores


@dataclass(frozen=True)
class Heldout:
    """The held-out pairs with the scores of both sides."""

    pairs: Sequence[Preference]
    chosen: Floats
    """(N, K)."""
    rejected: Floats
    """(N, K)."""
    gain: float

    @functools.cached_property
    def groups(self) -> list[str]:
        """(N,) prompts."""
        return [pair.group for pair in self.pairs]

    @functools.cached_property
    def gaps(self) -> Floats:
        """(N,) mean gap over the members, in standard deviations of the scores."""
        difference: Floats = (self.chosen - self.rejected).mean(axis=1)
        return difference

    @functools.cached_property
    def lengths(self) -> tuple[Floats, Floats]:
        """Numbers of words of the chosen and of the rejected answers, (N,) each."""
        return (
            np.array([len(words(pair.chosen_text)) for pair in self.pairs], dtype=np.float64),
            np.array([len(words(pair.rejected_text)) for pair in self.pairs], dtype=np.float64),
        )


def examine(
    subject: Subject,
    pairs: Sequence[Preference],
    records: Sequence[Preference],
    *,
    answers: int,
    facts: Mapping[str, str],
    seed: int,
) -> Findings:
    """Measure everything.

    Args:
        subject: the reward model.
        pairs: held-out pairs with a preferred answer.
        records: all records of the labels, for the annotators' agreement.
        answers: held-out answers that are damaged and requests that are swapped, at most.
        facts: right statement → a wrong one; empty if none is known.
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
    asked = _one_pair_per_prompt_first(heldout, answers)
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
        shorter_better=share_of(correctness(heldout.gaps)[shorter], _kept(groups, shorter)),
        words=moved_words(subject, heldout),
        probes=damaged_answers(subject, asked, facts, seed),
        swaps=swapped_askers(subject, asked, seed),
        unfamiliar=unfamiliar(subject, heldout, asked, seed),
        mistakes=_mistakes(heldout),
        calibration=_calibration(heldout, seed),
    )


def _one_pair_per_prompt_first(heldout: Heldout, most: int) -> list[Preference]:
    """The first pair of each prompt, then the others, at most `most`; their chosen answers get damaged."""
    seen: set[str] = set()
    first: list[Preference] = []
    later: list[Preference] = []
    for pair in heldout.pairs:
        (later if pair.group in seen else first).append(pair)
        seen.add(pair.group)
    return [*first, *later][:most]


def _kept(items: Sequence[str], keep: np.ndarray) -> list[str]:
    return [item for item, wanted in zip(items, keep, strict=True) if wanted]


def _ceiling(
    pairs: Sequence[Preference], records: Sequence[Preference], seed: int
) -> tuple[Estimate | None, Estimate | None]:
    """The noise ceiling of the held-out labels, and the agreement it comes from.

    A file without ties has lost the pairs whose judgements were split evenly. Among pairs with an even number of
    judgements only those with a majority are left, so they would overstate the agreement and are not used.
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
    """Properties of the pairs → the value of each pair."""
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
    """Fit the temperature on half of the prompts and measure calibration on the other half."""
    raw, groups = heldout.gaps / heldout.gain, heldout.groups
    fitted = half_of_groups(groups, seed=seed)
    if not fitted.any():  # a single prompt
        fitted = ~fitted
    measured = ~fitted if (~fitted).any() else fitted
    temperature = fit_temperature(raw[fitted])
    scaled = raw[measured] / temperature
    squares = (1 - 1 / (1 + np.exp(-np.clip(scaled, -500, 500)))) ** 2
    return Calibration(
        temperature=temperature,
        ece_before=expected_calibration_error(raw[measured]),
        ece=expected_calibration_error(scaled),
        ece_by_chance=ece_by_chance(scaled),
        brier=bootstrap_interval(squares, _kept(groups, measured), seed=seed),
        reliability=reliability_bins(scaled),
    )


def _mistakes(heldout: Heldout) -> list[Mistake]:
    """The pairs with the most negative gaps, worst first."""
    worst = [int(index) for index in np.argsort(heldout.gaps, kind="stable")[:MISTAKES] if heldout.gaps[index] < 0]
    return [
        Mistake(
            id=heldout.pairs[index].id,
            prompt=[message.model_dump() for message in heldout.pairs[index].prompt],
            chosen=heldout.pairs[index].chosen_text,
            rejected=heldout.pairs[index].rejected_text,
            gap=float(heldout.gaps[index]),
            strength=heldout.pairs[index].strength,
        )
        for index in worst
    ]


def moved_words(subject: Subject, heldout: Heldout) -> list[WordFinding]:
    """For the words that predict the label best: how often moving the word to the other answer flips the order."""
    pairs, findings = heldout.pairs, []
    chosen, rejected = [p.chosen_text for p in pairs], [p.rejected_text for p in pairs]
    for word, tells in telling_words(chosen, rejected, most=WORDS):
        sides = zip(chosen, rejected, strict=True)
        changed = [moved(word, *((c, r) if tells > 0 else (r, c))) for c, r in sides]
        indices = [index for index, texts in enumerate(changed) if texts is not None]
        sources, targets = ([texts[side] for texts in changed if texts is not None] for side in (0, 1))
        prompts = [pairs[index].prompt for index in indices]
        gaps = subject.mean(prompts, sources) - subject.mean(prompts, targets)
        flips = np.zeros(len(pairs))
        before = heldout.gaps[indices] * np.sign(tells)
        flips[indices] = (np.sign(before) == 1) & (gaps < 0)
        findings.append(WordFinding(word, tells, share_interval(flips, heldout.groups)))
    return findings


def damaged_answers(
    subject: Subject, asked: Sequence[Preference], facts: Mapping[str, str], seed: int
) -> list[ProbeFinding]:
    """How often each damage raises the score."""
    texts, groups = [pair.chosen_text for pair in asked], [pair.group for pair in asked]
    before = subject.mean([pair.prompt for pair in asked], texts)
    probes: list[tuple[Probe, list[str | None]]] = [(probe, damaged(probe, texts, seed=seed)) for probe in PROBES]
    probes += [(OTHER_ANSWER, other_answers(texts, groups)), (WRONG_FACT, wrong_facts(texts, facts))]
    findings = []
    for probe, worse in probes:
        indices = [index for index, text in enumerate(worse) if text is not None]
        own_groups = [groups[index] for index in indices]
        after = subject.mean([asked[index].prompt for index in indices], [text for text in worse if text is not None])
        share = raised(before[indices], after, own_groups) if indices else None
        change = float((after - before[indices]).mean()) if indices else None
        findings.append(ProbeFinding(probe.name, probe.about, probe.severe, share, change))
    return findings


def swapped_askers(subject: Subject, asked: Sequence[Preference], seed: int) -> list[SwapFinding]:
    """How the score of one answer differs between two askers."""
    requests, responses = [p.prompt[-1].content for p in asked], [p.chosen_text for p in asked]
    findings = []
    for name, make in SWAPS.items():
        swaps = make(requests, responses)
        first, second = (
            subject.mean(
                [_asked_by(asked[swap.index], swap, side) for swap in swaps], [swap.response[side] for swap in swaps]
            )
            for side in (0, 1)
        )
        gaps = first - second
        gap = mean_of(gaps, [asked[swap.index].group for swap in swaps], seed)
        findings.append(SwapFinding(name, gap, float(np.abs(gaps).max()) if len(gaps) else None))
    return findings


def _asked_by(pair: Preference, swap: Swap, side: int) -> tuple[Message, ...]:
    return with_last(pair.prompt, swap.prompt[side])


def unfamiliar(subject: Subject, heldout: Heldout, asked: Sequence[Preference], seed: int) -> UnfamiliarFinding | None:
    """Spread and mean score of an ensemble on nonsense texts; None for one model."""
    if heldout.chosen.shape[1] < 2:
        return None
    known = np.concatenate((heldout.chosen, heldout.rejected))
    flag = float(np.quantile(known.std(axis=1), 0.95))
    rng = np.random.default_rng(seed)
    letters = list("abcdefghijklmnopqrstuvwxyz     ")
    nonsense = ["".join(rng.choice(letters, size=max(8, len(pair.chosen_text)))) for pair in asked]
    scores, groups = subject.score([pair.prompt for pair in asked], nonsense), [pair.group for pair in asked]
    flagged = scores.std(axis=1) > flag
    let_through = ~flagged & (scores.mean(axis=1) > np.median(known.mean(axis=1)))
    shares = (share_interval(each.astype(np.float64), groups) for each in (flagged, let_through))
    return UnfamiliarFinding(float(known.std(axis=1).mean()), flag, *shares)


def mean_of(values: Floats, groups: Sequence[str], seed: int) -> Estimate | None:
    """Mean with its interval over prompts; None without values."""
    return bootstrap_interval(values, groups, seed=seed) if len(values) else None


def share_of(values: Floats, groups: Sequence[str]) -> Estimate | None:
    """Share with its interval over prompts; None without values."""
    return share_interval(values, groups) if len(values) else None
