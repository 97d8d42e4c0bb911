import random
import sqlite3
from pathlib import Path

import pytest

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.labels.status import render, status
from annotate.queue.rules import Queue
from annotate.simulate import simulate
from annotate.store.database import Store
from tests.annotate.conftest import make_item
from workbench.data.records import Item, Message, Response
from workbench.run.errors import WorkbenchError
from workbench.tiny.annotators import SIMULATED
from workbench.tiny.gold import gold_reward
from workbench.tiny.grammar import demonstrate, render_prompt, sample_prompt


def help_desk_items(count: int) -> list[Item]:
    """Pairs of demonstrations of different quality."""
    rng, items = random.Random(5), []
    while len(items) < count:
        spec = sample_prompt(rng, heldout=False)
        texts = demonstrate(spec, rng.random(), rng), demonstrate(spec, rng.random(), rng)
        if texts[0] == texts[1]:
            continue
        name = f"p{len(items)}"
        responses = tuple(Response(id=f"{name}-{k}", text=text) for k, text in enumerate(texts))
        prompt = (Message(role="user", content=render_prompt(spec)),)
        items.append(Item(id=name, group=name, prompt=prompt, responses=responses))
    return items


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return help_desk_items(150)


def _store(path: Path, items: list[Item]) -> Store:
    store = Store.open(path, durable=False)
    load_items(store, items, QueueSection(overlap=3, overlap_share=0.3))
    return store


def _labels(path: Path) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    query = "SELECT item, annotator, choice, strength, swapped, client_key FROM judgement ORDER BY item, annotator"
    rows = connection.execute(query).fetchall()
    connection.close()
    return rows


def test_everything_gets_its_judgements_and_is_marked_simulated(tmp_path: Path, items: list[Item]) -> None:
    store = _store(tmp_path / "labels.sqlite", items)
    made = simulate(store, Queue(store, QueueSection(lease_seconds=60)), seed=1)
    with store.read() as transaction:
        assert transaction.totals(simulated=True)[1:] == (made, made)
        assert transaction.totals(simulated=False)[2] == 0
        accounts = transaction.annotators()
    assert {account.name for account in accounts} == {simulated.name for simulated in SIMULATED}
    assert all(account.simulated and account.password_hash is None for account in accounts)
    assert simulate(store, Queue(store, QueueSection(lease_seconds=60)), seed=1) == 0
    store.close()


def test_the_same_seed_gives_the_same_labels_also_when_interrupted(tmp_path: Path, items: list[Item]) -> None:
    paths = [tmp_path / f"{name}.sqlite" for name in ("whole", "parts", "other")]
    for path, parts, seed in zip(paths, ((0,), (37, 50, 0), (0,)), (1, 1, 2), strict=True):
        store = _store(path, items)
        for number in parts:
            simulate(store, Queue(store, QueueSection(lease_seconds=60)), number=number, seed=seed)
        store.close()
    whole, parts, other = map(_labels, paths)
    assert whole == parts
    assert whole != other


def test_they_prefer_what_the_gold_reward_prefers(tmp_path: Path, items: list[Item]) -> None:
    store = _store(tmp_path / "labels.sqlite", items)
    simulate(store, Queue(store, QueueSection(lease_seconds=60)), seed=1)
    gold = {}
    for item in items:
        first, second = (gold_reward(item.prompt, response.text) for response in item.responses)
        assert first is not None
        assert second is not None
        gold[item.id] = second.total - first.total
    with store.read() as transaction:
        names = {stored.id: stored.item_id for stored in transaction.items()}
        judged = [(gold[names[j.item]], j.strength) for j in transaction.current_judgements() if j.strength]
    agree = [(difference > 0) == (strength > 0) for difference, strength in judged if abs(difference) > 0.3]
    assert len(agree) > 50
    assert sum(agree) / len(agree) > 0.75
    report = status(store)
    assert report["people"]["judgements"] == 0
    assert 0.4 < report["simulated"]["agreement"]["raw_without_ties"]["value"] < 1
    assert "simulated-careless" in render(store)
    store.close()


def test_prompts_without_a_truth_are_an_error(tmp_path: Path) -> None:
    store = _store(tmp_path / "labels.sqlite", [make_item("a")])
    with pytest.raises(WorkbenchError, match="cannot judge answers to this prompt"):
        simulate(store, Queue(store, QueueSection(lease_seconds=60)))
    store.close()
