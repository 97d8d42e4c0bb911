"""Priorities for the annotation queue, chosen by reward runs."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest

import reward.verbs.acquire as acquiring
from annotate.intake.priorities import read_priorities
from reward.__main__ import main
from reward.verbs.acquire import pair_gaps, pairs_of, with_control
from tests.conftest import BAD, GOOD, THINGS, UNSEEN, user, write_jsonl
from workbench.data.readers import read_items
from workbench.evaluate.role_models import RoleScore
from workbench.model.open import open_runs
from workbench.run.errors import WorkbenchError


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """16 items: even ones have a good and a bad answer, odd ones two good answers."""
    rows = []
    for number, (question, thing) in enumerate(itertools.product(UNSEEN, THINGS)):
        texts = [GOOD.format(thing), GOOD.format("dear " + thing) if number % 2 else BAD.format(thing)]
        rows.append(
            {
                "id": f"i{number}",
                "group": f"g{number}",
                "prompt": user(question, thing),
                "responses": [{"id": str(k), "text": text} for k, text in enumerate(texts)],
            }
        )
    return write_jsonl(tmp_path_factory.mktemp("pool") / "items.jsonl", rows)


def chosen(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_uncertain_pairs_come_first_and_the_queue_reads_them(reward_run, pool, tmp_path, capsys):
    out = tmp_path / "priorities.jsonl"
    assert main(["acquire", str(reward_run), "--pool", str(pool), "--n", "6", "--out", str(out)]) == 0
    assert "6 pairs" in capsys.readouterr().out
    rows = chosen(out)
    roles, items = open_runs({"reward": reward_run}), {item.id: item for item in read_items(pool)}

    def gap(item):
        first, second = (response.text for response in item.responses)
        scores = RoleScore(roles, ("reward",), 1)([item.prompt] * 2, [first, second], [True] * 2)
        return abs(scores[0] - scores[1])

    closest = sorted(items, key=lambda name: gap(items[name]))[:6]
    assert [row["id"] for row in rows] == closest
    assert [row["value"] for row in rows] == sorted((row["value"] for row in rows), reverse=True)
    read = read_priorities(str(out))
    assert [entry.item_id for entry in read] == closest
    assert [entry.value for entry in read] == pytest.approx([2 - k / 6 for k in range(6)])
    assert not any(entry.again for entry in read)


def test_two_runs_disagree_where_one_of_them_is_turned_round(reward_run, pool, tmp_path, monkeypatch):
    pairs = pairs_of(read_items(pool))
    roles = open_runs({"first": reward_run, "second": reward_run})
    gaps = pair_gaps(roles, ["first"], pairs, batch_size=8)
    assert gaps.shape == (1, 16)
    both = pair_gaps(roles, ["first", "second"], pairs, batch_size=8)
    np.testing.assert_allclose(both, np.repeat(gaps, 2, axis=0))
    contradicted = np.argsort(np.abs(gaps[0]))[-3:]
    second = gaps[0].copy()
    second[contradicted] *= -1
    monkeypatch.setattr(acquiring, "pair_gaps", lambda *_, **__: np.stack([gaps[0], second]))
    for strategy in ("disagreement", "bald"):
        out = tmp_path / f"{strategy}.jsonl"
        assert acquiring.acquire([reward_run] * 2, pool, out, number=3, strategy=strategy) == 3
        assert {row["id"] for row in chosen(out)} == {pairs[index].id for index in contradicted}


def test_pairs_that_the_base_has_no_positions_for_are_left_out_and_counted(reward_run, pool, tmp_path, caplog):
    """`tiny_base` has 256 positions."""
    long = {"id": "long", "group": "g", "prompt": user("Who?", "x"), "responses": []}
    long["responses"] = [{"id": "0", "text": "ab " * 200}, {"id": "1", "text": "short"}]
    both = tmp_path / "pool.jsonl"
    both.write_text(pool.read_text(encoding="utf-8") + json.dumps(long) + "\n", encoding="utf-8")
    out = tmp_path / "out.jsonl"
    assert acquiring.acquire([reward_run], both, out, number=20, strategy="uncertainty") == 16
    assert "long" not in {row["id"] for row in chosen(out)}
    assert "left out 1 of 17 pairs" in caplog.text
    with pytest.raises(WorkbenchError, match="all 1 pairs are longer than the 256 positions"):
        acquiring.acquire([reward_run], write_jsonl(both, [long]), out, number=1, strategy="uncertainty")


def test_labelled_pairs_and_tests_of_annotators_are_left_aside(reward_run, pool, tmp_path):
    items = read_items(pool)
    test = items[3].model_copy(update={"known_strength": 2})
    assert [pair.id for pair in pairs_of([*items[:2], test])] == ["i0", "i1"]
    three = SimpleNamespace(
        id="r", prompt=items[0].prompt, known_strength=None, responses=[*items[0].responses, *items[1].responses[:1]]
    )
    assert [pair.id for pair in pairs_of([three])] == ["r:0-1", "r:0-2", "r:1-2"]
    labelled = write_jsonl(
        tmp_path / "labelled.jsonl",
        [{"id": f"i{n}", "prompt": "x", "chosen": f"good {n}", "rejected": "bad"} for n in range(14)],
    )
    out = tmp_path / "out.jsonl"
    assert acquiring.acquire([reward_run], pool, out, number=9, strategy="random", without=labelled) == 2
    assert {row["id"] for row in chosen(out)} == {"i14", "i15"}


def test_chance_depends_on_the_seed_alone(reward_run, pool, tmp_path):
    def ids(strategy, seed):
        out = tmp_path / "out.jsonl"
        acquiring.acquire([reward_run], pool, out, number=16, strategy=strategy, seed=seed)
        return [row["id"] for row in chosen(out)]

    for strategy in ("random", "length-balanced"):
        assert ids(strategy, 1) == ids(strategy, 1) != ids(strategy, 2)


def test_a_committee_of_one_is_refused(reward_run, pool, tmp_path):
    with pytest.raises(WorkbenchError, match="1 was given"):
        acquiring.acquire([reward_run], pool, tmp_path / "out.jsonl", number=3, strategy="bald")


def test_chosen_pairs_are_written_as_items(reward_run, pool, tmp_path):
    out, items, ranked = (tmp_path / f"{name}.jsonl" for name in ("out", "items", "ranked"))
    acquiring.acquire([reward_run], pool, out, number=5, strategy="d-optimal", items=items, ranked=ranked)
    best, every = read_items(items), read_items(ranked)
    assert [item.id for item in best] == [row["id"] for row in chosen(out)] == [item.id for item in every[:5]]
    assert sorted(item.id for item in every) == sorted(item.id for item in read_items(pool))
    priorities = [item.priority for item in every]
    assert priorities == sorted(priorities, reverse=True)
    assert len(set(priorities)) == 16
    texts = {item.id: [response.text for response in item.responses] for item in read_items(pool)}
    assert all([response.text for response in item.responses] == texts[item.id] for item in every)


def test_a_control_by_hand():
    # 2 of 5 are the control, at the 3rd and 5th place (2 · 5 / 2 = 5, 1 · 5 // 2 = 2); the others keep their order.
    assert with_control(np.arange(8), np.array([7, 1]), 5).tolist() == [0, 7, 2, 3, 1, 4, 5, 6]
    assert with_control(np.arange(3), np.array([2]), 9).tolist() == [0, 1, 2], "a small pool is chosen whole"
    assert with_control(np.arange(3), np.array([], dtype=int), 2).tolist() == [0, 1, 2]


def test_a_share_is_drawn_at_random_from_the_whole_pool_and_marked(reward_run, pool, tmp_path):
    def rows(seed, share="0.25"):
        out, ranked = tmp_path / "out.jsonl", tmp_path / "ranked.jsonl"
        words = ["--pool", str(pool), "--n", "8", "--out", str(out), "--ranked", str(ranked), "--seed", str(seed)]
        assert main(["acquire", str(reward_run), *words, "--random-share", share]) == 0
        found = chosen(out)
        assert [row["id"] for row in found] == [item.id for item in read_items(ranked)][:8]
        return found

    plain = rows(0, share="0")
    assert {row["strategy"] for row in plain} == {"uncertainty"}
    drawn = {seed: {row["id"] for row in rows(seed) if row["strategy"] == "random"} for seed in range(4)}
    assert {len(found) for found in drawn.values()} == {2}
    assert len({frozenset(found) for found in drawn.values()}) > 1
    assert set.union(*drawn.values()) & {row["id"] for row in plain}, "also pairs that the strategy would choose"
    by_strategy = [row for row in rows(3) if row["strategy"] == "uncertainty"]
    kept = [row["id"] for row in rows(3, share="0") if row["id"] not in drawn[3]]
    assert [row["id"] for row in by_strategy][: len(kept)] == kept[: len(by_strategy)]
    pairs = pairs_of(read_items(pool))
    found = pair_gaps(open_runs({"reward": reward_run}), ["reward"], pairs, batch_size=8)[0]
    gaps = {pair.id: gap for pair, gap in zip(pairs, found, strict=True)}
    assert all(row["gap"] == pytest.approx(gaps[row["id"]], abs=1e-4) for row in by_strategy)
    with pytest.raises(SystemExit):
        rows(0, share="1.5")


def test_chance_needs_no_reward_model(pool, tmp_path):
    out = tmp_path / "out.jsonl"
    assert main(["acquire", "--pool", str(pool), "--n", "3", "--strategy", "random", "--out", str(out)]) == 0
    assert len(chosen(out)) == 3
    with pytest.raises(WorkbenchError, match="asks a reward model, and none was given"):
        acquiring.acquire([], pool, out, number=3, strategy="wide-gaps")


def test_no_file_that_is_read_or_written_already_is_overwritten(pool, tmp_path):
    before, out = pool.read_bytes(), tmp_path / "out.jsonl"
    words = ["acquire", "--pool", str(pool), "--n", "3", "--strategy", "random"]
    for outputs in ([pool], [tmp_path], [out, "--items", out], [out, "--ranked", pool]):
        with pytest.raises(WorkbenchError, match=r"would be overwritten|is a folder|written twice") as caught:
            main([*words, "--out", *map(str, outputs)])
        assert "--out, --items, --ranked" in caught.value.remedy
    assert pool.read_bytes() == before
    assert not out.exists()
