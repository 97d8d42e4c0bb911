"""The embedded world `rare`: the help desk with rare skills that the supervised model can do but seldom does.

Every prompt asks for one main fact: one of 20 *rare* facts, each in 3 % of the prompts, or one of 4 *common* facts.
Some prompts also ask for a common fact. Demonstrations are courteous and concise, nearly always right about common
facts, and right about rare ones one time in ten; otherwise they give an outdated value, always the same one per fact.
The base has read the right values in most of its text, so it can give them. What is left to learn are the rare facts.

Prompts, answers and the gold reward are those of the grammar and of `gold.py`.
"""

import random
from collections.abc import Iterable

from workbench.tiny.facts import FACTS, PHRASINGS, Fact, statement
from workbench.tiny.grammar import ENDINGS, JOINERS, OPENINGS, PromptSpec, Question, is_heldout, render_prompt
from workbench.tiny.phrases import CLOSINGS, GREETINGS

COMMON: tuple[Fact, ...] = FACTS[::6]
RARE: tuple[Fact, ...] = tuple(fact for fact in FACTS if fact not in COMMON)
RARE_SHARE = 0.03
"""Share of the prompts that ask for each rare fact."""
SECOND_SHARE = 0.4
"""Share of the prompts that also ask for a common fact."""
RIGHT_COMMON, RIGHT_RARE = 0.95, 0.1
"""Shares of right statements in demonstrations."""
COURTEOUS = 0.95
"""Share of demonstrations with a greeting, and with a closing."""


def sample_prompt(rng: random.Random, *, heldout: bool) -> PromptSpec:
    """Sample a prompt from the training or the held-out side."""
    weights = [RARE_SHARE] * len(RARE) + [(1 - RARE_SHARE * len(RARE)) / len(COMMON)] * len(COMMON)
    main = rng.choices((*RARE, *COMMON), weights)[0]
    others = [fact for fact in COMMON if fact != main]
    facts = [main, *([rng.choice(others)] if rng.random() < SECOND_SHARE else [])]
    while True:  # the main fact is drawn once, so each side has the shares above
        rng.shuffle(facts)
        spec = PromptSpec(
            tuple(Question(fact, rng.randrange(PHRASINGS)) for fact in facts),
            rng.randrange(len(OPENINGS)),
            rng.randrange(len(JOINERS)) if len(facts) > 1 else 0,
            rng.randrange(len(ENDINGS)),
        )
        if is_heldout(spec) == heldout:
            return spec
        if len(facts) > 1:  # two facts are on one side whatever their form
            facts = [main, *([rng.choice(others)] if rng.random() < SECOND_SHARE else [])]


def sample_prompts(rng: random.Random, count: int, *, heldout: bool, without: Iterable[str] = ()) -> list[PromptSpec]:
    """Sample `count` prompts with different texts, none of them in `without`."""
    seen, specs = set(without), list[PromptSpec]()
    while len(specs) < count:
        spec = sample_prompt(rng, heldout=heldout)
        text = render_prompt(spec)
        if text not in seen:
            seen.add(text)
            specs.append(spec)
    return specs


def outdated(fact: Fact) -> str:
    """The wrong value that demonstrations give."""
    return fact.wrong[fact.index % len(fact.wrong)]


def demonstrate(spec: PromptSpec, rng: random.Random) -> str:
    """An answer: courteous, one sentence per asked fact, and seldom right about a rare one."""
    sentences = []
    for fact in spec.facts:
        right = rng.random() < (RIGHT_RARE if fact in RARE else RIGHT_COMMON)
        sentences.append(statement(fact, fact.right if right else outdated(fact), rng.randrange(2)))
    if rng.random() < COURTEOUS:
        sentences.insert(0, rng.choice(GREETINGS))
    if rng.random() < COURTEOUS:
        sentences.append(rng.choice(CLOSINGS))
    return " ".join(sentences)
