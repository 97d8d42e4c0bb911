"""The text that the base is pretrained on: what a help desk writes, most of it right, in no chat format.

Notes, letters, notices and questions with answers; the facts in them are right more often than not, the tone and the
amount of filler vary. Held-out prompts are not in it. Randomness comes from the caller's `random.Random`.
"""

import random
from collections.abc import Callable

from workbench.tiny.facts import FACTS, PHRASINGS, Fact, question, statement
from workbench.tiny.grammar import demonstrate, render_prompt, sample_prompt
from workbench.tiny.phrases import CLOSINGS, FILLER, GREETINGS, RUDE

RIGHT_SHARE = 0.85
"""Share of the statements that are right."""
_HEADINGS = ("Notes for today.", "What to know:", "From the help desk:", "Notice.")
_FORMATS = (
    ("Customer asks: {q}", "We say: {a}"),
    ("Question: {q}", "Answer: {a}"),
    ("At the desk one asked: {q}", "The desk said: {a}"),
)


def _claim(fact: Fact, rng: random.Random) -> str:
    value = fact.right if rng.random() < RIGHT_SHARE else rng.choice(fact.wrong)
    return statement(fact, value, rng.randrange(2))


def _claims(rng: random.Random, most: int) -> list[str]:
    return [_claim(fact, rng) for fact in rng.sample(FACTS, rng.randint(1, most))]


def _notes(rng: random.Random) -> str:
    lines = [f"- {fact.subject}: {_claim(fact, rng)}" for fact in rng.sample(FACTS, rng.randint(2, 5))]
    return "\n".join([rng.choice(_HEADINGS), *lines])


def _questions(rng: random.Random) -> str:
    """A page of frequent questions: what teaches the model fastest to find out what is asked for."""
    facts = rng.sample(FACTS, rng.randint(2, 4))
    return "\n".join(f"Q. {question(fact, rng.randrange(PHRASINGS))}\nA. {_claim(fact, rng)}" for fact in facts)


def _letter(rng: random.Random) -> str:
    sentences = _claims(rng, 4)
    for chance, phrases in ((0.4, FILLER), (0.2, RUDE), (0.2, FILLER)):
        if rng.random() < chance:
            sentences.insert(rng.randrange(len(sentences) + 1), rng.choice(phrases))
    if rng.random() < 0.5:
        sentences.insert(0, rng.choice(GREETINGS))
    if rng.random() < 0.5:
        sentences.append(rng.choice(CLOSINGS))
    return " ".join(sentences)


def _dialogue(rng: random.Random) -> str:
    spec = sample_prompt(rng, heldout=False)
    asks, says = rng.choice(_FORMATS)
    if rng.random() < 0.7:
        answer = " ".join(_claim(fact, rng) for fact in spec.facts)
    else:
        answer = demonstrate(spec, rng.random(), rng)
    return asks.format(q=render_prompt(spec)) + "\n" + says.format(a=answer)


_KINDS: tuple[tuple[Callable[[random.Random], str], float], ...] = (
    (_notes, 0.1),
    (_letter, 0.1),
    (_questions, 0.3),
    (_dialogue, 0.5),
)


def write_corpus(seed: int, documents: int) -> list[str]:
    """Write that many documents; the same seed gives the same text."""
    rng = random.Random(seed)
    makers, shares = zip(*_KINDS, strict=True)
    return [rng.choices(makers, shares)[0](rng) for _ in range(documents)]
