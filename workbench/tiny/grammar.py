"""The help-desk grammar: prompts that ask for one to three facts, and demonstrations of mixed quality.

A prompt is `opening + questions + ending`; `parse_prompt` is the exact inverse of `render_prompt`. Whether a prompt is
held out depends only on its facts and its form (`is_heldout`), so every part of the corpus can respect it.
Knows no reward and no model. Randomness comes from the caller's `random.Random`.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from workbench.data.hashing import text_digest
from workbench.tiny.facts import FACTS, PHRASINGS, Fact, lowered, question, statement
from workbench.tiny.phrases import CLOSINGS, FILLER, GREETINGS, RUDE

OPENINGS = ("", "Hello. ", "Hi! ", "Excuse me. ", "Quick question. ", "Good day. ")
JOINERS = (" ", " And ", " Also, ")
ENDINGS = ("", " Thanks.", " Please help.", " I am in a hurry.")
SHARES = (0.45, 0.40, 0.15)
"""Shares of prompts with one, two and three questions."""
HELDOUT_ONE_IN = 8
"""One in this many pairs of facts is never asked together in training."""
MAX_SENTENCES = 7
"""Length of the longest demonstration."""


@dataclass(frozen=True)
class Question:
    """A question: its fact and its phrasing."""

    fact: Fact
    phrasing: int


@dataclass(frozen=True)
class PromptSpec:
    """The parts of a prompt; the last three fields are indices into `OPENINGS`, `JOINERS` and `ENDINGS`."""

    questions: tuple[Question, ...]
    opening: int = 0
    joiner: int = 0
    ending: int = 0

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts asked for, in order."""
        return tuple(asked.fact for asked in self.questions)


def _follows(joiner: int, text: str) -> str:
    return text if joiner == 0 else lowered(text)


def render_prompt(spec: PromptSpec) -> str:
    """The text of a prompt: opening, questions (with the joiner before the last), ending."""
    texts = [question(asked.fact, asked.phrasing) for asked in spec.questions]
    body = " ".join(texts[:-1])
    if body:
        body += JOINERS[spec.joiner] + _follows(spec.joiner, texts[-1])
    else:
        body = texts[-1]
    return OPENINGS[spec.opening] + body + ENDINGS[spec.ending]


@cache
def _questions() -> dict[str, Question]:
    return {question(fact, phrasing): Question(fact, phrasing) for fact in FACTS for phrasing in range(PHRASINGS)}


def _take_question(text: str, joiner: int) -> tuple[Question, str] | None:
    for known, asked in _questions().items():
        spoken = _follows(joiner, known)
        if text.startswith(spoken):
            return asked, text[len(spoken) :]
    return None


def _parse_questions(text: str) -> tuple[tuple[Question, ...], int] | None:
    first = _take_question(text, 0)
    if first is None:
        return None
    asked, rest = [first[0]], first[1]
    joiner = 0
    while rest:
        joiner = next((index for index in (1, 2, 0) if rest.startswith(JOINERS[index])), -1)
        taken = _take_question(rest[len(JOINERS[joiner]) :], joiner) if joiner >= 0 else None
        if taken is None or (joiner > 0 and taken[1]):
            return None
        asked.append(taken[0])
        rest = taken[1]
    return tuple(asked), joiner


def parse_prompt(text: str) -> PromptSpec | None:
    """The parts of a prompt, or None for a text that is not of this grammar. Exact inverse of `render_prompt`."""
    for opening in sorted(range(len(OPENINGS)), key=lambda index: -len(OPENINGS[index])):
        for ending in sorted(range(len(ENDINGS)), key=lambda index: -len(ENDINGS[index])):
            if not (text.startswith(OPENINGS[opening]) and text.endswith(ENDINGS[ending])):
                continue
            parsed = _parse_questions(text[len(OPENINGS[opening]) : len(text) - len(ENDINGS[ending])])
            if parsed is not None and _is_proper(parsed[0]):
                return PromptSpec(parsed[0], opening, parsed[1], ending)
    return None


def _is_proper(questions: tuple[Question, ...]) -> bool:
    """Whether there are one to three questions about different facts."""
    return len(questions) <= len(SHARES) and len({asked.fact for asked in questions}) == len(questions)


