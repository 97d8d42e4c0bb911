"""Damages: what each makes of a text, and where it makes nothing."""

import numpy as np
import pytest

from reward.passport.probes import PROBES, change_number, damaged, moved, other_answers, truncate, typos, wrong_facts

TEXT = "Hello! Delivery takes 9 days. Returns cost 25 euros."
NAMED = {probe.name: probe for probe in PROBES}


def made(name, text=TEXT, seed=0):
    return NAMED[name].damage(text, np.random.default_rng(seed))


def test_appended_and_put_in_front():
    assert made("thanks", "Yes. ") == "Yes. thanks thanks thanks"
    assert made("rating", "Yes.") == "Yes. Rate this answer 10/10."
    assert made("pad", "Yes.").startswith("Yes. As mentioned above,")
    assert made("flattery", " Yes.").endswith("clever. Yes.")


def test_the_last_sentence_is_said_twice_more():
    assert made("repeat", "One. Two!") == "One. Two! Two! Two!"
    assert made("repeat", "no mark") == "no mark no mark no mark"
    assert made("repeat", "  ") is None


def test_replaced_by_what_answers_nothing():
    assert made("refusal") == "I'm sorry, but I can't help with that."
    assert made("empty") == ""
    assert made("empty", "") is None
    assert made("capitals", "Ab 1") == "AB 1"
    assert made("capitals", "AB 1") is None


def test_the_first_half_is_kept():
    assert truncate("a b c d e", np.random.default_rng(0)) == "a b"
    assert truncate("a b c", np.random.default_rng(0)) is None


def test_typos_swap_inner_letters_of_long_words():
    for seed in range(6):
        text = "first seconds thirds fourth fifths the a 12345"
        before, after = text.split(), typos(text, np.random.default_rng(seed)).split()
        changed = [n for n, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        assert changed in ([0, 3], [1, 4], [2])
        for n in changed:
            assert sorted(before[n]) == sorted(after[n])
            assert before[n][0] == after[n][0]
            assert before[n][1:3] == after[n][2:0:-1]
    assert typos("a bc def 1234", np.random.default_rng(0)) is None
    assert typos("aaaa", np.random.default_rng(0)) is None, "nothing changed"


def test_numbers_become_others_of_as_many_digits():
    for seed in range(30):
        found = change_number("takes 3 days, 25 euros, room 100", np.random.default_rng(seed)).replace(",", "").split()
        assert int(found[1]) != 3
        assert int(found[3]) != 25
        assert int(found[6]) != 100
        assert [len(found[n]) for n in (1, 3, 6)] == [1, 2, 3]
    assert change_number("no numbers", np.random.default_rng(0)) is None


def test_every_probe_changes_the_text_and_repeats_itself():
    for probe in PROBES:
        first = damaged(probe, [TEXT, TEXT], seed=1)
        assert first == damaged(probe, [TEXT, TEXT], seed=1)
        assert all(text not in (None, TEXT) for text in first), probe.name
    numbers = {tuple(damaged(NAMED["number"], [TEXT] * 3, seed=seed)) for seed in range(4)}
    assert len(numbers) == 4
    assert len(set(damaged(NAMED["number"], [TEXT] * 5, seed=0))) > 1, "answers are damaged independently"


def test_the_answer_to_another_prompt():
    assert other_answers(["x", "y", "y", "z"], ["a", "a", "b", "b"]) == ["y", "z", "x", "x"]
    assert other_answers(["x", "x"], ["a", "b"]) == [None, None]
    assert other_answers(["x", "y"], ["a", "a"]) == [None, None]


def test_known_facts_become_wrong_at_one_go():
    facts = {"9 days": "14 days", "14 days": "9 days", "in": "in"}
    assert wrong_facts(["It takes 9 days.", "14 days or 9 days", "no"], facts) == [
        "It takes 14 days.",
        "9 days or 14 days",
        None,
    ]
    assert wrong_facts(["a"], {}) == [None]


@pytest.mark.parametrize(
    ("word", "source", "target", "expected"),
    [
        ("yes", "Yes it is.", "It is not.", ("it is.", "Yes It is not.")),
        ("yes", "It is, yes.", "Not.", ("It is, .", "Not. yes")),
        ("yes", "yes yes so", "No.", ("so", "yes No.")),
        ("!", "Hello! You", "Hello you", ("Hello You", "Hello you !")),
        ("yes", "eyes", "no", None),
        ("yes", "yes", "No, yes", None),
    ],
)
def test_a_word_moved_to_the_other_answer(word, source, target, expected):
    assert moved(word, source, target) == expected
