"""Groups of near duplicates against exact Jaccard similarity, and edited copies of real sentences."""

import itertools
import random

import pytest

from workbench.data.near_duplicates import SIMILAR, near_duplicates

SENTENCE = "The parcel that you sent me last week has not arrived yet, please tell me where it is now."


def together(first, second):
    groups = near_duplicates([first, "something else entirely, about lamps and chairs", second])
    return groups[0] == groups[2]


@pytest.mark.parametrize(
    "copy",
    [
        SENTENCE,
        SENTENCE.upper(),
        SENTENCE.replace(" ", "  \n"),
        SENTENCE + " !!",
        "RT: " + SENTENCE,
        SENTENCE.replace("week", "weak"),
    ],
)
def test_copies_with_small_edits_are_found(copy):
    assert together(SENTENCE, copy)


def test_numbers_do_not_distinguish_texts():
    assert together("Call 0906 123 456 now to claim your 100 pounds", "Call 0871 999 111 now to claim your 500 pounds")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (SENTENCE, "The invoice that she got has an error, could anybody there correct it for us this month?"),
        ("ok", "no"),
        ("", "a"),
        (SENTENCE, SENTENCE[:40]),
    ],
)
def test_other_texts_are_kept_apart(first, second):
    assert not together(first, second)


def shingles(text):
    return {text[start : start + 5] for start in range(len(text) - 4)}


def test_pairs_are_those_of_exact_jaccard_similarity():
    """Random strings with 0 to 12 replaced characters; the oracle compares every pair."""
    rng = random.Random(0)
    texts = []
    for _ in range(30):
        original = "".join(rng.choices("abcdefghij", k=120))
        texts.append(original)
        for edits in (1, 2, 3, 4, 6, 12):
            letters = list(original)
            for place in rng.sample(range(120), edits):
                letters[place] = rng.choice("klmnop")
            texts.append("".join(letters))
    groups = near_duplicates(texts)
    wrong = 0
    pairs = list(itertools.combinations(range(len(texts)), 2))
    parents = list(range(len(texts)))
    for i, j in pairs:
        one, two = shingles(texts[i]), shingles(texts[j])
        if len(one & two) / len(one | two) >= SIMILAR:
            low, high = sorted((parents[i], parents[j]))
            parents = [low if parent == high else parent for parent in parents]
    for i, j in pairs:
        wrong += (groups[i] == groups[j]) != (parents[i] == parents[j])
    assert wrong <= 2
    assert len(set(groups)) > 30


def test_the_result_is_the_same_each_time():
    texts = [SENTENCE, SENTENCE + "!", "x"]
    assert near_duplicates(texts) == near_duplicates(texts)
    assert near_duplicates([]) == []