def _chosen(*parts: object) -> bool:
    return text_digest(*parts, separator="|")[0] % HELDOUT_ONE_IN == 0


def is_heldout_pair(one: Fact, other: Fact) -> bool:
    """Whether these two facts are never asked together in training."""
    low, high = sorted((one.index, other.index))
    return _chosen("pair", low, high)


def is_heldout(spec: PromptSpec) -> bool:
    """Whether a prompt belongs to the held-out side.

    A prompt with two or three questions is held out if any two of its facts are a held-out pair. A prompt with one
    question is held out if its combination of opening, phrasing and ending is; only combinations with both an opening
    and an ending can be, so that no held-out text is part of a training text.
    """
    if len(spec.questions) > 1:
        return any(is_heldout_pair(one, other) for one, other in combinations(spec.facts, 2))
    if not (spec.opening and spec.ending):
        return False
    asked = spec.questions[0]
    return _chosen("form", spec.opening, asked.fact.index, asked.phrasing, spec.ending)


def sample_prompt(rng: random.Random, *, heldout: bool) -> PromptSpec:
    """Sample a prompt from the training or the held-out side; the number of questions follows `SHARES`."""
    count = rng.choices(range(1, len(SHARES) + 1), SHARES)[0]
    while True:
        spec = PromptSpec(
            tuple(Question(fact, rng.randrange(PHRASINGS)) for fact in rng.sample(FACTS, count)),
            rng.randrange(len(OPENINGS)),
            rng.randrange(len(JOINERS)) if count > 1 else 0,
            rng.randrange(len(ENDINGS)),
        )
        if is_heldout(spec) == heldout:
            return spec


def sample_prompts(rng: random.Random, count: int, *, heldout: bool, without: Iterable[str] = ()) -> list[PromptSpec]:
    """Sample `count` prompts with different texts, none of them in `without`."""
    seen = set(without)
    specs: list[PromptSpec] = []
    while len(specs) < count:
        spec = sample_prompt(rng, heldout=heldout)
        text = render_prompt(spec)
        if text not in seen:
            seen.add(text)
            specs.append(spec)
    return specs


def _fact_sentences(spec: PromptSpec, right: float, rng: random.Random) -> list[str]:
    sentences = []
    for fact in spec.facts:
        draw = rng.random()
        if draw < right:
            sentences.append(statement(fact, fact.right, rng.randrange(2)))
        elif draw < right + 0.65 * (1 - right):
            sentences.append(statement(fact, rng.choice(fact.wrong), rng.randrange(2)))
    if not sentences:
        fact = rng.choice(spec.facts)
        sentences.append(statement(fact, rng.choice((fact.right, *fact.wrong)), rng.randrange(2)))
    return sentences


def demonstrate(spec: PromptSpec, quality: float, rng: random.Random, *, right_share: float | None = None) -> str:
    """Write an answer of the given quality.

    Args:
        spec: the prompt.
        quality: 0 (careless, rude, long-winded) … 1 (nearly always right, courteous, concise).
        rng: source of randomness.
        right_share: expected share of facts stated correctly; None: it follows from the quality.
    """
    sentences = _fact_sentences(spec, 0.65 + 0.3 * quality if right_share is None else right_share, rng)
    low = 1 - quality
    if rng.random() < 0.3 * low:
        sentences.append(rng.choice(sentences))
    if rng.random() < 0.25 * low:
        unasked = rng.choice([fact for fact in FACTS if fact not in spec.facts])
        sentences.append(statement(unasked, rng.choice((unasked.right, *unasked.wrong)), rng.randrange(2)))
    for share in (0.8, 0.4):
        if rng.random() < share * low:
            sentences.insert(rng.randrange(len(sentences) + 1), rng.choice(FILLER))
    if rng.random() < 0.65 * low:
        sentences.insert(rng.choice((0, len(sentences))), rng.choice(RUDE))
    if rng.random() < 0.15 + 0.55 * quality:
        sentences.insert(0, rng.choice(GREETINGS))
    if rng.random() < 0.1 + 0.5 * quality:
        sentences = [*sentences[: MAX_SENTENCES - 1], rng.choice(CLOSINGS)]
    return " ".join(sentences[:MAX_SENTENCES])
