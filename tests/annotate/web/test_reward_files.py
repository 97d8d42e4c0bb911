"""What a reward model says on the lead's page: the curve is shown, and one click has pairs judged again."""

import json
from pathlib import Path

import pytest

from annotate.config import QueueSection
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from annotate.web.reward_files import RewardFiles
from tests.annotate.conftest import PASSWORD, client_of
from tests.conftest import write_jsonl
from workbench.run.errors import WorkbenchError

CURVE = {
    "points": [
        {"seed": seed, "pairs": n, "accuracy": 0.6 + n / 1e4, "ece": 0.1} for n in (100, 200) for seed in range(3)
    ],
    "line": [[100, 0.61, 0.6, 0.62], [200, 0.62, 0.61, 0.63], [400, 0.63, 0.6, 0.66]],
    "sentence": "200 more pairs: +1.0 ± 0.4 points",
}


@pytest.fixture
def files(tmp_path: Path) -> RewardFiles:
    return RewardFiles(tmp_path / "curve", tmp_path / "again.jsonl")


def judged_by_ann(store: Store) -> None:
    queue = Queue(store, QueueSection(lease_seconds=60))
    with store.read() as transaction:
        ann = transaction.annotator("ann")
    assert ann is not None
    while isinstance(card := queue.next(ann), Card):
        queue.submit(ann, Submission(card.item, "compared", f"key-of-{card.item_id}", strength=1))


def test_one_click_sends_the_pairs_back_and_the_next_person_gets_them(filled: Store, files: RewardFiles) -> None:
    judged_by_ann(filled)
    assert files.relabel is not None
    rows = [
        {"id": "i3", "priority": 3.0, "again": True, "prompt": "Where is <b>it</b>?"},
        {"id": "gone", "priority": 3.0},
    ]
    write_jsonl(files.relabel, rows)
    with client_of(filled, login=True, reward=files) as client:
        for name in ("ann", "rev"):
            client.cookies.clear()
            client.post("/login", data={"name": name, "password": PASSWORD})
            page = client.get("/lead")
            if name == "ann":
                assert page.status_code == client.post("/lead/relabel").status_code == 403
                continue
            assert "asks for 2 pairs" in page.text
            assert "<li>Where is &lt;b&gt;it&lt;/b&gt;?</li>" in page.text
            assert "reward curve CONFIG.yaml" in page.text, "says how a missing curve is made"
            reply = client.post("/lead/relabel")
            assert (reply.status_code, reply.headers["location"]) == (303, "/lead?sent=1#reward")
            assert "1 pair is handed out first now." in client.get("/lead?sent=1").text
    with filled.read() as transaction:
        opened = {item.item_id: (item.overlap, item.priority) for item in transaction.items()}
        bea = transaction.annotator("bea")
    assert opened == {f"i{n}": (2, 3.0) if n == 3 else (1, 0.0) for n in range(5)}
    assert bea is not None
    card = Queue(filled, QueueSection(lease_seconds=60)).next(bea)
    assert isinstance(card, Card)
    assert card.item_id == "i3"


def test_the_curve_is_shown(filled: Store, files: RewardFiles) -> None:
    assert files.curve_folder is not None
    files.curve_folder.mkdir()
    (files.curve_folder / "curve.json").write_text(json.dumps(CURVE), encoding="utf-8")
    with client_of(filled, login=True, reward=files) as client:
        client.post("/login", data={"name": "rev", "password": PASSWORD})
        page = client.get("/lead").text
    assert page.count('class="dot"') >= 6
    assert "200 more pairs: +1.0 ± 0.4 points" in page
    assert "No pairs to judge again yet" in page


def test_without_files_nothing_is_said(filled: Store) -> None:
    with client_of(filled, login=True) as client:
        client.post("/login", data={"name": "rev", "password": PASSWORD})
        assert 'id="reward"' not in client.get("/lead").text
        assert client.post("/lead/relabel").status_code == 422


def test_a_file_that_is_no_curve_is_named(files: RewardFiles) -> None:
    assert files.curve_folder is not None
    files.curve_folder.mkdir()
    (files.curve_folder / "curve.json").write_text('{"points": []}', encoding="utf-8")
    with pytest.raises(WorkbenchError, match="is no learning curve"):
        files.curve()
