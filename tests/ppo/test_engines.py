"""Engines give responses of the policy, whichever does the sampling."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
from safetensors.torch import load_file

from ppo.engines import Continuous, InProcess, Merged, Transformers, VllmServer, open_engine
from tests.reference.tolerances import SHAPES
from workbench.model.masks import pad_rows, position_ids
from workbench.model.twin import Twin
from workbench.run.errors import WorkbenchError

OPTIONS = {"role": "policy", "max_new_tokens": 6, "temperature": 1.0, "seed": 3}


def nudge(roles):
    """Make the policy another model than its reference."""
    with torch.no_grad():
        for weight in roles.parameters("policy"):
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.05)


@pytest.mark.parametrize("name", ["auto", "transformers", "continuous", "merged"])
def test_responses_end_once_and_are_in_the_order_of_the_prompts(roles, prompts, tmp_path, name):
    engine = open_engine(name, roles, dtype=torch.float32, url="", folder=tmp_path)
    engine.refresh()
    end = roles.tokenizer.eos_token_id
    responses = engine.sample(prompts.ids[:5], **OPTIONS)
    assert len(responses) == 5
    for response in responses:
        assert 1 <= len(response) <= 6
        assert end not in response[:-1]
        assert len(response) == 6 or response[-1] == end


def test_in_process_is_a_function_of_its_seed(roles, prompts):
    engine = InProcess(roles)
    one, two, other = (engine.sample(prompts.ids[:5], **(OPTIONS | {"seed": seed})) for seed in (1, 1, 2))
    assert one == two
    assert one != other


@pytest.mark.parametrize("engine", [InProcess, Continuous, lambda roles: Merged(roles, torch.float32)])
def test_a_cold_policy_says_the_same_through_every_engine(roles, prompts, engine):
    """Near temperature 0 sampling is a function of the model alone, so the engines must agree."""
    nudge(roles)
    cold = OPTIONS | {"temperature": 1e-4}
    other = engine(roles)
    other.refresh()
    assert other.sample(prompts.ids[:5], **cold) == Transformers(roles).sample(prompts.ids[:5], **cold)


def test_the_twin_is_the_policy_after_each_refresh_and_only_then(roles, prompts):
    twin = Twin(roles, "policy", dtype=torch.float32)
    ids, mask = pad_rows(prompts.ids[:4], roles.tokenizer.pad_token_id)

    def states():
        with torch.no_grad():
            return twin.model.model(
                input_ids=ids, attention_mask=mask.long(), position_ids=position_ids(mask)
            ).last_hidden_state[mask]

    for _ in range(2):
        nudge(roles)
        with roles.use("policy") as forward:
            expected = forward(ids, mask)[mask]
        assert not torch.allclose(states(), expected, atol=1e-2)
        twin.refresh()
        torch.testing.assert_close(states(), expected, **SHAPES)


class FakeVllm(BaseHTTPRequestHandler):
    """Answers as a vLLM server does, in another order, and remembers what it was asked."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        answer = {}
        if self.path == "/v1/load_lora_adapter":
            path = f"{body['lora_path']}/adapter_model.safetensors"
            self.server.loaded[body["lora_name"]] = {k: v.clone() for k, v in load_file(path).items()}
        elif self.path == "/v1/completions" and self.server.broken:
            answer = {"choices": [{"index": 0, "text": "no ids"}]}
        elif self.path == "/v1/completions":
            count = len(body["prompt"])
            answer = {"choices": [{"index": i, "token_ids": [7 + i, 2]} for i in reversed(range(count))]}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    httpd = HTTPServer(("127.0.0.1", 0), FakeVllm)
    httpd.asked, httpd.loaded, httpd.broken = [], {}, False
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_a_vllm_server_gets_the_present_adapter_under_a_new_name(roles, prompts, tmp_path, server):
    engine = VllmServer(roles, f"http://127.0.0.1:{server.server_port}/", tmp_path)
    engine.refresh()
    nudge(roles)
    engine.refresh()
    assert list(server.loaded) == ["policy-1", "policy-2"]
    now = roles.adapter_state("policy")
    assert all(torch.equal(now[name], weight) for name, weight in server.loaded["policy-2"].items())
    assert not all(torch.equal(now[name], weight) for name, weight in server.loaded["policy-1"].items())
    assert server.asked[-1] == ("/v1/unload_lora_adapter", {"lora_name": "policy-1"})
    assert [path.name for path in tmp_path.iterdir()] == ["policy-2"]

    assert engine.sample(prompts.ids[:3], **OPTIONS) == [[7, 2], [8, 2], [9, 2]]
    path, asked = server.asked[-1]
    assert path == "/v1/completions"
    assert asked["model"] == "policy-2"
    assert asked["prompt"] == prompts.ids[:3]
    assert (asked["top_p"], asked["top_k"], asked["temperature"]) == (1.0, -1, 1.0)


def test_a_vllm_server_without_token_ids_or_none_at_all(roles, prompts, tmp_path, server):
    server.broken = True
    engine = VllmServer(roles, f"http://127.0.0.1:{server.server_port}", tmp_path)
    engine.refresh()
    with pytest.raises(WorkbenchError, match="return_token_ids"):
        engine.sample(prompts.ids[:2], **OPTIONS)
    with pytest.raises(WorkbenchError, match="cannot be reached"):
        VllmServer(roles, "http://127.0.0.1:9", tmp_path / "other").refresh()
