import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from annotate.arena.battles import Battles
from annotate.arena.routes import Arena
from annotate.campaign.battles import OPENED
from annotate.config import ServerSection
from annotate.people.access import Access
from annotate.store.database import Store
from annotate.web.contents import PageContents
from annotate.web.security import MOST_BODY_BYTES
from annotate.web.texts import Texts
from tests.annotate.arena.conftest import KEY, wait_for
from tests.annotate.conftest import PASSWORD
from workbench.serve.engine import Engine

RUNS = ["runs/one", "runs/two", "runs/three"]
API = "/api/v1/arena"


def client_of(store: Store, engine: Engine, runs: list[str], *, login: bool = True) -> TestClient:
    from annotate.arena.app import create_arena  # gradio takes seconds to load

    arena = Arena(store, Battles(runs, key=KEY, seed=0), engine, Texts(), 0.7)
    app = create_arena(arena, PageContents("Arena"), Access(store, login=login, days=1), ServerSection())
    return TestClient(app, base_url="http://localhost", follow_redirects=False)


@pytest.fixture
def client(filled: Store, engine: Engine) -> Iterator[TestClient]:
    with filled.write() as transaction:
        transaction.add_event(OPENED, 0.0, runs=RUNS)
    with client_of(filled, engine, RUNS) as client:
        yield client


@pytest.fixture
def enter(client: TestClient) -> Callable[[str], None]:
    def log_in(name: str = "ann") -> None:
        client.cookies.clear()
        reply = client.post("/login", data={"name": name, "password": PASSWORD})
        assert (reply.status_code, reply.headers["location"]) == (303, "/arena/")

    log_in()
    return log_in


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def events(client: TestClient, battle: str, *messages: dict[str, str], **more: Any) -> list[dict[str, Any]]:
    reply = client.post(f"{API}/answers", json={"battle": battle, "messages": list(messages), **more})
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    return [json.loads(part.removeprefix("data: ")) for part in reply.text.split("\n\n") if part]


def answers(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ends = {event["side"]: event["end"] for event in found if "end" in event}
    return [{name: ends[side][name] for name in ("text", "ended", "seal")} for side in sorted(ends)]


def body(battle: str, given: list[dict[str, Any]], *messages: dict[str, str], **more: Any) -> dict[str, Any]:
    values = {"choice": "compared", "strength": 2, "client_key": f"key-of-{battle[:40]}", **more}
    return {"battle": battle, "messages": list(messages), "answers": given, **values}


def test_a_battle_of_two_turns(client: TestClient, enter: Callable[[str], None], filled: Store) -> None:
    begun = client.post(f"{API}/battle").json()
    assert begun["name"] == "ann"
    found = events(client, begun["battle"], user("say 2"))
    pieces = {side: "".join(e["add"] for e in found if e.get("side") == side and "add" in e) for side in (0, 1)}
    first = answers(found)
    assert [pieces[0], pieces[1]] == [answer["text"] for answer in first]
    second = [user("say 2"), {"role": "assistant", "content": first[1]["text"]}, user("say 3")]
    given = answers(events(client, begun["battle"], *second))
    assert not any(run in json.dumps(given) for run in RUNS)
    vote = body(begun["battle"], given, *second)
    reply = client.post(f"{API}/vote", json=vote)
    assert reply.status_code == 200
    runs = reply.json()["runs"]
    assert [f"r{RUNS.index(run)}" for run in runs] == [answer["text"][:2] for answer in given]
    assert client.post(f"{API}/vote", json=vote).json()["runs"] == runs  # sent again, counted once
    with filled.read() as transaction:
        item = next(item for item in transaction.items() if item.item_id.startswith("arena-"))
        assert json.loads(item.prompt) == second
        assert [answer.run for answer in transaction.responses(item.id)] == runs
        assert len(list(transaction.all_judgements())) == 1
    page = client.get("/leaderboard").text
    assert "1 vote." in page
    assert "Too few votes" in page
    assert all(run in page for run in RUNS)


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"battle": "0" * 24 + ".bad"}, 409, "not begun here"),
        ({"messages": [user("say 2, but other")]}, 409, "not the answers"),
        ({"messages": [user(" ")]}, 422, "must end with a message"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 422, "must end with a message"),
        ({"messages": [user("NUL \x00")]}, 422, "cannot be stored"),
        ({"strength": 4}, 422, ""),
        ({"strength": None}, 409, "strength"),
        ({"choice": "skipped"}, 422, ""),
        ({"runs": RUNS[:2]}, 422, ""),
    ],
)
def test_bad_votes_store_nothing(
    client: TestClient, enter: Callable[[str], None], filled: Store, change: dict[str, Any], status: int, said: str
) -> None:
    battle = client.post(f"{API}/battle").json()["battle"]
    given = answers(events(client, battle, user("say 2")))
    reply = client.post(f"{API}/vote", json={**body(battle, given, user("say 2")), **change})
    assert reply.status_code == status
    assert said in reply.text
    with filled.read() as transaction:
        assert not any(item.item_id.startswith("arena-") for item in transaction.items())


