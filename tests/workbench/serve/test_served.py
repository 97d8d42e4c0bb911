"""The running server, as the official openai client and plain HTTP see it."""

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
import torch

from tests.workbench.serve.conftest import KEY, Served, start
from workbench.data.readers import read_labelled_items, read_rated_answers
from workbench.data.records import Message
from workbench.data.tokenise import decode_response, encode_prompt, encode_rows
from workbench.model.open import open_runs
from workbench.model.score import score_rows

pytestmark = pytest.mark.slow
ASKED: Any = [{"role": "user", "content": "Where is my parcel?"}]


@pytest.fixture
def client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEY, max_retries=0)


def get(served: Served, path: str) -> str:
    request = urllib.request.Request(served.url + path, headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request) as response:
        return str(response.read().decode())


def post(served: Served, path: str, body: dict[str, Any], key: str = KEY) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}"}
    request = urllib.request.Request(served.url + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def running(served: Served) -> float:
    (line,) = [line for line in get(served, "/metrics").splitlines() if line.startswith("workbench_answers_running ")]
    return float(line.split()[1])


def test_greedy_answers_are_those_of_plain_generate(served: Served, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="sft", messages=ASKED, temperature=0, max_tokens=20)
    roles = open_runs({"policy": served.sft})
    ids = encode_prompt(roles.tokenizer, [Message(**ASKED[0])])
    with roles.use("policy"):
        rows = torch.tensor([ids])
        written = roles.model.generate(
            input_ids=rows, attention_mask=torch.ones_like(rows), max_new_tokens=20, do_sample=False, pad_token_id=0
        )[0, len(ids) :].tolist()
    assert answer.choices[0].message.content == decode_response(roles.tokenizer, written)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), len(written))


def test_a_stream_adds_up_to_the_answer(client: openai.OpenAI) -> None:
    options: Any = {"model": "sft", "messages": ASKED, "seed": 4, "max_tokens": 60}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage
    text = client.completions.create(model="sft", prompt="Your parcel is", seed=1, max_tokens=5)
    pieces = client.completions.create(model="sft", prompt="Your parcel is", seed=1, max_tokens=5, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == text.choices[0].text != ""


def test_stop_texts_end_the_answer_and_are_never_shown(client: openai.OpenAI) -> None:
    options: Any = {"model": "sft", "messages": ASKED, "seed": 4, "max_tokens": 60}
    whole = client.chat.completions.create(**options).choices[0].message.content or ""
    stop = whole[5:8]
    expected = whole[: whole.index(stop)]
    stopped = client.chat.completions.create(**options, stop=[stop, "never there"])
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == (expected, "stop")
    chunks = client.chat.completions.create(**options, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected


def test_sixteen_clients_at_once_get_what_each_would_get_alone(client: openai.OpenAI) -> None:
    def ask(seed: int) -> str:
        answer = client.chat.completions.create(model="sft", messages=ASKED, seed=seed, max_tokens=10 + seed)
        return answer.choices[0].message.content or ""

    alone = [ask(seed) for seed in range(16)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(16))) == alone
    assert len(set(alone)) > 8


def test_an_answer_that_nobody_reads_any_more_frees_its_place(served: Served, client: openai.OpenAI) -> None:
    options: Any = {"model": "sft", "messages": ASKED, "max_tokens": 200, "temperature": 2.0}
    for seed in range(12):  # more than fit at one time
        with client.chat.completions.create(**options, seed=seed, stream=True) as stream:
            next(iter(stream))
    end = time.monotonic() + 20
    while running(served) > 0:
        assert time.monotonic() < end, "cancelled answers keep their places"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"messages": [{"role": "user", "content": "parcel " * 300}]}, openai.BadRequestError, "the base reads 256"),
        ({"max_tokens": 250}, openai.BadRequestError, "at most 6, which leaves 250"),
        (
            {"max_tokens": 1_000_000},
            openai.BadRequestError,
            r"1,000,000 tokens are asked for[\s\S]*expected: at most 2",
        ),
        ({"model": "other"}, openai.NotFoundError, "'other' is not served here"),
        ({"model": "reward"}, openai.BadRequestError, "use /v1/score"),
        ({"n": 2}, openai.BadRequestError, "n is supported only as 1"),
        ({"top_p": 0.5}, openai.BadRequestError, "top_p is supported only as 1"),
        ({"extra_body": {"temprature": 1}}, openai.BadRequestError, "did you mean 'temperature'"),
        ({"temperature": 3}, openai.BadRequestError, "temperature: Input should be less than or equal to 2"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, openai.BadRequestError, "expected: of the user"),
    ],
)
def test_what_cannot_be_done_is_refused(
    client: openai.OpenAI, changes: dict[str, Any], error: type[openai.APIStatusError], says: str
) -> None:
    for stream in (False, True):
        with pytest.raises(error, match=says) as refused:
            client.chat.completions.create(**{"model": "sft", "messages": ASKED, "stream": stream, **changes})
        assert refused.value.body["type"] == "invalid_request_error"  # type: ignore[index]


