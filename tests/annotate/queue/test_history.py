"""An annotator's own judgements: filters, search, pages, stars, and what reviewers said."""

from collections.abc import Callable

import pytest

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.labels.review import adjudicate, send_reply
from annotate.queue.history import News, news, overruled, past, star, told
from annotate.queue.rules import Queue, Refused, Submission
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.conftest import Clock, make_item, open_card
from workbench.data.records import Response
from workbench.run.errors import WorkbenchError

Account = Callable[..., Annotator]
Load = Callable[..., None]


@pytest.fixture
def store(either_store: Store) -> Store:
    return either_store


@pytest.fixture
def queue(store: Store, clock: Clock) -> Queue:
    return Queue(store, QueueSection(lease_seconds=60), clock=clock)


def _answer(queue: Queue, who: Annotator, own: int, **more: object) -> int:
    """Judge the open card; `own`: the strength in the order of the item's answers."""
    card = open_card(queue, who)
    shown = own if card.left.text.startswith("first") else -own
    key = f"{who.name}-{card.item}-key"
    queue.submit(who, Submission(card.item, "compared", key, strength=shown, **more))  # type: ignore[arg-type]
    return card.item


@pytest.mark.parametrize(
    ("own", "choice", "ruling", "expected"),
    [
        (2, "compared", 1, False),  # the same side, less strongly
        (2, "compared", -1, True),
        (2, "compared", 0, True),
        (0, "compared", 0, False),
        (0, "compared", 3, True),
        (-1, "both_bad", None, True),
        (-1, "left_out", None, False),
    ],
)
def test_what_counts_as_decided_otherwise(
    queue: Queue, store: Store, account: Account, load: Load, own: int, choice: str, ruling: int | None, expected: bool
) -> None:
    load(1)
    ann, lea = account("ann"), account("lea")
    item = _answer(queue, ann, own)
    assert not overruled(past(store, ann)[0])
    adjudicate(store, lea, item, choice, strength=ruling, comment="see page 3")
    (line,) = past(store, ann)
    assert overruled(line) is expected
    assert line.ruling is not None
    assert (line.ruling.adjudicator, line.ruling.comment) == ("lea", "see page 3")
    assert [found.item for found in past(store, ann, show="overruled")] == ([item] if expected else [])
    assert news(store, ann).overruled == expected
    adjudicate(store, lea, item, "withdrawn")
    assert past(store, ann)[0].ruling is None
    assert news(store, ann) == News(0, 0, 0.0)


def test_a_ranking_is_decided_otherwise_if_one_pair_turns(queue: Queue, store: Store, account: Account) -> None:
    answers = tuple(Response(id=str(n), text=f"answer {n}") for n in range(3))
    load_items(store, [make_item("r", responses=answers)], QueueSection(compare="ranking", overlap_share=0))
    ann, lea = account("ann"), account("lea")
    card = open_card(queue, ann)
    order = [int(answer.text[-1]) for answer in card.answers]
    own = {0: 1, 1: 2, 2: 3}
    queue.submit(ann, Submission(card.item, "ranked", "a-good-key", ranking=tuple(own[place] for place in order)))
    adjudicate(store, lea, card.item, "ranked", ranking=[1, 2, 2])
    assert overruled(past(store, ann)[0])
    adjudicate(store, lea, card.item, "ranked", ranking=[1, 2, 3])
    (line,) = past(store, ann)
    assert not overruled(line)
    assert told(line)["ranking"] == told(line)["ruling"]["ranking"] == [own[place] for place in order]


def test_an_annotator_is_told_in_the_order_of_the_card(
    queue: Queue, store: Store, account: Account, load: Load, clock: Clock
) -> None:
    load(8)
    ann, lea = account("ann"), account("lea")
    for _ in range(8):
        clock.now += 1
        item = _answer(queue, ann, 2)
        adjudicate(store, lea, item, "compared", strength=-3)
    lines = past(store, ann)
    assert {line.swapped for line in lines} == {True, False}
    for line in lines:
        left_first = -1 if line.swapped else 1
        said = told(line)
        assert (said["strength"], said["ruling"]["strength"]) == (2 * left_first, -3 * left_first)
        assert said["overruled"]


