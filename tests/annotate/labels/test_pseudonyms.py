"""Exports without the names of annotators."""

import json
from pathlib import Path

from annotate.config import ExportSection, QueueSection
from annotate.intake.items import load_items
from annotate.labels.export import export, preferences
from annotate.labels.raw_export import raw_judgements
from annotate.queue.rules import Queue, Submission
from annotate.store.database import Store
from tests.annotate.conftest import make_item, open_card
from tests.annotate.queue.conftest import Account

NAMES = ("zoe", "bea@example.org")


def fill(store: Store, account: Account) -> None:
    load_items(store, [make_item(f"i{n}") for n in range(3)], QueueSection(overlap=2, overlap_share=1))
    queue = Queue(store, QueueSection())
    for name in NAMES:
        who = account(name)
        for number in range(3):
            card = open_card(queue, who)
            better = 0 if card.answers[0].text == "first answer" else 1
            edit = {"edited_text": "improved", "edited_response": better} if number == 0 else {}
            key = f"{name[:3]}-key-{number}"
            queue.submit(who, Submission(card.item, "compared", key, strength=-2 if better == 0 else 2, **edit))


def test_hashed_names_are_in_no_export_and_stay_the_same(store: Store, account: Account, tmp_path: Path) -> None:
    fill(store, account)
    section = ExportSection(out=str(tmp_path / "out.jsonl"), demonstrations=str(tmp_path / "demos.jsonl"), names="hash")
    export(store, section)
    raw = list(raw_judgements(store, names="hash"))
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in ("out.jsonl", "demos.jsonl")]
    for text in (*texts, json.dumps(raw)):
        assert "annotator-" in text
        assert not any(name in text for name in NAMES)
    first = {name for record in preferences(store, section).preferences for name in record.annotators}
    assert first == {record["annotator"] for record in raw}
    assert len(first) == 2
    plain = preferences(store, section.model_copy(update={"names": "plain"})).preferences
    assert {name for record in plain for name in record.annotators} == set(NAMES)
    assert [record.chosen for record in plain] == [r.chosen for r in preferences(store, section).preferences]


def test_another_store_has_other_pseudonyms(store: Store, account: Account, tmp_path: Path) -> None:
    fill(store, account)
    backup = tmp_path / "backup.sqlite"
    before = {record["annotator"] for record in raw_judgements(store, names="hash")}
    store.backup(backup)
    copy = Store.open(backup)
    assert {record["annotator"] for record in raw_judgements(copy, names="hash")} == before
    with copy.write() as transaction:
        transaction.put_setting("pseudonym_key", "00" * 32)
    assert not before & {record["annotator"] for record in raw_judgements(copy, names="hash")}
    copy.close()
