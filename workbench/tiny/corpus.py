"""The text that the base is pretrained on: what a help desk writes, most of it right, in no chat format.

Notes, letters, pages of questions, and dialogues, some with a colleague's remark on whether the answer was right. The
facts in them are right more often than not, the tone and the amount of filler vary. Held-out prompts are not in it.
Randomness comes from the caller's `random.Random`.
"""

import random
from collections.abc import Callable, Sequence

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


def _remark(asked: Sequence[Fact], claims: Sequence[tuple[Fact, str]]) -> str:
    """What a colleague writes under a dialogue: the first of these that is true."""
    if any(value != fact.right for fact, value in claims):
        return "Note: something here is wrong."
    if any(fact not in asked for fact, _ in claims):
        return "Note: nobody asked for that."
    if len(claims) < len(asked):
        return "Note: something was left out."
    return "Note: this was right."


def _reviewed_answer(asked: Sequence[Fact], rng: random.Random) -> tuple[str, str]:
    """Plain statements, now and then with one too few or one too many, and the remark on them."""
    claims = [(fact, _value(fact, rng)) for fact in asked]
    draw = rng.random()
    if draw < 0.2 and len(claims) > 1:
        claims.pop(rng.randrange(len(claims)))
    elif draw > 0.8:
        other = rng.choice([fact for fact in FACTS if fact not in asked])
        claims[rng.randrange(len(claims))] = (other, other.right)
    text = " ".join(statement(fact, value, rng.randrange(2)) for fact, value in claims)
    return text, _remark(asked, claims)


def _dialogue(rng: random.Random) -> str:
    spec = sample_prompt(rng, heldout=False)
    asks, says = rng.choice(_FORMATS)
    remark = ""
    draw = rng.random()
    if draw < 0.5:
        answer = " ".join(_claim(fact, rng) for fact in spec.facts)
    elif draw < 0.8:
        answer, remark = _reviewed_answer(spec.facts, rng)
    else:
        answer = demonstrate(spec, rng.random(), rng)
    lines = [asks.format(q=render_prompt(spec)), says.format(a=answer)]
    return "\n".join([*lines, remark] if remark else lines)


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