def test_filters_and_search(queue: Queue, store: Store, account: Account, clock: Clock) -> None:
    texts = ["plain", 'with "quotes"\nand 100 % of_it', "Ein Größerer Fisch", "plain"]
    items = [
        make_item(f"i{n}", f"first {text}", prompt=[{"role": "user", "content": f"Q{n} {text}"}])
        for n, text in enumerate(texts)
    ]
    load_items(store, items, QueueSection(overlap=2, overlap_share=1))
    ann, bea, lea = account("ann"), account("bea"), account("lea")
    keys = []
    for more in ({"comment": "unsure about Rome"}, {"flag": "pii"}, {}):
        clock.now += 1
        keys.append(_answer(queue, ann, 1, **more))
    clock.now += 1
    card = open_card(queue, ann)
    queue.submit(ann, Submission(card.item, "skipped", "skipped-it-key", reason="no idea"))
    keys.append(card.item)
    _answer(queue, bea, 1, comment="Rome again")
    send_reply(store, lea, keys[2], "ann", "well seen")

    def found(**wanted: object) -> list[int]:
        return [keys.index(line.item) for line in past(store, ann, **wanted)]  # type: ignore[arg-type]

    assert found() == [3, 2, 1, 0]
    assert found(show="commented") == [0]
    assert found(show="flagged") == [1]
    assert found(show="skipped") == [3]
    assert found(show="replied") == [2]
    assert found(show="starred") == []
    assert found(search="rome") == [0]
    assert found(search='"quotes"\nand') == [1]
    assert found(search="100 % of_it") == [1]
    assert found(search="0_%") == []  # no wildcards
    assert found(search="content") == []  # a word of the stored form, not of the prompt
    assert found(search="GRÖSSER") == found(search="q7") == []
    assert found(search="größerer fisch") == [2]
    assert found(search="Q3", show="skipped") == [3]
    (line,) = past(store, ann, show="replied")
    assert [(reply.author, reply.text) for reply in line.replies] == [("lea", "well seen")]
    assert (news(store, ann).replied, news(store, bea).replied) == (1, 0)


def test_stars_mark_also_what_is_not_answered(queue: Queue, store: Store, account: Account, load: Load) -> None:
    load(3)
    ann, bea = account("ann"), account("bea")
    first = _answer(queue, ann, 1)
    second = open_card(queue, ann).item
    star(store, ann, first, True)
    star(store, ann, second, True)
    assert [(line.item, line.choice) for line in past(store, ann, show="starred")] == [
        (second, "open"),
        (first, "compared"),
    ]
    assert [line.item for line in past(store, ann)] == [first]
    assert [line.item for line in past(store, ann, show="starred", search="Question i1")] == [second]
    assert queue.again(ann, second).starred
    star(store, ann, second, False)
    assert [line.item for line in past(store, ann, show="starred")] == [first]
    assert past(store, bea, show="starred") == []
    with pytest.raises(Refused, match="not_given"):
        star(store, bea, first, True)


def test_many_pages_are_complete(store: Store, account: Account) -> None:
    count, page = 1200, 100
    load_items(store, [make_item(f"i{n}") for n in range(count)], QueueSection(overlap_share=0))
    ann, lea = account("ann"), account("lea")
    with store.write() as transaction:
        keys = [item.id for item in transaction.items()]
        for place, key in enumerate(keys):
            transaction.add_lease(key, ann, swapped=False, display_order=None, now=0, expires=0)
            given = transaction.assignment(key, ann.id)
            assert given is not None
            transaction.put_assignment(given._replace(state="done", revision=1))
            judged = {"item": key, "annotator": ann.id, "revision": 1, "client_key": f"key-{key:08}"}
            transaction.add_judgement(**judged, choice="compared", strength=1, swapped=False, created_at=float(place))
            if place % 3 == 0:
                ruling = {"choice": "compared", "strength": -1, "ranking": None, "comment": None}
                transaction.add_adjudication(item=key, **ruling, adjudicator=lea.id, created_at=5000.0)

    def all_pages(**wanted: object) -> list[int]:
        seen: list[int] = []
        before = None
        while lines := past(store, ann, limit=page, before=before, **wanted):  # type: ignore[arg-type]
            seen += [line.item for line in lines]
            before = lines[-1].created_at
        return seen

    assert all_pages() == keys[::-1]
    assert all_pages(show="overruled") == keys[::3][::-1]
    assert news(store, ann) == News(400, 0, 5000.0)


def test_replies_go_to_those_who_judged_the_item(queue: Queue, store: Store, account: Account, load: Load) -> None:
    load(1)
    ann, lea = account("ann"), account("lea")
    account("bea")
    item = _answer(queue, ann, 1)
    for name, text, problem in [
        ("bea", "hello", "has not judged"),
        ("zoe", "hello", "no annotator"),
        ("ann", " ", "empty"),
    ]:
        with pytest.raises(WorkbenchError, match=problem):
            send_reply(store, lea, item, name, text)
    assert past(store, ann)[0].replies == ()
