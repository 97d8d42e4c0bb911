"""The card as a component of other applications: what it sends to browsers, and whose answers it takes."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import annotate.web
from annotate.config import PageSection, QueueSection
from annotate.intake.items import load_items
from annotate.people.accounts import add_account, set_state
from annotate.store.database import Store
from annotate.web.card import PreferenceCard
from annotate.web.embed import open_desk
from tests.annotate.conftest import PASSWORD, make_item
from workbench.data.readers import write_records
from workbench.run.errors import WorkbenchError

LOCAL = ("127.0.0.1", 50_000)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A store with items and without accounts."""
    path = tmp_path / "labels.sqlite"
    store = Store.open(path)
    load_items(store, [make_item(f"i{n}") for n in range(4)], QueueSection(overlap=1, overlap_share=0))
    store.close()
    return path


class Host:
    """Somebody's application with a card in it, asked as a browser asks."""

    def __init__(self, card: Callable[[], PreferenceCard], *, client: tuple[str, int] = LOCAL, **mounted: Any) -> None:
        async def mount() -> FastAPI:  # without a running event loop Gradio makes some that it never closes
            with gr.Blocks() as blocks:
                self.card = card()
            return gr.mount_gradio_app(FastAPI(), blocks, path="/tools", **mounted)

        app = asyncio.run(mount())
        self.client = TestClient(app, base_url="http://localhost:7860", client=client)

    def ask(self, name: str, data: Any = None, **headers: str) -> Any:
        body = {"data": data or {}, "component_id": self.card._id, "fn_name": f"label_{name}", "session_hash": "card"}
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"/tools/gradio_api/component_server/?{name}", json=body, headers=headers)

    def judge(self, key: str = "key-0001", **more: Any) -> Any:
        item = self.ask("next").json()["card"]["item"]
        return self.ask("submit", {"item": item, "choice": "compared", "strength": 2, "client_key": key, **more})


@pytest.fixture
def host(labels: Path) -> Iterator[Callable[..., Host]]:
    opened: list[Host] = []

    def make(*, client: tuple[str, int] = LOCAL, mounted: dict[str, Any] | None = None, **arguments: Any) -> Host:
        opened.append(Host(lambda: PreferenceCard(labels, **arguments), client=client, **(mounted or {})))
        return opened[-1]

    yield make
    for one in opened:
        one.card.desk.store.close()


def names(host: Host) -> list[str]:
    with host.card.desk.store.read() as transaction:
        return [account.name for account in transaction.annotators()]


def test_a_card_labels_without_the_queue(host: Callable[..., Host]) -> None:
    one = host()
    assert one.ask("me").json() == {"name": "local", "role": "admin", "state": "active", "login": False}
    saved = one.judge()
    assert (saved.status_code, saved.json()["revision"]) == (200, 1)
    assert saved.json()["progress"]["mine"] == 1
    assert one.ask("mine", {"limit": 5}).json()[0]["strength"] == 2
    assert one.ask("undo", {"client_key": "key-0002"}).json()["undone"] is True
    assert one.ask("ahead", {"known": []}).json()["card"] is not None
    assert one.ask("guidelines").json()["version"] is None


def test_statuses_say_what_is_wrong(host: Callable[..., Host]) -> None:
    one = host(annotator=lambda request: request.headers.get("who"))
    assert one.ask("next").status_code == 401
    item = one.ask("next", who="ann").json()["card"]["item"]
    body = {"item": item, "choice": "compared", "strength": 1, "client_key": "key-0001"}
    refused = one.ask("submit", body, who="bea")
    assert refused.status_code == 409
    assert isinstance(refused.json()["detail"], str)
    assert one.ask("submit", {**body, "strength": 9}, who="ann").status_code == 422
    assert one.ask("submit", [1, 2], who="ann").status_code == 422
    assert one.ask("again", {"item": item}, who="bea").status_code == 404
    assert one.ask("submit", body, who="ann").status_code == 200


