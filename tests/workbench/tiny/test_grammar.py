import random
from itertools import combinations, product

import pytest

from workbench.tiny.corpus import write_corpus
from workbench.tiny.facts import FACTS, PHRASINGS
from workbench.tiny.gold import score_answer, split_sentences
from workbench.tiny.grammar import (
    ENDINGS,
    JOINERS,
    MAX_SENTENCES,
    OPENINGS,
    SHARES,
    PromptSpec,
    Question,
    demonstrate,
    is_heldout,
    is_heldout_pair,
    parse_prompt,
    render_prompt,
    sample_prompts,
)


def test_a_prompt_by_hand():
    asked = (Question(FACTS[0], 0), Question(FACTS[3], 1))
    spec = PromptSpec(asked, opening=1, joiner=1, ending=1)
    text = "Hello. How long does express delivery take? And can I return shoes? Thanks."
    assert render_prompt(spec) == text
    assert parse_prompt(text) == spec


def test_parsing_inverts_rendering_for_every_form_of_one_question():
    forms = product(FACTS, range(PHRASINGS), range(len(OPENINGS)), range(len(ENDINGS)))
    for fact, phrasing, opening, ending in forms:
        spec = PromptSpec((Question(fact, phrasing),), opening, 0, ending)
        assert parse_prompt(render_prompt(spec)) == spec


def test_parsing_inverts_rendering_for_two_and_three_questions():
    rng = random.Random(1)
    for first, second in combinations(FACTS, 2):
        for joiner, count in product(range(len(JOINERS)), (2, 3)):
            third = rng.choice([fact for fact in FACTS if fact not in (first, second)])
            facts = (first, second, third)[:count]
            asked = tuple(Question(fact, rng.randrange(PHRASINGS)) for fact in facts)
            spec = PromptSpec(asked, rng.randrange(len(OPENINGS)), joiner, rng.randrange(len(ENDINGS)))
            assert parse_prompt(render_prompt(spec)) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello. ",
        "How long does express delivery take",
        "How long does express delivery take? ",
        "how long does express delivery take?",
        "How long does express delivery take? How fast is express delivery?",
        "How long does express delivery take? And who are you?",
        "Tell me about llamas.",
        "Can I return shoes? And can I return lamps? Can I return phones?",
    ],
)
def test_other_texts_are_not_parsed(text):
    assert parse_prompt(text) is None


def test_there_are_hundreds_of_forms():
    assert PHRASINGS * len(OPENINGS) * len(ENDINGS) * (1 + len(JOINERS) + len(JOINERS)) >= 500


def test_heldout_prompts_are_not_part_of_any_training_text():
    train = sample_prompts(random.Random(2), 3000, heldout=False)
    held = sample_prompts(random.Random(3), 400, heldout=True)
    assert not any(is_heldout(spec) for spec in train)
    texts = "\n".join([*(render_prompt(spec) for spec in train), *write_corpus(4, 6000)])
    assert not [spec for spec in held if render_prompt(spec) in texts]


def test_facts_of_a_heldout_pair_are_never_asked_together_in_training():
    train = sample_prompts(random.Random(5), 3000, heldout=False)
    for spec in train:
        assert not any(is_heldout_pair(one, other) for one, other in combinations(spec.facts, 2))
    share = sum(is_heldout_pair(one, other) for one, other in combinations(FACTS, 2)) / 276
    assert 0.06 < share < 0.2


def test_sampled_prompts_differ_and_are_reproducible():
    specs = sample_prompts(random.Random(6), 500, heldout=False)
    assert specs == sample_prompts(random.Random(6), 500, heldout=False)
    assert len({render_prompt(spec) for spec in specs}) == 500
    counts = [sum(len(spec.questions) == n for spec in specs) / 500 for n in (1, 2, 3)]
    assert counts == pytest.approx(SHARES, abs=0.07)


def mean_gold(quality: float) -> float:
    rng = random.Random(7)
    specs = sample_prompts(rng, 400, heldout=False)
    return sum(score_answer(spec, demonstrate(spec, quality, rng)).total for spec in specs) / 400


def test_demonstrations_get_better_with_quality():
    low, middle, high = mean_gold(0.0), mean_gold(0.5), mean_gold(1.0)
    assert low < 0.25
    assert low + 0.2 < middle < high - 0.2
    assert 0.75 < high < 0.98


def test_demonstrations_are_short_and_say_something():
    rng = random.Random(8)
    for spec in sample_prompts(rng, 500, heldout=True):
        answer = demonstrate(spec, rng.random(), rng)
        assert 1 <= len(split_sentences(answer)) <= MAX_SENTENCES
