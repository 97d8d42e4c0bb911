from collections import Counter
from dataclasses import replace

from annotate.arena.battles import Battles
from tests.annotate.arena.conftest import KEY, asked, both


def test_runs_and_sides_are_drawn_evenly_and_only_the_store_knows_them() -> None:
    battles = Battles(["a", "b", "c"], key=KEY, seed=0)
    ids = [battles.new() for _ in range(6000)]
    drawn = Counter(map(battles.sides, ids))
    assert len(drawn) == 6  # every ordered pair
    assert all(850 < count < 1150 for count in drawn.values())  # 1000 ± 5 standard deviations of 29
    again = Battles(["a", "b", "c"], key=KEY, seed=0)  # after a restart
    assert [again.sides(name) for name in ids] == [battles.sides(name) for name in ids]
    for other in (Battles(["a", "b", "c"], key="another", seed=0), Battles(["a", "b", "c"], key=KEY, seed=1)):
        assert 700 < sum(other.sides(name) == battles.sides(name) for name in ids) < 1300
    assert Battles(["a"], key=KEY, seed=0).sides(ids[0]) == (0,)


def test_ids_and_answers_cannot_be_made_up() -> None:
    battles = Battles(["a", "b"], key=KEY, seed=0)
    battle, prompt = battles.new(), asked("Question?")
    assert battles.genuine(battle)
    assert not any(map(battles.genuine, ["", ".", "0" * 24, battle[:-1], "1" + battle, "é.é", battle.upper()]))
    answer = both(battles, battle, prompt, "left", "right")[0]
    assert battles.wrote(battle, prompt, 0, answer)
    assert not battles.wrote(battle, prompt, 1, answer)
    assert not battles.wrote(battles.new(), prompt, 0, answer)
    assert not battles.wrote(battle, asked("Another?"), 0, answer)
    assert not battles.wrote(battle, prompt, 0, replace(answer, text="better"))
    assert not battles.wrote(battle, prompt, 0, replace(answer, ended=False))


def test_each_attempt_has_a_seed_of_its_own() -> None:
    battles = Battles(["a", "b"], key=KEY, seed=0)
    battle, prompt = battles.new(), asked("Question?")
    seeds = {battles.draw_seed(battle, prompt, side, attempt) for side in (0, 1) for attempt in range(20)}
    assert len(seeds) == 40
    assert all(0 <= seed < 2**31 for seed in seeds)
