"""A judge counts only once its agreement with people is known, and not after its model or wording changed."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from annotate.config import AnnotateConfig, ExportSection, JudgeSection, QueueSection
from annotate.intake.items import load_items
from annotate.intake.labels import Origin, store_labels
from annotate.judge.calibration import calibrations, not_counting
from annotate.judge.endpoint import KEY, Judge, Verdict, account_name, verdict_of
from annotate.judge.label import judge_items
from annotate.labels.export import preferences
from annotate.store.database import Store
from tests.annotate.conftest import make_item
from workbench.data.records import ItemLabel
from workbench.run.errors import WorkbenchError

Rule = Callable[[str, str], str]
ITEMS, DOUBLE = 40, 30


class Endpoint:
    """A server that replies by a rule on the two answers."""

    def __init__(self) -> None:
        self.rule: Rule = lambda first, second: "A" if "good" in first else "B"
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.fails_after: int | None = None
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append(body)
                endpoint.keys.append(self.headers.get("Authorization"))
                if endpoint.fails_after is not None and len(endpoint.requests) > endpoint.fails_after:
                    self.send_error(503, "overloaded")
                    return
                text = body["messages"][0]["content"]
                first, second = text.split("Answer A:\n")[1].split("\n\nReply with")[0].split("\n\nAnswer B:\n")
                reply = json.dumps({"choices": [{"message": {"content": endpoint.rule(first, second)}}]}).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    yield server
    server.stop()


@pytest.fixture
def filled(tmp_path) -> Iterator[Store]:
    """40 items; the answer that says "good" is first in every second one. People decided 30, and always for it."""
    store = Store.open(tmp_path / "judged.sqlite")
    texts = [("a good answer, at length", "poor"), ("poor, but longer by far than it", "good")]
    names = [f"item{number:02}" for number in range(ITEMS)]
    load_items(store, [make_item(name, *texts[n % 2]) for n, name in enumerate(names)], QueueSection())
    labels = [(name, ItemLabel(strength=-2 if n % 2 == 0 else 2)) for n, name in enumerate(names[:DOUBLE])]
    with store.write() as transaction:
        store_labels(store, transaction, labels, Origin("people", as_people=True), time.time())
    yield store
    store.close()


def config_of(endpoint: Endpoint, **changes: object) -> AnnotateConfig:
    judge = {"url": endpoint.url, "model": "two", "parallel": 4, **changes}
    return AnnotateConfig(judge=JudgeSection(**judge), export=ExportSection(judge_items=DOUBLE))


def annotators(store: Store, config: AnnotateConfig) -> set[str]:
    records = preferences(store, config.export).preferences
    return {name for record in records for name in record.annotators}


def test_a_sound_judge_counts_and_judges_the_rest(endpoint: Endpoint, filled: Store) -> None:
    config = config_of(endpoint)
    lines = judge_items(filled, config)
    account = account_name(config.judge)
    assert lines[-1] == "counts in exports"
    assert len(endpoint.requests) == 2 * ITEMS
    found = calibrations(filled)[account]
    assert (found.judged, found.double) == (ITEMS, DOUBLE)
    assert found.agreement is not None
    assert found.position is not None
    assert found.agreement.mean == 1
    assert found.agreement.low == pytest.approx(0.886, abs=0.001)  # Wilson: 30 / (30 + 1.96²)
    assert found.position.mean == 0
    assert annotators(filled, config) == {"people", account}
    exported = preferences(filled, config.export).preferences
    assert len(exported) == ITEMS
    assert all("good" in record.chosen_text for record in exported)
    before = len(endpoint.requests)
    judge_items(filled, config)
    assert len(endpoint.requests) == before  # every item is judged once


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (lambda first, second: "A", "agreement with people 50.0%"),
        (lambda first, second: "B" if "good" in first else "A", "agreement with people 0.0%"),
        (lambda first, second: "A" if len(first) > len(second) else "B", "agreement with people 50.0%"),
    ],
    ids=["first", "contrary", "longer"],
)
def test_a_biased_judge_counts_nowhere(endpoint: Endpoint, filled: Store, rule: Rule, said: str) -> None:
    endpoint.rule = rule
    config = config_of(endpoint)
    lines = judge_items(filled, config)
    assert lines[-1].startswith("counts in no export")
    assert said in lines[-1]
    assert len(endpoint.requests) == 2 * DOUBLE  # nothing is spent on the others
    assert annotators(filled, config) == {"people"}


def test_the_biases_are_measured(endpoint: Endpoint, filled: Store) -> None:
    config = config_of(endpoint)
    endpoint.rule = lambda first, second: "A" if len(first) > len(second) else "B"
    judge_items(filled, config)
    found = calibrations(filled)[account_name(config.judge)]
    assert found.longer is not None
    assert found.longer.mean == pytest.approx(0.5)  # always the longer one, people in half of the items
    assert found.own is not None  # runs/two is the second answer, the longer one is the first
    assert found.own.mean == pytest.approx(-0.5)
    first = config_of(endpoint, model="other")
    endpoint.rule = lambda first, second: "A"
    judge_items(filled, first)
    found = calibrations(filled)[account_name(first.judge)]
    assert found.own is None
    assert found.position is not None
    assert found.position.mean == 1


def test_too_few_items_of_people_are_not_enough(endpoint: Endpoint, filled: Store) -> None:
    config = config_of(endpoint, number=DOUBLE - 1)
    assert judge_items(filled, config)[-1] == "counts in no export: 29 of 30 items that people decided, too"
    assert annotators(filled, config) == {"people"}
    assert judge_items(filled, config)[-1] == "counts in exports"


@pytest.mark.parametrize("change", [{"model": "three"}, {"prompt": JudgeSection().prompt + " Now."}])
def test_another_model_or_wording_is_another_annotator(endpoint: Endpoint, filled: Store, change: dict) -> None:
    before = config_of(endpoint)
    judge_items(filled, before)
    after = config_of(endpoint, number=5, **change)
    assert account_name(after.judge) != account_name(before.judge)
    assert judge_items(filled, after)[-1].startswith("counts in no export: 5 of 30")
    assert set(not_counting(filled, after.export)) == {account_name(after.judge)}
    assert annotators(filled, after) == {"people", account_name(before.judge)}


def test_people_who_change_their_mind_end_the_calibration(endpoint: Endpoint, filled: Store) -> None:
    config = config_of(endpoint)
    judge_items(filled, config)
    labels = [(f"item{n:02}", ItemLabel(strength=3 if n % 2 == 0 else -3)) for n in range(DOUBLE)]
    with filled.write() as transaction:
        store_labels(filled, transaction, labels, Origin("others", as_people=True), time.time())
    assert account_name(config.judge) in not_counting(filled, config.export)


def test_a_failing_endpoint_is_an_error_and_the_next_command_goes_on(endpoint: Endpoint, filled: Store) -> None:
    config = config_of(endpoint)
    endpoint.fails_after = 20
    with pytest.raises(WorkbenchError, match="status 503"):
        judge_items(filled, config)
    kept = calibrations(filled)[account_name(config.judge)].judged
    assert 0 < kept < DOUBLE
    endpoint.fails_after, asked = None, len(endpoint.requests)
    judge_items(filled, config)
    assert len(endpoint.requests) - asked == 2 * (ITEMS - kept)


def test_replies_are_read_in_both_orders(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    judge = Judge(config_of(endpoint).judge)
    prompt = [{"role": "user", "content": "Which {second}?"}]
    assert judge.compare(prompt, "good", "poor") == Verdict(-1, -1)
    assert "user: Which {second}?" in endpoint.requests[0]["messages"][0]["content"]
    assert endpoint.keys == ["Bearer secret"] * 2
    endpoint.rule = lambda first, second: "A."
    assert judge.compare(prompt, "x", "y") == Verdict(-1, 1)
    assert Verdict(-1, 1).strength == 0
    endpoint.rule = lambda first, second: "I cannot say."
    assert judge.compare(prompt, "x", "y") is None


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        *(("A", -1), ("**B**", 1), ("Answer A.", -1), ("tie", 0), ("A tie.", 0), ("It is a tie", 0)),
        *(("A or B?", None), ("", None), ("a bad question", None), ("Better", None)),
    ],
)
def test_a_reply_that_names_one_side_is_a_verdict(reply: str, verdict: int | None) -> None:
    assert verdict_of(reply) == verdict


def test_an_absent_endpoint_is_an_error() -> None:
    with pytest.raises(WorkbenchError, match="cannot be asked"):
        Judge(JudgeSection(url="http://127.0.0.1:9/v1", model="m")).compare([], "x", "y")
    with pytest.raises(WorkbenchError, match=r"judge\.model"):
        Judge(JudgeSection(url="http://127.0.0.1:9/v1"))