def test_a_wrong_key_gets_nothing_and_a_large_body_is_not_read(served: Served) -> None:
    for key in ("", KEY[:-1], KEY + "x"):
        for path in ("/v1/models", "/metrics"):
            request = urllib.request.Request(served.url + path, headers={"Authorization": f"Bearer {key}"})
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(request)
    with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="no").models.list()
    assert post(served, "/v1/chat/completions", {"model": "x" * (2 << 20)})[0] == 413


def test_the_models_are_listed_and_rewards_score(served: Served, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["sft", "reward"]
    answers = ["Your parcel is safe with us, thank you for asking.", "No idea about any parcel."]
    body = {"model": "reward", "conversations": [[*ASKED, {"role": "assistant", "content": a}] for a in answers]}
    status, scored = post(served, "/v1/score", body)
    roles = open_runs({"reward": served.reward})
    rows = encode_rows(roles.tokenizer, [Message(**ASKED[0])], *answers)
    assert status == 200
    assert [row["score"] for row in scored["data"]] == pytest.approx(
        score_rows(roles, "reward", rows, batch_size=2).tolist(), abs=1e-4
    )
    assert post(served, "/v1/score", {**body, "model": "sft"})[0] == 400


def test_feedback_becomes_labels_once_per_person(served: Served, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="sft", messages=ASKED, seed=8, max_tokens=12)
    given = {"id": answer.id, "rating": -1, "correction": "It is at your door."}
    assert [post(served, "/v1/feedback", given)[1]["new"] for _ in range(2)] == [True, False]
    assert post(served, "/v1/feedback", given, "another-key-of-somebody-else")[0] == 404
    assert post(served, "/v1/feedback", {"id": answer.id})[0] == 400
    folder = served.folder / "feedback" / "alice"
    (item,) = read_labelled_items(folder / "corrections.jsonl")
    (thumb,) = read_rated_answers(folder / "thumbs.jsonl")
    assert "It is at your door." in [response.text for response in item.item.responses]  # type: ignore[union-attr]
    assert (thumb.response, thumb.desirable) == (answer.choices[0].message.content, False)
    assert (folder / "thumbs.jsonl").stat().st_mode & 0o077 == 0


def test_the_log_holds_no_personal_data(served: Served, client: openai.OpenAI) -> None:
    asked: Any = [{"role": "user", "content": "Write to jo@example.com about my parcel"}]
    answer = client.chat.completions.create(model="sft", messages=asked, max_tokens=4)
    text = (served.folder / "log.jsonl").read_text()
    (row,) = [row for row in map(json.loads, text.splitlines()) if row["id"] == answer.id]
    assert "[EMAIL_" in row["prompt"][0]["content"]
    assert "jo@example.com" not in text
    assert KEY not in text


def test_a_full_queue_is_429_and_sigterm_lets_answers_end(sft_run: Path, tmp_path: Path) -> None:
    words = ["--at-once", "1", "--waiting", "1", "--per-key", "8", "--max-new-tokens", "200"]
    process, url = start(tmp_path, str(sft_run), *words)
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    options: Any = {"model": "sft", "messages": ASKED, "temperature": 2.0, "stream": True}
    (worker,) = psutil.Process(process.pid).children()
    first = client.chat.completions.create(**options, seed=0)
    next(iter(first))
    worker.suspend()  # the answer does not end, however fast the machine
    waits = threading.Thread(target=lambda: list(client.chat.completions.create(**options, seed=1, max_tokens=1)))
    waits.start()
    while b"workbench_requests_waiting 1.0" not in urllib.request.urlopen(f"{url}/metrics").read():
        time.sleep(0.02)
    with pytest.raises(openai.RateLimitError, match="requests are already waiting"):
        client.chat.completions.create(**options, seed=2)
    process.send_signal(signal.SIGTERM)
    worker.resume()
    assert list(first)[-1].choices[0].finish_reason in ("stop", "length")
    waits.join()
    assert process.wait(60) == 0
