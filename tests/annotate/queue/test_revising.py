"""Answers sent twice, changed, skipped and taken back, on both databases."""

from annotate.queue.rules import Card, Nothing, Queue, Submission
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.conftest import label, open_card
from tests.annotate.queue.conftest import Account, Load, rows_of


def test_submit_is_idempotent_by_client_key(store: Store, queue: Queue, account: Account, load: Load) -> None:
    load(1)
    ann = account("ann")
    item = open_card(queue, ann).item
    first = queue.submit(ann, Submission(item, "compared", strength=3, client_key="the-same-key"))
    again = queue.submit(ann, Submission(item, "compared", strength=-3, client_key="the-same-key"))
    assert (first.repeated, again.repeated, again.revision) == (False, True, 1)
    assert len(rows_of(store, "judgement")) == 1


def test_an_edit_is_a_new_revision_and_the_old_one_stays(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(1)
    ann = account("ann")
    item = open_card(queue, ann).item
    queue.submit(ann, Submission(item, "compared", strength=3, client_key="first-key"))
    assert queue.submit(ann, Submission(item, "both_bad", client_key="second-key")).revision == 2
    assert [row["choice"] for row in rows_of(store, "judgement")] == ["compared", "both_bad"]
    with store.read() as transaction:
        (current,) = transaction.current_judgements()
        assert transaction.totals(simulated=False)[2] == 1
    assert current.choice == "both_bad"


def test_undo_withdraws_and_gives_the_card_back(store: Store, queue: Queue, account: Account, load: Load) -> None:
    load(3)
    ann = account("ann")
    label(queue, ann)
    second = label(queue, ann, strength=-2)
    third = open_card(queue, ann).item  # already open when the person goes back
    card = queue.undo(ann, client_key="undo-key-1")
    assert card is not None
    assert (card.item, card.previous) == (second, {"choice": "compared", "strength": -2})
    assert open_card(queue, ann).item == second
    with store.read() as transaction:
        assert transaction.totals(simulated=False)[2] == 1
        assert len(list(transaction.current_judgements())) == 1
    queue.submit(ann, Submission(second, "compared", strength=1, client_key="after-undo"))
    assert open_card(queue, ann).item == third
    with store.read() as transaction:
        assert transaction.totals(simulated=False)[2] == 2


def test_undo_twice_goes_back_two_answers_but_one_key_only_one(queue: Queue, account: Account, load: Load) -> None:
    load(3)
    ann = account("ann")
    first, second = label(queue, ann), label(queue, ann)
    for key, item in (("undo-key-1", second), ("undo-key-1", second), ("undo-key-2", first)):
        card = queue.undo(ann, client_key=key)
        assert card is not None
        assert card.item == item
    assert queue.undo(ann, client_key="undo-key-3") is None


def test_a_skipped_item_goes_to_others_and_can_be_taken_back(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(1)
    ann, bea = account("ann"), account("bea")
    item = open_card(queue, ann).item
    queue.submit(ann, Submission(item, "skipped", client_key="skip-key-1", reason="not my field"))
    assert isinstance(queue.next(ann), Nothing)
    assert queue.undo(ann, client_key="undo-key-1") is not None
    assert open_card(queue, ann).item == item
    queue.submit(ann, Submission(item, "skipped", client_key="skip-key-2"))
    assert label(queue, bea) == item
    with store.read() as transaction:
        assert transaction.totals(simulated=False) == (1, 1, 1)


def test_a_withdrawn_answer_comes_before_what_was_leased_ahead(queue: Queue, account: Account, load: Load) -> None:
    load(4)
    ann = account("ann")
    first = label(queue, ann)
    second, third = open_card(queue, ann).item, queue.ahead(ann)
    assert isinstance(third, Card)
    assert queue.undo(ann, client_key="undo-key-1") is not None
    order = [_judge_once(queue, ann, number) for number in range(3)]
    assert order == [first, second, third.item]


def _judge_once(queue: Queue, who: Annotator, number: int) -> int:
    item = open_card(queue, who).item
    queue.submit(who, Submission(item, "both_bad", client_key=f"again-{number}-{item}"))
    return item
