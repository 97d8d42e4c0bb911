import random

import pytest

from tests.conftest import write_jsonl
from workbench.data.inputs import check_answers, check_pairs
from workbench.data.records import Demonstration, Message, Preference
from workbench.data.rules import RowRules
from workbench.data.splits import group_of, load_answers, load_pairs, split_by_group
from workbench.run.errors import Problems, WorkbenchError


def preference(number: int, group: int) -> Preference:
    return Preference(
        id=f"p{number}",
        group=f"g{group}",
        prompt=(Message(role="user", content=f"question {group}"),),
        chosen=(Message(role="assistant", content="good"),),
        rejected=(Message(role="assistant", content="bad"),),
    )


RECORDS = [preference(number, number // 4) for number in range(4000)]


def test_no_group_is_on_both_sides_and_nothing_is_lost() -> None:
    train, heldout = split_by_group(RECORDS, 0.1, seed=1)
    assert not {record.group for record in train} & {record.group for record in heldout}
    assert len(train) + len(heldout) == len(RECORDS)
    kept = {record.id for record in train}
    assert [record for record in RECORDS if record.id in kept] == train, "each side keeps the order"


def test_the_held_out_share_is_as_configured() -> None:
    """1 000 groups, share 0.1: the standard deviation of the held-out share is sqrt(.1 · .9 / 1000) = 0.0095."""
    for seed in range(5):
        _, heldout = split_by_group(RECORDS, 0.1, seed=seed)
        assert abs(len(heldout) / len(RECORDS) - 0.1) < 4 * 0.0095


def test_a_side_stays_when_rows_are_reordered_added_or_removed() -> None:
    _, heldout = split_by_group(RECORDS, 0.2, seed=3)
    shuffled = RECORDS[:]
    random.Random(0).shuffle(shuffled)
    _, again = split_by_group(shuffled[:3000] + [preference(9000 + n, 5000 + n) for n in range(50)], 0.2, seed=3)
    kept = {record.id for record in shuffled[:3000]}
    assert {record.id for record in again if record.id in kept} == {
        record.id for record in heldout if record.id in kept
    }


def test_another_seed_is_another_split() -> None:
    one, two = (split_by_group(RECORDS, 0.5, seed=seed)[1] for seed in (1, 2))
    assert {record.id for record in one} != {record.id for record in two}


def test_a_larger_share_holds_out_more_of_the_same() -> None:
    small, large = (split_by_group(RECORDS, share, seed=1)[1] for share in (0.1, 0.3))
    assert {record.id for record in small} < {record.id for record in large}


def test_all_or_nothing() -> None:
    assert split_by_group(RECORDS, 0.0, seed=1) == (RECORDS, [])
    assert split_by_group(RECORDS, 1.0, seed=1) == ([], RECORDS)
    with pytest.raises(ValueError, match=r"\[0, 1\], is 10"):
        split_by_group(RECORDS, 10, seed=1)


def test_demonstrations_of_one_prompt_stay_together_whatever_their_ids() -> None:
    prompt = (Message(role="user", content="the same"),)
    rows = [Demonstration(id=str(number), prompt=prompt, response=str(number)) for number in range(20)]
    assert len({group_of(row) for row in rows}) == 1
    train, heldout = split_by_group(rows, 0.5, seed=0)
    assert not train or not heldout


def rows_of(questions, **values):
    """Records of our own form, one per question."""
    return [
        {
            "id": f"{question}{'-'.join(values.values())}",
            "group": f"{values.get('split', '')}{question}",
            "prompt": [{"role": "user", "content": f"question {question}"}],
            "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": [{"role": "assistant", "content": "bad"}],
            **values,
        }
        for question in questions
    ]


@pytest.mark.parametrize("load", [load_pairs, load_answers])
@pytest.mark.parametrize("by", ["mark", "file", "group"])
def test_a_held_out_prompt_that_is_also_trained_on_is_left_out_and_counted(tmp_path, caplog, load, by):
    """Questions 0 to 9 are trained on, 8 to 11 are held out; the groups of the two sides differ."""
    trained, kept_out = rows_of(range(10), split="train"), rows_of(range(8, 12), split="heldout")
    if by == "mark":
        files, share = (write_jsonl(tmp_path / "both.jsonl", [*trained, *kept_out]), None), 0.1
    elif by == "file":
        sides = {"train": trained, "heldout": kept_out}
        files, share = tuple(write_jsonl(tmp_path / f"{side}.jsonl", rows) for side, rows in sides.items()), 0.1
    else:  # one prompt under 200 groups, and 200 prompts
        rows = [{**rows_of(["x"])[0], "id": f"x{n}", "group": f"x{n}"} for n in range(200)] + rows_of(range(200))
        files, share = (write_jsonl(tmp_path / "groups.jsonl", [*rows, *rows_of([200])]), None), 0.3
    split = load(*files, heldout_share=share, seed=0)
    assert not {one.prompt for one in split.train} & {one.prompt for one in split.heldout}
    assert split.heldout
    per_pair = 2 if load is load_answers else 1
    if by != "group":
        assert (split.leaked, len(split.heldout)) == (2 * per_pair, 2 * per_pair)
        found = f"{2 * per_pair} of {4 * per_pair} held-out records have a prompt that is also trained on"
        assert found in caplog.text
        check = check_pairs if load is load_pairs else check_answers
        names = {"train": str(files[0]), "heldout": files[1] and str(files[1])}
        _, lines = check(Problems(), None, **names, heldout_share=share, seed=0, limit=0, rules=RowRules())
        assert f"{2 * per_pair} left out because their prompt is trained on" in lines[1]
    assert split.leaked


@pytest.mark.parametrize(("apart", "remedy"), [(False, "data.ignore"), (True, "remove data.heldout")])
def test_a_held_out_side_without_a_prompt_of_its_own_is_refused(tmp_path, apart, remedy):
    trained, kept_out = (rows_of(range(10), split=side) for side in ("train", "heldout"))
    train = write_jsonl(tmp_path / "train.jsonl", trained if apart else [*trained, *kept_out])
    heldout = write_jsonl(tmp_path / "heldout.jsonl", kept_out) if apart else None
    with pytest.raises(WorkbenchError, match="10 of 10 held-out records") as caught:
        load_pairs(train, heldout, heldout_share=0.1, seed=0)
    assert remedy in str(caught.value.remedy)
    if not apart:
        split = load_pairs(train, None, heldout_share=0.3, seed=0, rules=RowRules(("split", "group")))
        assert split.leaked == 0, "what the remedy says"


def test_a_prompt_that_repeats_within_a_side_is_no_leak(tmp_path):
    rows = [{"prompt": f"q{n % 30}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(90)]
    split = load_pairs(write_jsonl(tmp_path / "public.jsonl", rows), None, heldout_share=0.3, seed=0)
    assert (len(split.train) + len(split.heldout), split.leaked) == (90, 0)
