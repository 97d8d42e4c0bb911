"""Engines give responses of the policy, whichever does the sampling."""

import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import load_file

from ppo.advantages import Targets
from ppo.evaluate import rollout_metrics
from ppo.rollout import collect
from ppo.sampler import InProcess, Merged, MergedCopy, Transformers, Vllm, open_engine
from tests.ppo.conftest import config_of
from tests.reference.tolerances import SHAPES
from workbench.data.template import end_ids
from workbench.model.masks import pad_rows, position_ids
from workbench.model.processes import Processes
from workbench.run.errors import WorkbenchError

OPTIONS = {"max_new_tokens": 6, "temperature": 1.0, "seed": 3}


def nudge(roles):
    """Make the policy another model than its reference."""
    with torch.no_grad():
        for weight in roles.parameters("policy"):
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.05)


@pytest.mark.parametrize("name", ["auto", "transformers", "merged"])
def test_responses_end_once_and_are_in_the_order_of_the_prompts(roles, prompts, tmp_path, name):
    engine = open_engine(name, roles, dtype=torch.float32, url="", folder=tmp_path, processes=Processes())
    engine.refresh()
    end = roles.tokenizer.eos_token_id
    responses = engine.sample(prompts.ids[:5], **OPTIONS).ids
    assert len(responses) == 5
    for response in responses:
        assert 1 <= len(response) <= 6
        assert end not in response[:-1]
        assert len(response) == 6 or response[-1] == end


@pytest.mark.parametrize("name", ["auto", "transformers", "merged"])
def test_responses_end_at_any_end_token_of_the_base(roles, prompts, tmp_path, name, monkeypatch):
    monkeypatch.setattr(roles.tokenizer, "response_ends", (*range(3, 40), 1), raising=False)
    assert end_ids(roles.tokenizer) == (2, *range(3, 40), 1)
    engine = open_engine(name, roles, dtype=torch.float32, url="", folder=tmp_path, processes=Processes())
    engine.refresh()
    responses = engine.sample(prompts.ids[:5], **(OPTIONS | {"max_new_tokens": 20})).ids
    ends = set(end_ids(roles.tokenizer))
    assert any(response[-1] in ends - {2} for response in responses), "none of them was drawn: nothing is tested"
    for response in responses:
        assert not ends & set(response[:-1])
        assert len(response) == 20 or response[-1] in ends


def test_a_vllm_server_stops_at_any_end_token_of_the_base(vllm, server, prompts, roles, monkeypatch):
    monkeypatch.setattr(roles.tokenizer, "response_ends", (1,), raising=False)
    engine = vllm()
    engine.refresh()
    engine.sample(prompts.ids[:1], **OPTIONS)
    assert server.asked[-1][1]["stop_token_ids"] == [2, 1]


def test_in_process_is_a_function_of_its_seed(roles, prompts):
    engine = InProcess(roles)
    one, two, other = (engine.sample(prompts.ids[:5], **(OPTIONS | {"seed": seed})) for seed in (1, 1, 2))
    assert one == two
    assert one != other


@pytest.mark.parametrize("engine", [InProcess, lambda roles: Merged(roles, torch.float32)])
def test_a_cold_policy_says_the_same_through_every_engine(roles, prompts, engine):
    """Near temperature 0 sampling is a function of the model alone, so the engines must agree."""
    nudge(roles)
    cold = OPTIONS | {"temperature": 1e-4}
    other = engine(roles)
    other.refresh()
    assert other.sample(prompts.ids[:5], **cold) == Transformers(roles).sample(prompts.ids[:5], **cold)


def test_the_merged_copy_is_the_policy_after_each_refresh_and_only_then(roles, prompts):
    copy = MergedCopy(roles, "policy", dtype=torch.float32)
    ids, mask = pad_rows(prompts.ids[:4], roles.tokenizer.pad_token_id)

    def states():
        with torch.no_grad():
            return copy.model.model(
                input_ids=ids, attention_mask=mask.long(), position_ids=position_ids(mask)
            ).last_hidden_state[mask]

    for _ in range(2):
        nudge(roles)
        with roles.use("policy") as forward:
            expected = forward(ids, mask)[mask]
        assert not torch.allclose(states(), expected, atol=1e-2)
        copy.refresh()
        torch.testing.assert_close(states(), expected, **SHAPES)


VOCABULARY = list(range(3, 200))


