"""Questions that change a text and score it anew: words moved, answers damaged, askers swapped, texts without sense."""

from collections.abc import Mapping, Sequence

import numpy as np

from reward.passport.content import ProbeFinding, SwapFinding, UnfamiliarFinding, WordFinding
from reward.passport.measures import raised, telling_words
from reward.passport.probes import OTHER_ANSWER, PROBES, WRONG_FACT, Probe, damaged, moved, other_answers, wrong_facts
from reward.passport.subject import Heldout, Subject, mean_of
from reward.passport.swaps import SWAPS, Swap
from workbench.data.records import Message, Preference
from workbench.evaluate.statistics import share_interval

WORDS = 3


def moved_words(subject: Subject, heldout: Heldout) -> list[WordFinding]:
    """For the words that tell the label best: does moving one turn the order?"""
    pairs, found = heldout.pairs, []
    chosen, rejected = [p.chosen_text for p in pairs], [p.rejected_text for p in pairs]
    for word, tells in telling_words(chosen, rejected, most=WORDS):
        sides = zip(chosen, rejected, strict=True)
        turned = [moved(word, *((c, r) if tells > 0 else (r, c))) for c, r in sides]
        places = [place for place, texts in enumerate(turned) if texts is not None]
        sources, targets = ([texts[side] for texts in turned if texts is not None] for side in (0, 1))
        prompts = [pairs[place].prompt for place in places]
        gaps = subject.mean(prompts, sources) - subject.mean(prompts, targets)
        flips = np.zeros(len(pairs))
        before = heldout.gaps[places] * np.sign(tells)
        flips[places] = (np.sign(before) == 1) & (gaps < 0)
        found.append(WordFinding(word, tells, share_interval(flips, heldout.groups)))
    return found


def damaged_answers(
    subject: Subject, asked: Sequence[Preference], facts: Mapping[str, str], seed: int
) -> list[ProbeFinding]:
    """How often each damage raises the score."""
    texts, groups = [pair.chosen_text for pair in asked], [pair.group for pair in asked]
    before = subject.mean([pair.prompt for pair in asked], texts)
    made: list[tuple[Probe, list[str | None]]] = [(probe, damaged(probe, texts, seed=seed)) for probe in PROBES]
    made += [(OTHER_ANSWER, other_answers(texts, groups)), (WRONG_FACT, wrong_facts(texts, facts))]
    found = []
    for probe, worse in made:
        places = [place for place, text in enumerate(worse) if text is not None]
        own = [groups[place] for place in places]
        after = subject.mean([asked[p].prompt for p in places], [text for text in worse if text is not None])
        share = raised(before[places], after, own) if places else None
        change = float((after - before[places]).mean()) if places else None
        found.append(ProbeFinding(probe.name, probe.about, probe.severe, share, change))
    return found


def swapped_askers(subject: Subject, asked: Sequence[Preference], seed: int) -> list[SwapFinding]:
    """Score for one asker less that for another."""
    requests, responses = [p.prompt[-1].content for p in asked], [p.chosen_text for p in asked]
    found = []
    for name, make in SWAPS.items():
        swaps = make(requests, responses)
        first, second = (
            subject.mean([_asked_by(asked[s.place], s, side) for s in swaps], [s.response[side] for s in swaps])
            for side in (0, 1)
        )
        gaps = first - second
        gap = mean_of(gaps, [asked[s.place].group for s in swaps], seed)
        found.append(SwapFinding(name, gap, float(np.abs(gaps).max()) if len(gaps) else None))
    return found


def _asked_by(pair: Preference, swap: Swap, side: int) -> tuple[Message, ...]:
    return (*pair.prompt[:-1], Message(role="user", content=swap.prompt[side]))


def unfamiliar(subject: Subject, heldout: Heldout, asked: Sequence[Preference], seed: int) -> UnfamiliarFinding | None:
    """What the spread of the members says of texts without sense, and what their mean; None for one model."""
    if heldout.chosen.shape[1] < 2:
        return None
    known = np.concatenate((heldout.chosen, heldout.rejected))
    flag = float(np.quantile(known.std(axis=1), 0.95))
    rng = np.random.default_rng(seed)
    letters = list("abcdefghijklmnopqrstuvwxyz     ")
    senseless = ["".join(rng.choice(letters, size=max(8, len(pair.chosen_text)))) for pair in asked]
    scores, groups = subject.score([pair.prompt for pair in asked], senseless), [pair.group for pair in asked]
    flagged = scores.std(axis=1) > flag
    let_through = ~flagged & (scores.mean(axis=1) > np.median(known.mean(axis=1)))
    shares = (share_interval(each.astype(np.float64), groups) for each in (flagged, let_through))
    return UnfamiliarFinding(float(known.std(axis=1).mean()), flag, *shares)
