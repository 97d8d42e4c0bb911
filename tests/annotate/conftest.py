"""A store with items and accounts, small enough to count by hand."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.people import accounts as people
from annotate.people.accounts import add_account
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from annotate.store.statements import Annotator
from annotate.web.contents import PageContents
from annotate.web.reward_files import RewardFiles
from tests.annotate.postgres import Server, missing
from tests.conftest import skip_or_fail
from workbench.data.records import Item, Message, Response


def make_item(name: str, first: str = "first answer", second: str = "second answer", **more: object) -> Item:
    """An item of two answers; its id, group and prompt are made from `name`."""
    responses = (
        Response(id="a", text=first, run="runs/one", temperature=0.7),
        Response(id="b", text=second, run="runs/two", temperature=1.3, ended=False),
    )
    prompt = (Message(role="user", content=f"Question {name}?"),)
    values = {"id": name, "group": f"group-{name}", "prompt": prompt, "responses": responses, **more}
    return Item.model_validate(values)


PASSWORD = "correct horse battery"


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def open_card(queue: Queue, who: Annotator) -> Card:
    """The card that this annotator gets."""
    card = queue.next(who)
    assert isinstance(card, Card), card
    return card


def label(queue: Queue, who: Annotator, strength: int = 1) -> int:
    """Judge it, and return its item."""
    card = open_card(queue, who)
    queue.submit(who, Submission(card.item, "compared", strength=strength, client_key=f"{who.name}-{card.item}-key"))
    return card.item


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    reason = missing()
    if reason is not None:
        skip_or_fail(reason)
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "labels.sqlite", durable=False)  # the disk is waited for in `test_database`
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def either_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store in each of the databases; tests take it as `store`."""
    if request.param == "sqlite":
        url: str | Path = tmp_path / "labels.sqlite"
    else:
        url = request.getfixturevalue("postgres_server").empty_database()
    opened = Store.open(url, durable=False)
    yield opened
    opened.close()


@pytest.fixture
def account(store: Store) -> Callable[..., Annotator]:
    def add(name: str, *, simulated: bool = False) -> Annotator:
        with store.write() as transaction:
            transaction.add_annotator(name, "annotator", 0.0, simulated=simulated)
            found = transaction.annotator(name)
        assert found is not None
        return found

    return add


@pytest.fixture
def load(store: Store) -> Callable[..., None]:
    def add(count: int, *, overlap: int = 1, prefix: str = "i", priority: float = 0) -> None:
        items = [make_item(f"{prefix}{number}") for number in range(count)]
        load_items(store, items, QueueSection(overlap=overlap, overlap_share=1, priority=priority))

    return add


@pytest.fixture(autouse=True, scope="package")
def _quick_hashes() -> Iterator[None]:
    """Argon2 as it is, with less work: hundreds of hashes are made here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("annotate.people.accounts._hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        people._hash_of_nobody.cache_clear()
        yield
        people._hash_of_nobody.cache_clear()


def client_of(store: Store, *, login: bool, reward: RewardFiles | None = None, blind_review: bool = True) -> TestClient:
    from annotate.web.app import create_app  # gradio takes seconds to load: only where it is used

    queue = Queue(store, QueueSection(lease_seconds=60, overlap=1, overlap_share=0))
    app = create_app(store, queue, PageContents("Which <b>?"), login=login, reward=reward, blind_review=blind_review)
    return TestClient(app, base_url="http://localhost", follow_redirects=False)


@pytest.fixture
def filled(store: Store) -> Store:
    add_account(store, "ann", "annotator", PASSWORD)
    add_account(store, "bea", "annotator", PASSWORD)
    add_account(store, "rev", "reviewer", PASSWORD)
    add_account(store, "lead", "admin", PASSWORD)
    load_items(store, [make_item(f"i{n}") for n in range(5)], QueueSection(overlap=1, overlap_share=0))
    return store


@pytest.fixture
def client(filled: Store) -> Iterator[TestClient]:
    with client_of(filled, login=True) as client:
        yield client


@pytest.fixture
def log_in(client: TestClient) -> Callable[..., None]:
    def enter(name: str = "ann") -> None:
        client.cookies.clear()
        reply = client.post("/login", data={"name": name, "password": PASSWORD})
        assert (reply.status_code, reply.headers["location"]) == (303, "/label/")

    return enter


@pytest.fixture(scope="session")
def other_run(tmp_path_factory: pytest.TempPathFactory, sft_run: Path) -> Path:
    """A finished run on the base of `sft_run`, with other weights."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("runs") / "other"
    shutil.copytree(sft_run, folder)
    file = folder / "adapter/adapter_model.safetensors"
    noise = torch.Generator().manual_seed(1)
    weights = {name: w + 0.1 * torch.randn(w.shape, generator=noise) for name, w in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    return folder