def test_the_merged_copy_is_made_without_filling_it_with_random_weights(roles, monkeypatch):
    """A 7B's 6.7 billion random numbers would be drawn on the host, and overwritten at once."""

    def refuse(*_, **__):
        raise AssertionError("weights are initialised that are then overwritten")

    monkeypatch.setattr(type(roles.causal_model), "_init_weights", refuse)
    copy = MergedCopy(roles, "policy", dtype=torch.bfloat16)
    copy.refresh()
    assert {weight.dtype for weight in copy.model.parameters()} == {torch.bfloat16}
    assert copy.model.lm_head.weight is copy.model.model.embed_tokens.weight  # tied, as the base's
    assert all(buffer.device == roles.device for buffer in copy.model.buffers())


class FakeVllm(BaseHTTPRequestHandler):
    """Answers as a vLLM server does: adapters by name, one distribution for all, draws that the seed decides."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        assert self.path == "/v1/models"
        names = ["base", *self.server.loaded]
        self.reply(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in names]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        {
            "/v1/load_lora_adapter": self.load,
            "/v1/unload_lora_adapter": self.unload,
            "/v1/completions": self.complete,
        }[self.path](body)

    def load(self, body):
        name = body["lora_name"]
        if name in self.server.loaded:
            return self.refuse(400, f"The lora adapter '{name}' has already been loaded.")
        path = f"{body['lora_path']}/adapter_model.safetensors"
        self.server.loaded[name] = {k: v.clone() for k, v in load_file(path).items()}
        return self.reply(200, f"Success: LoRA adapter '{name}' added successfully.")

    def unload(self, body):
        if self.server.loaded.pop(body["lora_name"], None) is None:
            return self.refuse(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
        return self.reply(200, f"Success: LoRA adapter '{body['lora_name']}' removed successfully.")

    def complete(self, body):
        if body["model"] not in self.server.loaded:
            return self.refuse(404, f"The model `{body['model']}` does not exist.")
        self.server.under_way.wait()
        prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        choices = []
        for index in range(len(prompts) * body["n"]):
            draw = random.Random(body["seed"] + index % body["n"])  # every prompt of a request starts at the same seed
            ids, ends = [], set(body["stop_token_ids"])
            while len(ids) < body["max_tokens"] and not (ids and ids[-1] in ends):
                ids.append(draw.choice([*VOCABULARY, *ends]))
            reason = "stop" if ids[-1] in ends else "length"
            logprobs = {"token_logprobs": [-1.5] * len(ids)} if body.get("logprobs") is not None else None
            choice = {"index": index, "text": "…", "finish_reason": reason, "logprobs": logprobs}
            choices.append(choice | ({"token_ids": ids} if body.get("return_token_ids") else {}))
        return self.reply(200, {"choices": self.server.spoil(choices)})

    def refuse(self, code, message):
        self.reply(code, {"error": {"message": message, "code": code}})

    def reply(self, code, answer):
        content = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class ManyAtOnce(ThreadingHTTPServer):
    request_queue_size = 256


@pytest.fixture
def server():
    httpd = ManyAtOnce(("127.0.0.1", 0), FakeVllm)
    httpd.asked, httpd.loaded, httpd.spoil = [], {}, lambda choices: choices
    httpd.under_way = threading.Barrier(1)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def vllm(roles, tmp_path, server):
    """Opens an engine on the stand-in: a new one each time, as `--resume` does."""

    def opened(folder="run"):
        url = f"http://127.0.0.1:{server.server_port}/"
        return open_engine(
            "vllm", roles, dtype=torch.float32, url=url, folder=tmp_path / folder / "vllm", processes=Processes()
        )

    return opened


def test_a_vllm_server_gets_the_present_adapter_under_a_new_name_and_forgets_the_old_one(roles, vllm, server, tmp_path):
    engine = vllm()
    engine.refresh()
    (first,) = server.loaded
    before = server.loaded[first]
    nudge(roles)
    engine.refresh()
    (second,) = server.loaded
    assert second != first
    now = roles.adapter_state("policy")
    assert all(torch.equal(now[name], weight) for name, weight in server.loaded[second].items())
    assert not all(torch.equal(now[name], weight) for name, weight in before.items())
    assert [path.name for path in (tmp_path / "run/vllm").iterdir()] == [second]


def test_a_resumed_run_and_a_second_run_do_not_meet_on_one_server(vllm, server):
    """A run that stopped leaves its adapter loaded; the same run drops it, another run leaves it alone."""
    vllm("one").refresh()
    (left_behind,) = server.loaded
    vllm("two").refresh()
    assert left_behind in server.loaded
    assert len(server.loaded) == 2
    vllm("one").refresh()
    assert left_behind not in server.loaded
    assert len(server.loaded) == 2
    paths = [path for path, _ in server.asked]
    assert paths.count("/v1/load_lora_adapter") == 3  # none refused, none repeated


def test_equal_prompts_get_different_responses_from_a_vllm_server(vllm, server, prompts):
    engine = vllm()
    engine.refresh()
    options = OPTIONS | {"max_new_tokens": 8}
    samples = engine.sample([prompts.ids[0]] * 12, **options)
    assert len({tuple(ids) for ids in samples.ids}) == 12
    assert engine.sample([prompts.ids[0]] * 12, **options) == samples  # a function of the seed
    # Prompt i of a rollout keeps its seed however the rollout is divided: two processes sample what one does.
    again = engine.sample([prompts.ids[0]] * 6, **(options | {"seed": OPTIONS["seed"] + 6}))
    assert again.ids == samples.ids[6:]
    assert samples.logprobs == [[-1.5] * len(ids) for ids in samples.ids]


def test_a_vllm_server_is_told_every_sampling_parameter(vllm, server, prompts, roles):
    """What a request leaves out, the server takes from the base's generation_config.json."""
    engine = vllm()
    engine.refresh()
    engine.sample(prompts.ids[:1], **(OPTIONS | {"temperature": 0.7}))
    path, asked = server.asked[-1]
    assert path == "/v1/completions"
    (name,) = server.loaded
    assert asked == {
        "model": name,
        "prompt": prompts.ids[0],
        "max_tokens": 6,
        "seed": 3,
        "n": 1,
        "logprobs": 0,
        "return_token_ids": True,
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "ignore_eos": True,
        "stop_token_ids": [roles.tokenizer.eos_token_id],
    }


