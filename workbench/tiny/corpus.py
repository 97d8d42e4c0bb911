"""The text that the base is pretrained on: what a help desk writes, most of it right, in no chat format.

Notes, letters, pages of questions, and dialogues, most with a colleague's review of the answer. The facts in them are
right more often than not, tone and filler vary. Held-out prompts are not in it. Knows no points: the gold reward is
elsewhere. Randomness comes from the caller's `random.Random`.
"""

import random
from collections.abc import Callable

from workbench.tiny.facts import (
    FACTS,
    PHRASINGS,
    Fact,
    normalised,
    question,
    read_statement,
    split_sentences,
    statement,
)
from workbench.tiny.grammar import PromptSpec, demonstrate, render_prompt, sample_prompt
from workbench.tiny.phrases import CLOSINGS, FILLER, GREETINGS, RUDE

RIGHT_SHARE = 0.85
"""Share of the statements that are right."""
_HEADINGS = ("Notes for today.", "What to know:", "From the help desk:", "Notice.")
_FORMATS = (
    ("Customer asks: {q}", "We say: {a}"),
    ("Question: {q}", "Answer: {a}"),
    ("At the desk one asked: {q}", "The desk said: {a}"),
)


_RUDE = frozenset(normalised(sentence) for sentence in RUDE)
_POLITE = frozenset(normalised(sentence) for sentence in (*GREETINGS, *CLOSINGS))


def _value(fact: Fact, rng: random.Random) -> str:
    return fact.right if rng.random() < RIGHT_SHARE else rng.choice(fact.wrong)


def _claim(fact: Fact, rng: random.Random) -> str:
    return statement(fact, _value(fact, rng), rng.randrange(2))


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


def _review(spec: PromptSpec, answer: str) -> str:
    """What a colleague writes under a dialogue: are the facts right, the tone, the length.

    Without such remarks a base this small has no features for them, and a reward model on it learns little.
    """
    sentences = split_sentences(answer)
    texts = [normalised(sentence) for sentence in sentences]
    claims = [read for sentence in sentences if (read := read_statement(sentence)) is not None]
    stated = {fact for fact, _ in claims}
    if any(value != fact.right for fact, value in claims if fact in spec.facts):
        facts = "wrong"
    else:
        facts = "right" if stated >= set(spec.facts) else "incomplete"
    kind = sum(text in _POLITE for text in texts)
    tone = "rude" if any(text in _RUDE for text in texts) else ("cold", "polite", "kind")[min(kind, 2)]
    superfluous = len(sentences) - kind - len(stated & set(spec.facts)) - sum(text in _RUDE for text in texts)
    length = ("short", "long", "endless")[min(max(superfluous, 0), 2)]
    return f"Review: {facts}, {tone}, {length}."


def _dialogue(rng: random.Random) -> str:
    spec = sample_prompt(rng, heldout=False)
    asks, says = rng.choice(_FORMATS)
    if rng.random() < 0.35:
        answer = " ".join(_claim(fact, rng) for fact in spec.facts)
        return "\n".join((asks.format(q=render_prompt(spec)), says.format(a=answer)))
    answer = demonstrate(spec, rng.random(), rng)
    return "\n".join((asks.format(q=render_prompt(spec)), says.format(a=answer), _review(spec, answer)))


_KINDS: tuple[tuple[Callable[[random.Random], str], float], ...] = (
    (_notes, 0.1),
    (_letter, 0.1),
    (_questions, 0.15),
    (_dialogue, 0.65),
)


def write_corpus(seed: int, documents: int) -> list[str]:
    """Write that many documents; the same seed gives the same text."""
    rng = random.Random(seed)
    makers, shares = zip(*_KINDS, strict=True)
    return [rng.choices(makers, shares)[0](rng) for _ in range(documents)]
