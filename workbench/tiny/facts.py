"""The help desk's 24 facts, the ways to ask for each, and the ways to state it.

A *fact* is a family (delivery, returns, …), a subject within it and the right value. The values of a family look alike,
so a wrong answer reads as well as the right one and cannot be recognised by its form.
Pure data and lookups: knows no prompt, no answer and no model.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Family:
    """A kind of question."""

    name: str
    values: tuple[str, ...]
    """The values that an answer may state; one is right for each subject."""
    right: Mapping[str, str]
    """Subject to its right value."""
    questions: tuple[str, ...]
    """Ways to ask, with `{s}` for the subject."""
    statements: tuple[str, ...]
    """Ways to answer, with `{s}` for the subject and, after it, `{v}` for the value."""


FAMILIES: tuple[Family, ...] = (
    Family(
        "delivery",
        ("2 days", "4 days", "6 days", "9 days"),
        {"express delivery": "2 days", "normal delivery": "4 days", "delivery abroad": "9 days"},
        ("How long does {s} take?", "How fast is {s}?", "How many days is {s}?", "How long do I wait for {s}?"),
        ("{s} takes {v}.", "with us, {s} takes {v}."),
    ),
    Family(
        "returns",
        ("7 days", "14 days", "30 days", "60 days"),
        {"shoes": "30 days", "lamps": "14 days", "phones": "7 days"},
        ("How long can I return {s}?", "Can I return {s}?", "Do you take {s} back?", "When must I return {s}?"),
        ("you can return {s} for {v}.", "we take {s} back for {v}."),
    ),
    Family(
        "hours",
        ("2 pm", "5 pm", "7 pm", "9 pm"),
        {"on weekdays": "9 pm", "on Saturday": "5 pm", "on Sunday": "2 pm"},
        ("When do you close {s}?", "How late are you open {s}?", "Are you open {s}?", "What are your hours {s}?"),
        ("{s} we close at {v}.", "{s} we are open until {v}."),
    ),
    Family(
        "prices",
        ("3 euros", "8 euros", "20 euros", "50 euros"),
        {"gift wrapping": "3 euros", "a repair": "50 euros", "a club card": "20 euros"},
        ("How much is {s}?", "What does {s} cost?", "What do I pay for {s}?", "Is {s} free?"),
        ("{s} costs {v}.", "the price of {s} is {v}."),
    ),
    Family(
        "numbers",
        ("201", "305", "412", "530"),
        {"orders": "412", "invoices": "201", "jobs": "305"},
        ("Who do I call about {s}?", "What is the number for {s}?", "Who can help with {s}?", "Who handles {s}?"),
        ("for {s}, call {v}.", "the number for {s} is {v}."),
    ),
    Family(
        "guarantees",
        ("1 year", "2 years", "5 years", "10 years"),
        {"bikes": "5 years", "radios": "2 years", "chairs": "10 years"},
        (
            "How long is the guarantee on {s}?",
            "Do {s} have a guarantee?",
            "What is the guarantee on {s}?",
            "Is there a guarantee on {s}?",
        ),
        ("the guarantee on {s} is {v}.", "{s} have a guarantee of {v}."),
    ),
    Family(
        "places",
        ("the ground floor", "floor 1", "floor 2", "floor 3"),
        {"books": "floor 3", "toys": "floor 1", "coats": "the ground floor"},
        ("Where are the {s}?", "Where do I find {s}?", "Where do you sell {s}?", "Which floor has {s}?"),
        ("{s} are on {v}.", "you find {s} on {v}."),
    ),
    Family(
        "steps",
        ("visit our desk", "send us a photo", "write an email", "fill in the form"),
        {"a lost card": "visit our desk", "a broken parcel": "send us a photo", "a wrong bill": "write an email"},
        ("What do I do about {s}?", "I have {s}, what now?", "What if I have {s}?", "Can you help with {s}?"),
        ("for {s}, {v}.", "if you have {s}, {v}."),
    ),
)


@dataclass(frozen=True, order=True)
class Fact:
    """Something that can be asked for; `index` is its index in `FACTS`."""

    index: int
    family: str
    subject: str
    right: str
    """The value that a right answer states."""
    wrong: tuple[str, ...]
    """The other values of its family."""


def _facts() -> tuple[Fact, ...]:
    pairs = [(family, subject) for family in FAMILIES for subject in family.right]
    return tuple(
        Fact(
            index,
            family.name,
            subject,
            family.right[subject],
            tuple(value for value in family.values if value != family.right[subject]),
        )
        for index, (family, subject) in enumerate(pairs)
    )


FACTS: tuple[Fact, ...] = _facts()
_FAMILY = {family.name: family for family in FAMILIES}
PHRASINGS = len(FAMILIES[0].questions)
"""Number of ways to ask for a fact, the same for all facts."""


def capitalised(sentence: str) -> str:
    """The sentence with a capital first letter, otherwise unchanged."""
    return sentence[:1].upper() + sentence[1:]


def lowered(sentence: str) -> str:
    """The sentence as it reads after "And": with a small first letter, unless it starts with "I"."""
    return sentence if sentence.startswith("I ") else sentence[:1].lower() + sentence[1:]


def question(fact: Fact, phrasing: int) -> str:
    """The question for the fact in the given phrasing (0 … PHRASINGS − 1)."""
    return _FAMILY[fact.family].questions[phrasing].format(s=fact.subject)


def statement(fact: Fact, value: str, form: int) -> str:
    """A sentence that states `value` for the fact; `form`, modulo the number of forms, selects the wording."""
    forms = _FAMILY[fact.family].statements
    return capitalised(forms[form % len(forms)].format(s=fact.subject, v=value))


def normalised(sentence: str) -> str:
    """The sentence in lower case, with single spaces, without a final full stop or exclamation mark."""
    return re.sub(r"\s+", " ", sentence).strip().rstrip(".!").rstrip().lower()


@cache
def _claims() -> dict[str, tuple[Fact, str]]:
    return {
        normalised(statement(fact, value, form)): (fact, value)
        for fact in FACTS
        for value in (fact.right, *fact.wrong)
        for form in range(len(_FAMILY[fact.family].statements))
    }


def read_statement(sentence: str) -> tuple[Fact, str] | None:
    """The fact and the value that a sentence states; None if it is not exactly a statement of a fact."""
    return None if sentence.rstrip().endswith("?") else _claims().get(normalised(sentence))


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, each with its final mark; a line break also ends a sentence."""
    parts = re.split(r"(?<=[.!?])\s+|\n+", text)
    return [part.strip() for part in parts if part.strip()]