def test_an_error_of_the_server_is_one(host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch) -> None:
    one = host()
    one.client = TestClient(one.client.app, "http://localhost", raise_server_exceptions=False, client=LOCAL)
    monkeypatch.setattr(one.card.desk.labelling, "next", lambda who: 1 / 0)
    assert one.ask("next").status_code == 500
    assert one.ask("me").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example", "sec_fetch_site": "cross-site"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_requests_of_other_sites_are_refused(headers: dict[str, str], host: Callable[..., Host]) -> None:
    one = host(annotator="ann")
    assert one.ask("next", origin="http://localhost:7860", sec_fetch_site="same-origin").status_code == 200
    assert one.ask("next", origin="http://localhost:7860").status_code == 200
    assert one.ask("next", **headers).status_code == 403


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        (("10.0.0.7", 50_000), {}),
        (LOCAL, {"host": "labels.example.org"}),
        (LOCAL, {"x_forwarded_for": "10.0.0.7"}),
    ],
    ids=["another machine", "another name", "a proxy"],
)
def test_the_local_person_sits_at_this_computer(
    client: tuple[str, int], headers: dict[str, str], host: Callable[..., Host]
) -> None:
    reply = host(client=client).ask("next", **headers)
    assert reply.status_code == 403
    assert "annotator=" in reply.json()["detail"]
    named = host(client=client, annotator="ann")
    assert named.ask("next", **headers).status_code == 200
    assert names(named)[-1] == "ann"


def test_logins_of_gradio_name_the_annotator(host: Callable[..., Host]) -> None:
    one = host(mounted={"auth": [("ann", PASSWORD), ("bea", PASSWORD)]})
    assert one.ask("next").status_code == 401
    assert one.client.post("/tools/login", data={"username": "bea", "password": PASSWORD}).status_code == 200
    assert one.ask("me").json()["name"] == "bea"
    assert one.ask("me").json()["role"] == "annotator"


@pytest.mark.parametrize("waits", [False, True], ids=["plain", "async"])
def test_logins_of_the_application_name_the_annotator(waits: bool, host: Callable[..., Host]) -> None:
    def user(request: Any) -> str | None:
        return request.headers.get("who")

    async def user_later(request: Any) -> str | None:
        return request.headers.get("who")

    one = host(mounted={"auth_dependency": user_later if waits else user})
    assert one.ask("me").status_code == 401
    for name in ("ann", "bea", "ann"):
        assert one.ask("me", who=name).json() == {
            "name": name, "role": "annotator", "state": "active", "login": False,
        }  # fmt: skip
    assert names(one) == ["ann", "bea"]
    assert one.ask("me", who="<script>").status_code == 403
    set_state(one.card.desk.store, "ann", "removed")
    assert one.ask("next", who="ann").status_code == 403
    assert one.ask("next", who="bea").status_code == 200


def test_with_accounts_in_the_store_somebody_must_be_named(labels: Path, host: Callable[..., Host]) -> None:
    store = Store.open(labels)
    add_account(store, "lead", "admin", PASSWORD)
    store.close()
    reply = host().ask("next")
    assert reply.status_code == 403
    assert "has accounts" in reply.json()["detail"]
    assert host(annotator="ann").ask("next").status_code == 200


def test_what_browsers_get(labels: Path, tmp_path: Path) -> None:
    page = PageSection(edit=False, rubric=("honest",))
    more = {"title": "${alert(1)} {{x}} `", "page": page, "height": 500}
    one = Host(lambda: PreferenceCard(labels, annotator="ann", **more))
    card, sent_to_browsers = one.card, one.client.get("/tools/config").json()
    (config,) = [one for one in sent_to_browsers["components"] if one["id"] == card._id]
    sent = json.dumps(config)
    assert str(labels) not in sent
    assert "first answer" not in sent
    props = config["props"]
    assert props["html_template"] == "${shell}"  # its value is inserted, not run
    assert "${alert(1)} {{x}} `" in props["props"]["shell"]
    settings = props["props"]["shell"].split('data-settings="')[1].split('"')[0].replace("&#34;", '"')
    assert json.loads(settings)["store"] == card.desk.store_id
    assert json.loads(settings)["pages"] is False
    assert not list(Path(annotate.web.__file__).parent.glob("*.pyi"))
    card.desk.store.close()


def test_listeners_hear_of_answers(labels: Path) -> None:
    def card() -> PreferenceCard:
        made = PreferenceCard(labels)
        made.answered(lambda: "answered", None, gr.Textbox())
        return made

    one = Host(card)
    dependencies = one.client.get("/tools/config").json()["dependencies"]
    assert [target for one in dependencies for target in one["targets"]] == [[one.card._id, "answered"]]
    one.card.desk.store.close()


def test_items_are_loaded_once_and_missing_ones_reported(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="no pairs to label"):
        open_desk(tmp_path / "empty.sqlite")
    write_records(tmp_path / "items.jsonl", [make_item("one")])
    for _ in range(2):
        desk = open_desk(tmp_path / "labels.sqlite", items=tmp_path / "items.jsonl")
        with desk.store.read() as transaction:
            assert transaction.totals(simulated=False)[0] == 1
        desk.store.close()
    with pytest.raises(WorkbenchError, match="cannot be a name"):
        open_desk(tmp_path / "labels.sqlite", annotator="<b>")
