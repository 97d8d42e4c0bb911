"""The text that the base is pretrained on: documents of a help desk, and colleagues' remarks on its answers.

There are notes, letters, pages of questions, dialogues *checked* sentence by sentence, and dialogues *reviewed* as a
whole. The base reads checks before reviews, because a review sums up what checks say: whether a sentence is right, and
whether it was asked for. Without remarks a base this small has no features for answer quality at the end of an answer,
and a reward model on it learns little. A review follows EOS directly, with its verdicts in random order, so the hidden
state at EOS has to represent all of them. The text contains no gold reward and no held-out prompt. Randomness comes
from the caller's `random.Random`.
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
from workbench.tiny.tokenizer import END

RIGHT_SHARE = 0.85
"""Share of correct statements in notes, letters and pages of questions."""
_HEADINGS = ("Notes for today.", "What to know:", "From the help desk:", "Notice.")
_FORMATS = (
    ("Customer asks: {q}", "We say: {a}"),
    ("Question: {q}", "Answer: {a}"),
    ("At the desk one asked: {q}", "The desk said: {a}"),
)
_ANOTHERS_SHARE = 0.3
"""Share of dialogues whose answer belongs to another customer's question."""
_CHECKED_SHARE = 0.8
"""Share of sentences with a remark. Below 1, so that any sentence may be the next to get one."""
_DEMONSTRATED_RIGHT = 0.58
"""Share of facts stated correctly in dialogues: low enough to show many wrong answers."""
_VERDICTS_KEPT = 4
"""Verdicts per review."""

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
    """A page of frequent questions. This kind of text teaches the model fastest to attend to the question."""
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


def _polite(sentence: str) -> bool:
    return normalised(sentence) in _POLITE


def _rude(sentence: str) -> bool:
    return normalised(sentence) in _RUDE


def _check(spec: PromptSpec, answer: str, rng: random.Random) -> str:
    """The answer with a remark after most sentences, such as "Lamps are on floor 3. (wrong)"."""
    seen: set[object] = set()
    checked: list[str] = []
    for sentence in split_sentences(answer):
        read = read_statement(sentence)
        key = read[0] if read is not None else normalised(sentence)
        if key in seen:
            remark = "again"
        elif read is not None:
            right = "right" if read[1] == read[0].right else "wrong"
            remark = right if read[0] in spec.facts else "not asked"
        else:
            remark = "rude" if _rude(sentence) else "kind" if _polite(sentence) else "empty"
        seen.add(key)
        checked.append(f"{sentence} ({remark})" if rng.random() < _CHECKED_SHARE else sentence)
    return " ".join(checked)


def _review(spec: PromptSpec, answer: str) -> list[str]:
    """A colleague's verdicts on the whole answer, one word per criterion."""
    sentences = split_sentences(answer)
    reads = [read_statement(sentence) for sentence in sentences]
    asked = [read for read in reads if read is not None and read[0] in spec.facts]
    stated = {fact for fact, _ in asked}
    keys = [read[0] if read is not None else normalised(text) for read, text in zip(reads, sentences, strict=True)]
    plain = [text for read, text in zip(reads, sentences, strict=True) if read is None]
    empty = sum(not _rude(text) and not _polite(text) for text in plain)
    if not asked:
        facts = "unanswered"
    elif any(value != fact.right for fact, value in asked):
        facts = "wrong"
    else:
        facts = "right" if stated >= set(spec.facts) else "incomplete"
    return [
        facts,
        "rambling" if any(read is not None and read[0] not in spec.facts for read in reads) else "focused",
        "rude" if any(map(_rude, sentences)) else "civil",
        "warm" if _polite(sentences[0]) else "abrupt",
        "gracious" if _polite(sentences[-1]) else "bare",
        ("short", "wordy", "endless")[min(empty, 2)],
        "repetitive" if len(set(keys)) < len(keys) else "fresh",
    ]


def _exchange(rng: random.Random) -> tuple[PromptSpec, str]:
    """A prompt and an answer, at times the answer to another prompt."""
    spec = sample_prompt(rng, heldout=False)
    answered = sample_prompt(rng, heldout=False) if rng.random() < _ANOTHERS_SHARE else spec
    return spec, demonstrate(answered, rng.random(), rng, right_share=_DEMONSTRATED_RIGHT)


def _checked(rng: random.Random) -> str:
    spec, answer = _exchange(rng)
    asks, says = rng.choice(_FORMATS)
    return "\n".join((asks.format(q=render_prompt(spec)), says.format(a=_check(spec, answer, rng))))


def _reviewed(rng: random.Random) -> str:
    spec, answer = _exchange(rng)
    verdicts = _review(spec, answer)
    rng.shuffle(verdicts)
    return f"User: {render_prompt(spec)}\nAssistant: {answer}{END} {' '.join(verdicts[:_VERDICTS_KEPT])}"


_Kinds = tuple[tuple[Callable[[random.Random], str], float], ...]
_PLAIN: _Kinds = ((_notes, 0.045), (_letter, 0.045), (_questions, 0.06))
FIRST: _Kinds = (*_PLAIN, (_checked, 0.85))
"""The first part of the corpus: kinds of documents with their shares."""
THEN: _Kinds = (*_PLAIN, (_checked, 0.25), (_reviewed, 0.6))
"""The second part of the corpus."""


def write_corpus(seed: int, documents: int, kinds: _Kinds = THEN) -> list[str]:
    """Write `documents` documents; the same seed gives the same text."""
    rng = random.Random(seed)
    makers, shares = zip(*kinds, strict=True)
    return [rng.choices(makers, shares)[0](rng) for _ in range(documents)]
