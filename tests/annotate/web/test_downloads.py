"""`/api/v1/export`: the records of the command line, by the configuration's rules unless a request says others."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from annotate.config import ExportSection, QueueSection
from annotate.intake.items import load_items
from annotate.labels.export import export
from annotate.people.access import Access
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from annotate.web.downloads import export_routes
from tests.annotate.conftest import make_item


@pytest.fixture
def client(store: Store) -> Iterator[TestClient]:
    """One person's server, whose configuration keeps ties; of four items one is a tie and one answer was improved."""
    from fastapi import FastAPI

    load_items(store, [make_item(f"i{n}") for n in range(4)], QueueSection(overlap=1, overlap_share=0))
    access = Access(store, login=False, days=1)
    queue = Queue(store, QueueSection(lease_seconds=60))
    assert access.local is not None
    for number in range(4):
        card = queue.next(access.local)
        assert isinstance(card, Card)
        edit: dict[str, Any] = {"edited_text": "better still", "edited_response": 0} if number == 1 else {}
        strength = (0, -2, 1, 3)[number]
        queue.submit(access.local, Submission(card.item, "compared", f"key-{number:05}", strength=strength, **edit))
    app = FastAPI()
    app.include_router(export_routes(store, access, ExportSection(drop_ties=False)))
    with TestClient(app) as client:
        yield client


def _lines(client: TestClient, path: str) -> list[dict[str, Any]]:
    reply = client.get(f"/api/v1/export/{path}")
    assert reply.status_code == 200, reply.text
    name = path.partition("?")[0]
    assert reply.headers["content-disposition"] == f'attachment; filename="{name}.jsonl"'
    return [json.loads(line) for line in reply.text.splitlines()]


def test_preferences_are_those_of_the_command_line(client: TestClient, store: Store, tmp_path: Path) -> None:
    export(store, ExportSection(out=str(tmp_path / "out.jsonl"), drop_ties=False))
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert _lines(client, "preferences") == written
    assert len(written) == 4 + 2
    with store.read() as transaction:
        last = transaction.events()[-1]
    assert (last["kind"], last["detail"]["what"], last["detail"]["records"]) == ("exported", "preferences", 6)


def test_a_request_changes_the_rules(client: TestClient) -> None:
    assert len(_lines(client, "preferences?ties=false")) == 3 + 2
    assert len(_lines(client, "preferences?edits=false")) == 4
    assert _lines(client, "preferences?who=simulated") == _lines(client, "preferences?campaign=none") == []
    modes = {record["resolution"] for record in _lines(client, "preferences?resolve=single&edits=false")}
    assert modes == {"single"}
    assert client.get("/api/v1/export/preferences?resolve=guess").status_code == 422


def test_improved_answers_are_demonstrations(client: TestClient) -> None:
    (record,) = _lines(client, "demonstrations")
    assert record["response"] == "better still"
    assert len(_lines(client, "judgements")) == 4


def test_both_answers_of_a_pair_are_rated(client: TestClient) -> None:
    pairs, answers = _lines(client, "preferences?edits=false&ties=false"), _lines(client, "answers")
    assert {record["id"].split("~")[0] for record in answers if record["label"]} == {pair["id"] for pair in pairs}