def test_all_prompts_of_a_rollout_are_under_way_at_one_time(roles, vllm, server, prompts):
    """The server answers nobody before it has been asked 12 times: batches of 4 would wait for ever."""
    many = prompts.take([i % len(prompts) for i in range(12)])
    server.under_way = threading.Barrier(12, timeout=20)
    engine = vllm()
    engine.refresh()
    section = config_of(rollout={"max_new_tokens": 6, "sample_batch_size": 4, "micro_batch_size": 4}).rollout
    rollout = collect(roles, engine, many, section, seed=1, processes=Processes())
    assert len(rollout.rows) == 12
    assert rollout.sampling_logprobs[rollout.mask].unique().tolist() == [-1.5]
    assert not rollout.sampling_logprobs[~rollout.mask].any()
    metrics = rollout_metrics(rollout, torch.zeros_like(rollout.kl), Targets(rollout.kl, None), kl_coef=0.1)
    gap = (rollout.old_logprobs + 1.5)[rollout.mask]
    assert metrics["rollout/sampling_gap"] == pytest.approx(float(gap.abs().mean()), rel=1e-5)
    # KL(μ ‖ π) by k3 with r = π/μ: (r − 1) − log r
    assert metrics["rollout/sampling_kl"] == pytest.approx(float((gap.exp() - 1 - gap).mean()), rel=1e-4)


SPOILED = {
    "no token ids": ({"token_ids": None}, "return_token_ids"),
    "no log-probabilities": ({"logprobs": None}, "0 log-probabilities"),
    "a log-probability that is none": ({"logprobs": {"token_logprobs": [None] * 6}}, "log-probabilities"),
    "cut off": ({"token_ids": [7, 8], "finish_reason": "length"}, "finished by 'length'"),
    "the end is left out": ({"token_ids": [7, 8], "finish_reason": "stop"}, "finished by 'stop'"),
    "aborted": ({"token_ids": [7], "finish_reason": "abort"}, "finished by 'abort'"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPOILED)
def test_an_answer_that_does_not_fit_is_refused(vllm, server, prompts, kind):
    change, message = SPOILED[kind]
    engine = vllm()
    engine.refresh()
    server.spoil = lambda choices: [choices[0] | change]
    with pytest.raises(WorkbenchError, match=message):
        engine.sample(prompts.ids[:2], **OPTIONS)


def test_a_vllm_server_that_refuses_or_is_not_there(roles, vllm, server, prompts, tmp_path):
    engine = vllm()
    engine.refresh()
    server.loaded.clear()
    with pytest.raises(WorkbenchError, match="does not exist"):
        engine.sample(prompts.ids[:2], **OPTIONS)
    with pytest.raises(WorkbenchError, match="cannot be reached"):
        Vllm(roles, "http://127.0.0.1:9", tmp_path / "other", Processes()).refresh()
