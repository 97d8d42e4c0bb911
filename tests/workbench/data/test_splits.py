import random

import pytest

from workbench.data.records import Demonstration, Message, Preference
from workbench.data.splits import group_of, split_by_group


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
