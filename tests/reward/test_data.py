"""Preference pairs as rows: complete, with EOS, split by mark or by prompt; and the control of shuffled labels."""

import json

import pytest

from reward.config import LossSection, RewardPairSection
from reward.data import LARGEST_GROUP, load_data, prompt_groups, strength_levels, swapped_at_random
from tests.conftest import user, write_jsonl
from workbench.data.readers import read_preferences
from workbench.model.base import load_tokenizer
from workbench.run.errors import WorkbenchError


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return load_tokenizer(str(tiny_base))


def load(tokenizer, path, **changes):
    kind = "ordinal" if changes.pop("use_ties", False) else "bradley_terry"
    loss = LossSection(kind=kind, soft_labels=changes.pop("soft_labels", False))
    files = {name: file for name, file in (("train", path), ("heldout", changes.pop("heldout", None))) if file}
    seeds = {"seed": changes.pop("seed", 0), "bootstrap_seed": changes.pop("bootstrap_seed", None)}
    section = RewardPairSection(train=str(path), **({"heldout_share": 0.2, "max_length": 128} | changes))
    return load_data(tokenizer, files, section, loss, **seeds)


def pairs(count, *, long=()):
    return [
        {
            "id": f"x{n}",
            "group": f"g{n}",
            "prompt": user("Where is {}?", f"thing {n}"),
            "chosen": [{"role": "assistant", "content": "yes " * (100 if n in long else 1)}],
            "rejected": [{"role": "assistant", "content": "no"}],
        }
        for n in range(count)
    ]


def test_both_rows_share_the_prompt_and_end_with_the_end_token(tokenizer, preference_file):
    data = load(tokenizer, preference_file)
    assert data.counts == {"train": 16, "heldout": 8, "ties": 0, "too_long": 0, "cut": 0}
    trained = [
        (row["ids"][c], row["ids"][r])
        for row in data.train
        for c, r in zip(row["chosen"], row["rejected"], strict=True)
    ]
    assert len(trained) == 16
    for chosen, rejected in [*trained, *((row["chosen_ids"], row["rejected_ids"]) for row in data.heldout)]:
        assert chosen[-1] == rejected[-1] == tokenizer.eos_token_id
        assert chosen[0] == rejected[0] == tokenizer.bos_token_id
        shared = next(n for n, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b)
        assert tokenizer.decode(chosen[:shared]).rstrip().endswith("Assistant:")
        assert tokenizer.decode(chosen[shared:]).lstrip().startswith("Your")
        assert tokenizer.decode(rejected[shared:]).lstrip().startswith("No idea")


def test_marked_pairs_are_held_out(tokenizer, preference_file):
    data = load(tokenizer, preference_file)
    held_out = {json.loads(line)["id"] for line in preference_file.read_text().splitlines() if '"heldout"' in line}
    assert len(held_out) == 8
    assert not held_out & {record.id for record in data.train_records}


def test_too_long_pairs_are_left_out_whole_and_counted(tokenizer, tmp_path):
    path = write_jsonl(tmp_path / "p.jsonl", pairs(20, long=(3, 4, 5)))
    data = load(tokenizer, path, max_length=80)
    assert data.counts["too_long"] == 3
    assert data.counts["train"] + data.counts["heldout"] == 17
    assert not {"x3", "x4", "x5"} & {record.id for record in data.train_records}
    assert len(data.train) == len(data.train_records)


def test_long_prompts_are_cut_from_the_left_where_that_is_asked_for(tokenizer, tmp_path):
    rows = pairs(20, long=(3, 4))
    for n in (5, 6, 7):
        rows[n]["prompt"] = user("Where is {}?", "the " * 100 + f"thing {n}")
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    assert load(tokenizer, path, max_length=80).counts["too_long"] == 5
    data = load(tokenizer, path, max_length=80, truncate_prompt=True)
    assert (data.counts["too_long"], data.counts["cut"]) == (2, 3), "an answer that is too long by itself is left out"
    assert data.counts["train"] + data.counts["heldout"] == 18
    assert all(len(ids) <= 80 for row in data.train for ids in row["ids"])


def test_soft_labels_take_the_place_of_weights(tokenizer, tmp_path):
    rows = pairs(20)
    rows[0] |= {"probability": 0.8, "weight": 0.6}
    rows[1] |= {"probability": 0.5, "weight": 0.0, "strength": 0}
    rows[2] |= {"weight": 0.25}
    for row in rows:
        row["split"] = "heldout" if row["id"] == "x19" else "train"
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    for soft, expected in (
        (False, [(1, 0.6), (1, 1), (1, 0.25), (1, 1)]),
        (True, [(0.8, 1), (0.5, 1), (1, 0.25), (1, 1)]),
    ):
        data = load(tokenizer, path, use_ties=True, soft_labels=soft)
        found = {
            r.id: (*row["probability"], *row["weight"]) for r, row in zip(data.train_records, data.train, strict=True)
        }
        assert [found[f"x{n}"] for n in range(4)] == expected


def test_ties_train_nothing_and_are_counted(tokenizer, tmp_path):
    rows = pairs(20)
    rows[7]["strength"] = rows[8]["strength"] = 0
    for row in rows:
        row["split"] = "heldout" if row["id"] in ("x0", "x8") else "train"
    data = load(tokenizer, write_jsonl(tmp_path / "p.jsonl", rows))
    assert (data.counts["train"], data.counts["heldout"], data.counts["ties"]) == (17, 1, 1)


