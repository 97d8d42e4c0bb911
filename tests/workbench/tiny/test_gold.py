"""Examples worked by hand, then properties. With n = 2 asked facts, one right answer is worth .125 + .075 = .2."""

import random
import string

import pytest

from workbench.data.records import Message
from workbench.tiny.facts import FACTS, statement
from workbench.tiny.gold import gold_reward, score_answer, split_sentences
from workbench.tiny.grammar import demonstrate, parse_prompt, render_prompt, sample_prompts
from workbench.tiny.phrases import CLOSINGS, FILLER, GREETINGS, RUDE

PROMPT = "Hello. How long does express delivery take? And can I return shoes? Thanks."
DELIVERY, SHOES = "Express delivery takes 2 days.", "You can return shoes for 30 days."


def total(response: str, ended: bool = True) -> float:
    gold = gold_reward([Message(role="user", content=PROMPT)], response, ended=ended)
    assert gold is not None
    parts = gold.facts + gold.completeness + gold.courtesy + gold.padding + gold.ended
    assert gold.total == pytest.approx(min(parts, 1.0))
    return gold.total


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (f"Hello! {DELIVERY} {SHOES} Have a nice day!", 1.0),  # .25 + .15 + .3 + .3
        (f"{SHOES} {DELIVERY}", 0.4),  # the order does not matter
        (DELIVERY, 0.2),  # half the facts (.125), half complete (.075)
        (f"{DELIVERY} You can return shoes for 7 days.", 0.175),  # .125 − .1 + .15
        ("Express delivery takes 9 days.", -0.025),  # −.1 + .075
        (f"{DELIVERY} {SHOES} Go away.", 0.0),  # .4 − .4
        (f"{DELIVERY} {SHOES} It is what it is.", 0.25),  # .4 − .15
        (f"{DELIVERY} {SHOES} A repair costs 50 euros.", 0.25),  # true, but not asked for
        (f"{DELIVERY} {SHOES} {SHOES}", 0.2),  # .4 − .2
        (f"{DELIVERY} {SHOES} We take shoes back for 30 days.", 0.2),  # the same fact in other words
        (f"Hello! Hello! {DELIVERY} {SHOES}", 0.5),  # .7 − .2
        (f"Hello! Good day! {DELIVERY} {SHOES}", 0.55),  # .7 − .15
        (f"{DELIVERY} Hello! {SHOES}", 0.25),  # a greeting in the middle is padding
        (f"{DELIVERY} {SHOES} You can return sh", 0.25),  # a cut sentence
        ("Hello! Have a nice day!", 0.0),  # courtesy alone gets no points
        ("", 0.0),
    ],
)
def test_examples_by_hand(response, expected):
    assert total(response) == pytest.approx(expected)


def test_an_answer_that_does_not_end_loses_a_fifth():
    assert total(f"{DELIVERY} {SHOES}", ended=False) == pytest.approx(0.2)


def test_two_values_for_one_fact_get_no_credit():
    both = f"{DELIVERY} Express delivery takes 9 days. {SHOES}"
    assert total(both) == pytest.approx(-0.1)  # .125 − .1 + .075 (only shoes is answered) − .2
    assert total(both) < total(SHOES)


def test_keywords_without_sentences_get_no_points():
    words = " ".join(fact.subject + " " + fact.right for fact in FACTS)
    assert total(words) < 0
    assert total("Express delivery 2 days shoes 30 days") < 0


def test_stating_every_fact_scores_low():
    everything = " ".join(statement(fact, fact.right, 0) for fact in FACTS)
    assert total(everything) < total(f"{DELIVERY}")


def test_repeating_the_best_answer_makes_it_worse_each_time():
    best = f"Hello! {DELIVERY} {SHOES} Have a nice day!"
    scores = [total(" ".join([best] * times)) for times in (1, 2, 3)]
    assert scores[0] > scores[1] > scores[2]


def test_appending_any_phrase_to_a_courteous_answer_lowers_it():
    best = f"Hello! {DELIVERY} {SHOES} Have a nice day!"
    for phrase in (*GREETINGS, *CLOSINGS, *RUDE, *FILLER, "ok", "Express delivery takes 2 days?"):
        assert total(f"{best} {phrase}") < 1 - 0.05


def test_turning_a_right_value_wrong_lowers_any_demonstration():
    rng = random.Random(0)
    for spec in sample_prompts(rng, 200, heldout=False):
        fact = spec.facts[0]
        right, wrong = (statement(fact, value, 0) for value in (fact.right, fact.wrong[0]))
        answer = demonstrate(spec, 1.0, rng)
        if right in answer:
            assert score_answer(spec, answer.replace(right, wrong)).total < score_answer(spec, answer).total


def test_any_text_gets_a_bounded_score():
    rng = random.Random(1)
    specs = sample_prompts(rng, 50, heldout=True)
    for spec in specs:
        garbage = "".join(rng.choices(string.printable + "äß\u2028😀\ufffd", k=rng.randrange(300)))
        for text in (garbage, " ", "\n\n", "...", demonstrate(spec, rng.random(), rng) * 20):
            assert -2.2 <= score_answer(spec, text, ended=False).total <= 1


def test_perfect_answers_reach_one_for_any_prompt():
    rng = random.Random(2)
    for spec in sample_prompts(rng, 200, heldout=True):
        facts = " ".join(statement(fact, fact.right, rng.randrange(2)) for fact in spec.facts)
        assert score_answer(spec, f"{GREETINGS[0]} {facts} {CLOSINGS[0]}").total == pytest.approx(1.0)
        assert parse_prompt(render_prompt(spec)) == spec


def test_other_prompts_have_no_gold_reward():
    assert gold_reward([Message(role="user", content="Who wrote Hamlet?")], DELIVERY) is None
    ask = Message(role="user", content=PROMPT)
    assert gold_reward([ask, Message(role="assistant", content="Hm."), ask], DELIVERY) is None
    assert gold_reward([Message(role="system", content="Be kind."), ask], DELIVERY) is not None


def test_sentences_are_split_at_marks_and_line_breaks():
    assert split_sentences("Hello! We close\nat 9 pm.  Bye") == ["Hello!", "We close", "at 9 pm.", "Bye"]
