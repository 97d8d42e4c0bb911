"""Near duplicates never cross the split, and the leak of a random split is measured."""

import random

import pytest

from sft.classify.config import TextSection
from sft.classify.split import expected_leak, load_split
from tests.conftest import write_jsonl
from workbench.data.hashing import unit_hash
from workbench.run.errors import WorkbenchError

WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo", "lima")


def texts(number, seed=0):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=12)) for _ in range(number)]


def section(file, **changes):
    return TextSection(**{"train": str(file), "heldout_share": 0.3, **changes})


def test_copies_and_near_copies_stay_on_one_side(tmp_path):
    originals = texts(60)
    rows = [{"text": t + end, "label": str(n % 2)} for n, t in enumerate(originals) for end in ("", "!", " ok")]
    random.Random(1).shuffle(rows)
    file = write_jsonl(tmp_path / "t.jsonl", rows)
    split = load_split(file, None, section(file), seed=0)
    stems = [{record.text[:40] for record in side} for side in (split.train, split.heldout)]
    assert not stems[0] & stems[1]
    assert split.duplicates == 180
    assert len(split.heldout) == 3 * len(set(split.heldout_groups))
    # Each text has two copies: at least one of them is trained on with probability 1 − .3².
    assert split.random_leak == pytest.approx(0.91)
    at_random = [unit_hash(5, n) < 0.3 for n in range(180)]  # the control: rows drawn one by one
    kept = {row["text"][:40] for row, out in zip(rows, at_random, strict=True) if not out}
    leaked = [row["text"][:40] in kept for row, out in zip(rows, at_random, strict=True) if out]
    assert sum(leaked) / len(leaked) == pytest.approx(split.random_leak, abs=0.1)


def test_a_side_depends_on_text_and_seed_alone(tmp_path):
    rows = [{"text": text, "label": str(n % 2)} for n, text in enumerate(texts(80))]
    first = write_jsonl(tmp_path / "a.jsonl", rows)
    second = write_jsonl(tmp_path / "b.jsonl", rows[::-1][:60])
    held = [{r.text for r in load_split(file, None, section(file), seed=0).heldout} for file in (first, second)]
    assert held[1] <= held[0]
    other = {record.text for record in load_split(first, None, section(first), seed=1).heldout}
    assert other != held[0]


def test_training_texts_that_the_heldout_file_repeats_are_left_out(tmp_path):
    rows = [{"text": text, "label": str(n % 2)} for n, text in enumerate(texts(40))]
    train, heldout = write_jsonl(tmp_path / "a.jsonl", rows), write_jsonl(tmp_path / "b.jsonl", rows[:10])
    split = load_split(train, heldout, section(train, heldout=str(heldout)), seed=0)
    assert (len(split.train), len(split.heldout), split.left_out) == (30, 10, 10)
    assert "10 of them were left out of training" in split.line()


@pytest.mark.parametrize(
    ("labels", "held", "message"),
    [
        (["a"] * 40, None, "at least two labels"),
        (["a", "b"] * 20, ["c"], "'c' has held-out texts, and none to train on"),
        (["a", "b"] * 20, [["a"]], "lists of labels"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, labels, held, message):
    rows = [{"text": text, "label": label} for text, label in zip(texts(40), labels, strict=True)]
    train = write_jsonl(tmp_path / "a.jsonl", rows)
    heldout = None
    if held is not None:
        new = [{"text": text, "label": label} for text, label in zip(texts(1, seed=9), held, strict=True)]
        heldout = write_jsonl(tmp_path / "b.jsonl", new)
    with pytest.raises(WorkbenchError, match=message):
        load_split(train, heldout, section(train), seed=0)


def test_expected_leak_by_hand():
    # Sizes 1, 2, 2: (0 + (1 − .2) + (1 − .2)) / 3.
    assert expected_leak([1, 2, 2], 0.2) == pytest.approx(1.6 / 3)
    assert expected_leak([1, 1], 0.2) == 0
