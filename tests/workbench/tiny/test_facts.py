from itertools import product

import pytest

from workbench.tiny.facts import FACTS, FAMILIES, PHRASINGS, question, read_statement, statement
from workbench.tiny.phrases import CLOSINGS, FILLER, GREETINGS, RUDE


def test_every_statement_reads_back_as_its_fact_and_value():
    for fact, form in product(FACTS, range(2)):
        for value in (fact.right, *fact.wrong):
            assert read_statement(statement(fact, value, form)) == (fact, value)


def test_families_are_complete_and_every_right_value_is_a_value():
    assert len(FACTS) == 24
    for family in FAMILIES:
        assert len(family.questions) == PHRASINGS
        assert set(family.right.values()) <= set(family.values)
        assert len(set(family.values)) == 4


def test_questions_are_all_different():
    texts = [question(fact, phrasing) for fact in FACTS for phrasing in range(PHRASINGS)]
    assert len(set(texts)) == len(FACTS) * PHRASINGS


@pytest.mark.parametrize("sentence", ["Lamps 14 days.", "", "Express delivery takes 3 days.", *RUDE, *FILLER])
def test_other_sentences_are_not_statements(sentence):
    assert read_statement(sentence) is None


def test_a_question_states_nothing():
    assert read_statement("Express delivery takes 2 days?") is None
    assert read_statement("express  delivery takes 2 days") is not None


def test_phrases_belong_to_one_kind_only():
    kinds = [set(GREETINGS), set(CLOSINGS), set(RUDE), set(FILLER)]
    assert len(set().union(*kinds)) == sum(map(len, kinds))
