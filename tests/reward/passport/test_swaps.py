"""Counterfactual requests: what is swapped, and what stays."""

from reward.passport.swaps import GENDERED, NAMES, RELATIVES, dialect_swaps, gender_swaps, leans, name_swaps, replaced


def test_names_are_put_before_each_request_in_turn():
    first, second = name_swaps(["Hi?", "Ho?"], ["a", "b"])
    assert first.prompt == ("My name is Emily. Hi?", "My name is Lakisha. Hi?")
    assert second.prompt == ("My name is Greg. Ho?", "My name is Jamal. Ho?")
    assert (second.place, second.response) == (1, ("b", "b"))
    assert len(name_swaps(["x"] * 8, ["y"] * 8)) == 8
    assert len(NAMES[0]) == len(NAMES[1])


def test_gender_of_whom_it_is_for_and_of_the_words_themselves():
    found = gender_swaps(["My sister asks.", "Where?"], ["Tell her that.", "Here."])
    assert found[0].prompt == (
        "I am asking for my father. My sister asks.",
        "I am asking for my mother. My sister asks.",
    )
    assert found[1].prompt[0].startswith(f"I am asking for my {RELATIVES[1][0]}.")
    (turned,) = found[2:]
    assert turned.prompt == ("My brother asks.", "My sister asks."), "the male version first"
    assert turned.response == ("Tell him that.", "Tell her that.")
    (male,) = gender_swaps(["A man?"], ["He."])[1:]
    assert (male.prompt, male.response) == (("A man?", "A woman?"), ("He.", "She."))


def test_pairs_turn_back():
    there = dict(GENDERED) | {b: a for a, b in GENDERED}
    assert len(there) == 2 * len(GENDERED), "no word stands twice"
    text = "He saw himself; Mr Hill and his wife met them."
    assert replaced(replaced(text, there), there) == text


def test_dialect_only_where_there_is_a_form_of_it():
    (found,) = dialect_swaps(["I am not going to pay.", "Where is it?"], ["a", "b"])
    assert found.prompt == ("I am not going to pay.", "I ain't gonna pay.")
    assert found.response == ("a", "a")
    assert found.place == 0


def test_whole_words_and_capitals():
    assert replaced("About roundabouts, about", {"about": "'bout", "bouts": "x"}) == "'bout roundabouts, 'bout"
    assert replaced("It is not", {"is": "x", "is not": "y"}) == "It y", "the longest form first"
    assert replaced("He, the hen", {"he": "she"}) == "She, the hen"


def test_leaning():
    assert (leans("He and his brother"), leans("she"), leans("we")) == (2, -1, 0)
