"""Augmentation changes training texts only, by the seed alone, and keeps labels and answers."""

import pytest

from workbench.data.augment import TRANSFORMS, augmented_demonstrations, augmented_texts, changed
from workbench.data.records import Demonstration, LabelledText, Message
from workbench.run.sections import AugmentSection

TEXT = "Please call me back tomorrow, the invoice is wrong!"
ALL = AugmentSection(transforms=tuple(TRANSFORMS), copies=3)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_changes_a_text_by_its_seed_alone(name):
    section = AugmentSection(transforms=(name,))
    first = changed(TEXT, section, seed=1, copy=0)
    assert first != TEXT
    assert first == changed(TEXT, section, seed=1, copy=0)
    assert len({changed(TEXT, section, seed=seed, copy=copy) for seed in range(20) for copy in range(3)}) > 1


def test_punctuation_keeps_the_words():
    for seed in range(30):
        text = TRANSFORMS["punctuation"](TEXT, seed)
        assert [word.strip(".,!…") for word in text.split()] == [word.strip(".,!") for word in TEXT.split()]


def test_words_become_their_counterparts_with_their_capitals():
    section = AugmentSection(transforms=("words",), words=("spam=junk mail", "app=application"))
    text = "Spam in the APP: no spammy apps, only junk mail for this application."
    swapped = "Junk mail in the APPLICATION: no spammy apps, only spam for this app."
    assert changed(text, section, seed=0, copy=0) == swapped
    assert changed(swapped, section, seed=0, copy=0) == text
    records = [LabelledText(id="a", text="Nothing to swap.", labels=("x",))]
    assert augmented_texts(records, section, seed=0) == records


@pytest.mark.parametrize("values", [{"transforms": ("words",)}, {"words": ("a=b",)}, {"words": ("a",)}])
def test_words_without_the_change_or_without_a_counterpart_are_errors(values):
    with pytest.raises(ValueError, match="words"):
        AugmentSection(**values)


def test_copies_follow_the_records_with_their_labels():
    records = [LabelledText(id=str(n), text=f"{TEXT} {n}", labels=(str(n % 2),)) for n in range(10)]
    found = augmented_texts(records, ALL, seed=0)
    assert found[:10] == records
    assert len(found) == 40
    assert all(record.labels == records[int(record.id.split("~")[0])].labels for record in found[10:])
    assert len({record.id for record in found}) == 40
    assert augmented_texts(records, AugmentSection(), seed=0) == records
    assert augmented_texts(records, ALL, seed=1) != found


def test_a_copy_without_a_change_is_left_out():
    records = [LabelledText(id="a", text="ok", labels=("x",)), LabelledText(id="b", text="?!", labels=("y",))]
    assert augmented_texts(records, AugmentSection(transforms=("typos",)), seed=0) == records
    assert all(record.text.strip() for record in augmented_texts(records, ALL, seed=0))


def test_only_the_last_user_message_changes():
    prompt = (
        Message(role="user", content=TEXT),
        Message(role="assistant", content="Yes."),
        Message(role="user", content=TEXT),
    )
    first, *copies = augmented_demonstrations([Demonstration(id="a", prompt=prompt, response="Done.")], ALL, seed=0)
    assert first.prompt == prompt
    assert len(copies) == 3
    for copy in copies:
        assert copy.prompt[:2] == prompt[:2]
        assert copy.prompt[2].content != TEXT
        assert copy.response == "Done."