def test_a_forged_answer_is_no_answer(client: TestClient, enter: Callable[[str], None]) -> None:
    battle = client.post(f"{API}/battle").json()["battle"]
    given = answers(events(client, battle, user("say 2")))
    for forged in ([{**given[0], "text": "better"}, given[1]], given[::-1], [{**given[0], "seal": "é"}, given[1]]):
        assert client.post(f"{API}/vote", json=body(battle, forged, user("say 2"))).status_code == 409


def test_an_error_is_said_once(client: TestClient, enter: Callable[[str], None]) -> None:
    battle = client.post(f"{API}/battle").json()["battle"]
    assert events(client, battle, user("refuse this")) == [{"error": "too long"}]


def test_one_side_is_stopped_and_written_again(
    client: TestClient, enter: Callable[[str], None], engine: Engine
) -> None:
    battle = client.post(f"{API}/battle").json()["battle"]
    found: list[dict[str, Any]] = []
    stream = threading.Thread(target=lambda: found.extend(events(client, battle, user("wait"))))
    stream.start()
    wait_for(lambda: len(engine._at_work) == 2)
    assert client.post(f"{API}/stop", json={"battle": battle, "side": 1}).status_code == 200
    wait_for(lambda: len(engine._at_work) == 1)
    enter("bea")  # somebody else stops nothing of ann's
    client.post(f"{API}/stop", json={"battle": battle})
    assert len(engine._at_work) == 1
    enter("ann")
    client.post(f"{API}/stop", json={"battle": battle})
    stream.join()
    ends = [event["end"] for event in found if "end" in event]
    assert [end["ended"] for end in ends] == [False, False]
    again = events(client, battle, user("say 1"), sides=[1], attempt=1)
    assert {event["side"] for event in again} == {1}


def test_who_may_do_what(client: TestClient) -> None:
    for path in ("battle", "answers", "stop", "vote"):
        assert client.post(f"{API}/{path}", json={}).status_code == 401, path
    assert client.get("/leaderboard").status_code == 401
    assert client.get("/arena/").headers["location"] == "/login"
    assert client.get("/arena/config").status_code == 401
    for inner in ("gradio_api/queue/join", "gradio_api/upload", "gradio_api/run/predict"):
        assert client.post(f"/arena/{inner}").status_code == 403, inner


def test_other_sites_and_large_bodies_are_refused(client: TestClient, enter: Callable[[str], None]) -> None:
    foreign = client.post(f"{API}/battle", headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403
    large = {"battle": "x", "messages": [user("x" * MOST_BODY_BYTES)]}
    assert client.post(f"{API}/answers", json=large).status_code == 413


def test_the_page_names_no_run(client: TestClient, enter: Callable[[str], None]) -> None:
    page = client.get("/arena/").text
    assert "arena.js" in page
    assert not any(run in page for run in RUNS)


def test_a_chat_has_one_side_and_no_votes(filled: Store, engine: Engine) -> None:
    with client_of(filled, engine, RUNS[:1], login=False) as client:
        assert RUNS[0] in client.get("/arena/").text
        battle = client.post(f"{API}/battle").json()["battle"]
        assert answers(events(client, battle, user("say 1"), sides=[0]))[0]["text"] == "r0 "
        two = client.post(f"{API}/answers", json={"battle": battle, "messages": [user("say 1")]})
        assert (two.status_code, two.json()["detail"]) == (422, "a chat has one side")
        given = answers(events(client, battle, user("say 1"), sides=[0])) * 2
        assert client.post(f"{API}/vote", json=body(battle, given, user("say 1"))).status_code == 409
        assert client.get("/leaderboard").status_code == 404
        assert client.get("/arena/", headers={"Host": "evil.example"}).status_code == 400
