"""People beside one another: threads, simulated annotators, the paused and the removed."""

import threading
from collections import Counter

import pytest

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.people.accounts import set_state
from annotate.queue.rules import Card, Nothing, Queue, Submission
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.conftest import label, make_item, open_card
from tests.annotate.queue.conftest import Account, Load, rows_of


def test_people_and_simulated_annotators_do_not_take_items_from_each_other(
    queue: Queue, account: Account, load: Load
) -> None:
    load(1)
    ann, machine = account("ann"), account("simulated", simulated=True)
    assert label(queue, machine) == label(queue, ann) == 1
    assert isinstance(queue.next(ann), Nothing)
    assert isinstance(queue.next(machine), Nothing)


@pytest.mark.parametrize("together", [False, True])
def test_many_threads_never_over_assign_nor_lose(store: Store, account: Account, *, together: bool) -> None:
    load_items(store, [make_item(f"i{n}") for n in range(60)], QueueSection(overlap=3, overlap_share=0.5))
    queue = Queue(store, QueueSection(lease_seconds=60))
    people = [account(f"person-{number}") for number in range(8)]
    sent: Counter[str] = Counter()
    errors: list[BaseException] = []

    def work(who: Annotator) -> None:
        try:
            card = queue.next(who)
            while isinstance(card, Card):
                answer = Submission(card.item, "compared", strength=1, client_key=f"{who.name}-{card.item:08}")
                queue.submit(who, answer)  # every answer is sent twice
                if together:
                    card = queue.submit_and_next(who, answer)[1]
                else:
                    queue.submit(who, answer)
                    card = queue.next(who)
                sent[who.name] += 1
        except BaseException as error:
            errors.append(error)

    # Two threads a person, as in two tabs.
    threads = [threading.Thread(target=work, args=(who,)) for who in people * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    judgements, items = rows_of(store, "judgement"), rows_of(store, "item")
    per_item = Counter(row["item"] for row in judgements)
    assert (
        {item["id"]: item["overlap"] for item in items}
        == per_item
        == {item["id"]: item["done_people"] for item in items}
    )
    assert max(Counter((row["item"], row["annotator"]) for row in judgements).values()) == 1
    assert not any(row["surplus"] for row in rows_of(store, "assignment"))


def test_a_paused_annotator_gets_nothing_and_keeps_the_judgements(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(3)
    ann, bea = account("ann"), account("bea")
    label(queue, ann)
    opened = open_card(queue, ann).item
    set_state(store, "ann", "paused")
    assert queue.next(_again(store, "ann")) == Nothing("paused")
    assert open_card(queue, bea).item == opened  # what was open went back
    with store.read() as transaction:
        assert len(list(transaction.current_judgements())) == 1
    set_state(store, "ann", "active")
    assert isinstance(queue.next(_again(store, "ann")), Card)


def test_items_of_a_removed_annotator_are_judged_again(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(2)
    ann, bea = account("ann"), account("bea")
    judged = label(queue, ann)
    set_state(store, "ann", "removed")
    with store.read() as transaction:
        assert transaction.totals(simulated=False) == (2, 2, 0)
        assert list(transaction.current_judgements()) == []
        assert [j.annotator for j in transaction.current_judgements(removed=True)] == ["ann"]
    assert label(queue, bea) == judged
    set_state(store, "ann", "active")
    with store.read() as transaction:
        assert len(list(transaction.current_judgements())) == 2
        assert transaction.totals(simulated=False)[2] == 2


def _again(store: Store, name: str) -> Annotator:
    with store.read() as transaction:
        found = transaction.annotator(name)
    assert found is not None
    return found
