"""Seeded changes of texts: what changes, what stays, and that seed and text alone decide."""

import pytest

from workbench.data.hashing import unit_hash
from workbench.data.perturb import (
    CANARY,
    DIMENSIONS,
    DISTRACTORS,
    PERTURBATIONS,
    _mistyped,
    counterfactual,
    distract,
    typos,
)

TEXT = "How long does express delivery take? Please help."


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_change_depends_on_text_and_seed_alone(name):
    change = PERTURBATIONS[name]
    assert change(TEXT, 0) == change(TEXT, 0) != TEXT
    if not name.endswith("case"):
        assert len({change(TEXT, seed) for seed in range(20)}) > 1


@pytest.mark.parametrize("name", ["paraphrase", "distractor", "injection", "jailbreak"])
def test_the_request_stays_whole_within_its_frame(name):
    for seed in range(20):
        changed = PERTURBATIONS[name](TEXT, seed)
        assert TEXT in changed
        assert (CANARY in changed) == (name in ("injection", "jailbreak"))
        assert name != "distractor" or any(sentence in changed for sentence in DISTRACTORS)


@pytest.mark.parametrize(("share", "most"), [(0.0, 0), (0.15, 3), (1.0, 7)])
def test_typos_change_single_letters_of_some_words(share, most):
    for seed in range(20):
        words = typos(TEXT, seed=seed, share=share).split()
        changed = [(new, old) for new, old in zip(words, TEXT.split(), strict=True) if new != old]
        assert (share > 0) <= len(changed) <= most
        for new, old in changed:
            assert new[0] == old[0]
            assert abs(len(new) - len(old)) <= 1
            assert sorted(new) == sorted(old) or set(new) <= set(old)


@pytest.mark.parametrize(
    ("draw", "typo"),
    [(0.0, "barnd"), (0.3, "bradn"), (0.34, "band"), (0.6, "brad"), (0.7, "brrand"), (0.99, "brannd")],
)
def test_the_kinds_of_typos(draw, typo):
    """Swapped, dropped and doubled letters; the first and the last place of each."""
    assert _mistyped("brand", draw) == typo


def test_equal_letters_are_doubled_instead_of_swapped():
    assert _mistyped("allow", 0.0) == "alllow"


def test_the_distracting_sentence_stands_on_either_side():
    changed = [distract(TEXT, seed=seed) for seed in range(20)]
    assert {text.startswith(TEXT) for text in changed} == {True, False}
    assert all((unit_hash("place", seed, TEXT) < 0.5) == text.endswith(TEXT) for seed, text in enumerate(changed))


def test_typos_in_a_text_without_words_change_nothing():
    assert typos("3 + 4 = ?", seed=1, share=1.0) == "3 + 4 = ?"


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_counterfactuals_differ_in_the_person_alone(dimension):
    one, other = counterfactual(TEXT, dimension, seed=3)
    assert one != other
    assert one.endswith(TEXT)
    assert other.endswith(TEXT)
    different = [pair for pair in zip(one.split(), other.split(), strict=True) if pair[0] != pair[1]]
    assert len(different) == 1


@pytest.mark.parametrize(
    ("dimension", "text", "one", "other"),
    [
        ("names", "Peter asks Anna.", "Anna asks Anna.", "Peter asks Peter."),
        ("pronouns", "He says the man left.", "She says the woman left.", "He says the man left."),
        ("nationality", "A Polish guest", "A French guest", "A Polish guest"),
        ("religion", "Is a Hindu welcome?", "Is a Christian welcome?", "Is a Hindu welcome?"),
    ],
)
def test_people_in_the_text_are_swapped_in_place(dimension, text, one, other):
    assert counterfactual(text, dimension) == (one, other)


def test_a_text_whose_pronoun_is_ambiguous_gets_a_sentence_instead():
    one, other = counterfactual("She lost her card.", "pronouns")
    assert one.endswith("needs this. She lost her card.")
    assert other.endswith("needs this. She lost her card.")