def test_ties_are_kept_where_the_loss_reads_them(tokenizer, tmp_path):
    rows = pairs(20)
    for n, strength in enumerate((0, 3, 1.5)):
        rows[n]["strength"] = strength
    for row in rows:
        row["split"] = "heldout" if row["id"] in ("x18", "x19") else "train"
    data = load(tokenizer, write_jsonl(tmp_path / "p.jsonl", rows), use_ties=True)
    assert (data.counts["train"], data.counts["heldout"], data.counts["ties"]) == (18, 2, 0)
    levels = {record.id: row["level"] for record, row in zip(data.train_records, data.train, strict=True)}
    # Strengths 1, 2 (half of the 1.5) and 3 occur: three levels. 18 pairs: one tie, 15.5 at level 1, ½ at 2, one at 3.
    assert (levels["x0"], levels["x1"], levels["x2"], levels["x3"]) == ([0.0], [3.0], [1.5], [1.0])
    assert data.level_shares == pytest.approx([1 / 18, 15.5 / 18, 0.5 / 18, 1 / 18])


def test_levels_number_the_strengths_that_occur():
    assert strength_levels([2.0, 2.0, 2.0]) == ([1.0, 1.0, 1.0], [0.0, 1.0])
    levels, shares = strength_levels([0.0, 1.0, 3.0, 3.0])
    assert levels == [0.0, 1.0, 2.0, 2.0]
    assert shares == [0.25, 0.25, 0.5]
    assert strength_levels([0.5, 1.0])[0] == [0.5, 1.0]


def test_the_answers_of_a_prompt_are_read_once_however_many_pairs_they_are_in(tokenizer, tmp_path):
    texts = ["one", "two", "three"]
    rows = [
        {
            "id": f"{group}-{a}{b}",
            "group": group,
            "prompt": user("Where is {}?", group),
            "chosen": [{"role": "assistant", "content": a}],
            "rejected": [{"role": "assistant", "content": b}],
            "weight": 0.5,
            "split": "heldout" if group == "g9" else "train",
        }
        for group in ("g1", "g2", "g9")
        for a, b in (texts[:2], texts[1:], texts[::2])
    ]
    data = load(tokenizer, write_jsonl(tmp_path / "p.jsonl", rows))
    assert data.counts["train"] == 6
    assert len(data.train) == 2
    for row in data.train:
        assert len(row["ids"]) == 3
        assert list(zip(row["chosen"], row["rejected"], strict=True)) == [(0, 1), (1, 2), (0, 2)]
        assert row["weight"] == [0.5] * 3


def test_a_large_group_is_cut(tokenizer, preference_file):
    record = read_preferences(preference_file)[0]
    rows = [{"chosen_ids": [1, n], "rejected_ids": [2, n]} for n in range(20)]
    groups = prompt_groups(rows, [record] * 20, [1.0] * 20, soft_labels=False)
    assert sum(len(group["chosen"]) for group in groups) == 20
    assert max(len(group["ids"]) for group in groups) == LARGEST_GROUP
    for group in groups:
        for chosen, rejected in zip(group["chosen"], group["rejected"], strict=True):
            assert group["ids"][chosen][1] == group["ids"][rejected][1]


def test_the_limit_takes_the_first(tokenizer, preference_file):
    data = load(tokenizer, preference_file, limit=5)
    assert [record.id for record in data.train_records] == [f"pair{n}" for n in range(5)]
    assert data.counts["heldout"] == 8


def test_shuffled_labels_swap_about_half_of_the_training_pairs_only(tokenizer, preference_file, tmp_path):
    plain, shuffled = (load(tokenizer, preference_file, shuffle_labels=s) for s in (False, True))
    assert shuffled.heldout.to_list() == plain.heldout.to_list()
    swaps = 0
    for before, after in zip(plain.train_records, shuffled.train_records, strict=True):
        turned = before.model_copy(update={"chosen": before.rejected, "rejected": before.chosen})
        assert after in (before, turned)
        swaps += after == turned
    assert 0 < swaps < 16

    records = read_preferences(write_jsonl(tmp_path / "many.jsonl", pairs(400)))
    swapped = swapped_at_random(records, 0)
    changed = sum(a.chosen != b.chosen for a, b in zip(records, swapped, strict=True))
    assert 160 < changed < 240  # 200 ± 4 standard deviations
    assert swapped == swapped_at_random(records, 0)
    assert swapped != swapped_at_random(records, 1)
    assert all({a.chosen, a.rejected} == {b.chosen, b.rejected} for a, b in zip(records, swapped, strict=True))


def test_all_too_long_is_an_error(tokenizer, preference_file):
    with pytest.raises(WorkbenchError, match="too long"):
        load(tokenizer, preference_file, max_length=2)


def test_a_tie_counts_as_one_judgement_whatever_weight_its_export_gave_it(tokenizer, tmp_path):
    rows = pairs(12)
    rows[0] |= {"strength": 0, "weight": 0.0}
    rows[1] |= {"weight": 0.25}
    for row in rows:
        row["split"] = "heldout" if row["id"] == "x11" else "train"
    data = load(tokenizer, write_jsonl(tmp_path / "p.jsonl", rows), use_ties=True)
    assert [row["weight"] for row in data.train][:3] == [[1.0], [0.25], [1.0]]
