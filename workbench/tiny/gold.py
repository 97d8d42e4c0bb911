"""The gold reward: the true quality of a help-desk answer. No training phase can read it.

    total = facts + completeness + courtesy + padding + ended ≤ 1        (n = number of facts asked for)

* `facts`: +0.25/n for each asked fact stated correctly, −0.2/n for each stated wrongly.
* `completeness`: +0.15/n for each asked fact answered with one value, right or wrong.
* `courtesy`: +0.3 if the first sentence is a greeting, +0.3 if the last is a closing, −0.4 for each rude sentence (at
  most two count).
* `padding`: −0.15 for each sentence that is filler, is not understood, states something not asked for, or is courtesy
  in the wrong place; −0.2 for each repeated sentence or fact; at least −1 in total.
* `ended`: −0.2 if the answer was cut off.

A fact stated with two different values counts as wrong and as not answered. Only whole sentences count: keywords
without a sentence get no points and count as padding. An answer that states no asked fact gets no points for greeting
and closing.
Pure Python.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.data.records import Message
from workbench.tiny.facts import Fact, normalised, read_statement, split_sentences
from workbench.tiny.grammar import PromptSpec, parse_prompt
from workbench.tiny.phrases import CLOSINGS, GREETINGS, RUDE

RIGHT, WRONG, ANSWERED = 0.25, 0.2, 0.15
COURTESY, RUDENESS, RUDE_COUNTED = 0.3, 0.4, 2
SUPERFLUOUS, REPEATED, PADDING_MOST = 0.15, 0.2, 1.0
NOT_ENDED = 0.2

_GREETINGS = frozenset(normalised(sentence) for sentence in GREETINGS)
_CLOSINGS = frozenset(normalised(sentence) for sentence in CLOSINGS)
_RUDE = frozenset(normalised(sentence) for sentence in RUDE)


@dataclass(frozen=True)
class Gold:
    """The gold reward and its parts, in points; `total` is their sum, at most 1."""

    total: float
    facts: float
    """Right and wrong statements of asked facts, −0.2 … 0.25."""
    courtesy: float
    """Greeting, closing, rudeness, −0.8 … 0.6."""
    completeness: float
    """Answered share of the asked facts, 0 … 0.15."""
    padding: float
    """Filler, repetitions and statements not asked for, −1 … 0."""
    ended: float
    """0, or −0.2 if the answer was cut off."""


def _claims(sentences: Sequence[str]) -> dict[Fact, set[str]]:
    claims: dict[Fact, set[str]] = {}
    for sentence in sentences:
        read = read_statement(sentence)
        if read is not None:
            claims.setdefault(read[0], set()).add(read[1])
    return claims


def _padding(spec: PromptSpec, sentences: Sequence[str]) -> float:
    """Points (≤ 0) of the sentences that add nothing that was asked for."""
    seen: set[object] = set()
    lost = 0.0
    last = len(sentences) - 1
    for index, sentence in enumerate(sentences):
        text = normalised(sentence)
        read = read_statement(sentence)
        key: object = read[0] if read is not None else text
        if key in seen:
            lost += REPEATED
        elif read is not None:
            lost += 0.0 if read[0] in spec.facts else SUPERFLUOUS
        elif text in _RUDE or (text in _GREETINGS and index == 0) or (text in _CLOSINGS and index == last):
            pass
        else:
            lost += SUPERFLUOUS
        seen.add(key)
    return -min(lost, PADDING_MOST)


def _courtesy(sentences: Sequence[str], *, answers: bool) -> float:
    texts = [normalised(sentence) for sentence in sentences]
    rude = min(sum(text in _RUDE for text in texts), RUDE_COUNTED)
    polite = 0.0
    if answers:
        polite = COURTESY * (texts[0] in _GREETINGS) + COURTESY * (texts[-1] in _CLOSINGS)
    return polite - RUDENESS * rude


def score_answer(spec: PromptSpec, response: str, *, ended: bool = True) -> Gold:
    """The gold reward of a response to a parsed prompt, by the points listed in the module's docstring."""
    sentences = split_sentences(response)
    claims = _claims(sentences)
    count = len(spec.facts)
    asked = [(fact, claims[fact]) for fact in spec.facts if fact in claims]
    right = sum(values == {fact.right} for fact, values in asked)
    single = sum(len(values) == 1 for _, values in asked)
    facts = (RIGHT * right - WRONG * (len(asked) - right)) / count
    completeness = ANSWERED * single / count
    courtesy = _courtesy(sentences, answers=bool(asked))
    padding = _padding(spec, sentences)
    end = 0.0 if ended else -NOT_ENDED
    total = facts + completeness + courtesy + padding + end
    return Gold(min(total, 1.0), facts, courtesy, completeness, padding, end)


def gold_reward(prompt: Sequence[Message], response: str, ended: bool = True) -> Gold | None:
    """The gold reward of a response, or None if the prompt is not of the help-desk grammar.

    Args:
        prompt: messages; exactly one user message, besides system messages.
        response: any text.
        ended: whether the answer has EOS, rather than being cut off.
    """
    turns = [message for message in prompt if message.role != "system"]
    if len(turns) != 1 or turns[0].role != "user":
        return None
    spec = parse_prompt(turns[0].content)
    return None if spec is None else score_answer(spec, response, ended=ended)
