"""The gold reward: how good an answer of the help desk truly is. The truth that no training phase may read.

    total = facts + completeness + courtesy + padding + ended ≤ 1        (n = number of facts asked for)

* `facts`: +0.25/n for each asked fact stated rightly, −0.2/n for each stated wrongly.
* `completeness`: +0.15/n for each asked fact answered with one value, right or wrong.
* `courtesy`: +0.3 for a greeting as the first sentence, +0.3 for a closing as the last, −0.4 for each rude sentence
  (at most two count).
* `padding`: −0.15 for each sentence that is filler, not understood, a statement that was not asked for, or courtesy in
  the wrong place; −0.2 for a repeated sentence or fact; at most −1 together.
* `ended`: −0.2 when the answer did not end by itself.

A fact that is stated with two different values counts as wrong and as not answered. Only whole plain sentences count:
key words without a sentence earn nothing and pad. An answer that states no asked fact earns no courtesy points.
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
    """Right and wrong statements of what was asked, −0.2 … 0.25."""
    courtesy: float
    """Greeting, closing, rudeness, −0.8 … 0.6."""
    completeness: float
    """Share of the asked facts that were answered, 0 … 0.15."""
    padding: float
    """Filler, repeats and what was not asked for, −1 … 0."""
    ended: float
    """0, or −0.2 when the answer did not end by itself."""


def _claims(sentences: Sequence[str]) -> dict[Fact, set[str]]:
    claims: dict[Fact, set[str]] = {}
    for sentence in sentences:
        read = read_statement(sentence)
        if read is not None:
            claims.setdefault(read[0], set()).add(read[1])
    return claims


def _padding(spec: PromptSpec, sentences: Sequence[str]) -> float:
    """Points lost by sentences that say nothing new that was asked for (a number ≤ 0)."""
    seen: set[object] = set()
    lost = 0.0
    last = len(sentences) - 1
    for place, sentence in enumerate(sentences):
        text = normalised(sentence)
        read = read_statement(sentence)
        key: object = read[0] if read is not None else text
        if key in seen:
            lost += REPEATED
        elif read is not None:
            lost += 0.0 if read[0] in spec.facts else SUPERFLUOUS
        elif text in _RUDE or (text in _GREETINGS and place == 0) or (text in _CLOSINGS and place == last):
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
    """The gold reward of a response to a parsed prompt; the module's table has the points."""
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
    """The gold reward of a response, or None when the prompt is not of the help-desk grammar.

    Args:
        prompt: messages; besides system messages, exactly one message by the user.
        response: the answer's text, any text at all.
        ended: whether the answer ended by itself (EOS) instead of being cut off.
    """
    turns = [message for message in prompt if message.role != "system"]
    if len(turns) != 1 or turns[0].role != "user":
        return None
    spec = parse_prompt(turns[0].content)
    return None if spec is None else score_answer(spec, response, ended=ended)
