"""A vLLM server as a rollout engine: adapters loaded by name, token ids in, token ids and log-probabilities out.

Every sample is one request with its own seed, because a server samples equal prompts of one request with equal seeds.
Up to `CONCURRENT` requests of a rollout run at the same time: the server batches them, and its prefix cache shares the
prompt of several samples. Source: vLLM's documentation of its OpenAI-compatible server (completions, run-time LoRA
loading). Tested against a stand-in, not yet against a real server.
"""

import hashlib
import json
import math
import shutil
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from workbench.data.template import end_ids
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.run.errors import WorkbenchError

CONCURRENT = 128
"""Simultaneous requests per process."""
TIMEOUT = 600
"""Seconds per request."""
COMMAND = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve BASE --enable-lora --logprobs-mode processed_logprobs"


class VllmClient:
    """The policy on a running vLLM server.

    Args:
        roles: with the role policy.
        url: of the server.
        folder: where adapters are written; the server must see it under the same path.
        processes: of this run; only the first one writes and loads adapters.
    """

    def __init__(self, roles: Roles, url: str, folder: Path, processes: Processes) -> None:
        self.roles, self.url, self.folder, self.processes = roles, url.rstrip("/"), folder.resolve(), processes
        self.prefix = "policy-" + hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]
        self.adapter: str | None = None

    def refresh(self) -> None:
        """Load the policy's present adapter under a name never used before, then unload this run's older ones."""
        self.adapter = self.processes.on_first(self._load)

    def _load(self) -> str:
        name = f"{self.prefix}-{uuid.uuid4().hex[:8]}"
        path = self.folder / name
        self.roles.save_adapter("policy", path)
        self._ask("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})
        for old in self._loaded():
            if old.startswith(self.prefix) and old != name:  # including those of an interrupted run
                self._ask("/v1/unload_lora_adapter", {"lora_name": old})
        for old_path in self.folder.iterdir():
            if old_path != path:
                shutil.rmtree(old_path)
        return name

    def _loaded(self) -> list[str]:
        return [str(model["id"]) for model in self._json("/v1/models", None).get("data", [])]

    def sample(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float, seed: int
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Token ids of one response to each prompt, EOS included, and their log-probabilities on the server.

        Prompt i is sampled with seed + i, so equal prompts have different responses.
        """

        def answer(i: int) -> tuple[list[int], list[float]]:
            body = {
                "model": self.adapter,
                "prompt": list(prompts[i]),
                "max_tokens": max_new_tokens,
                "seed": (seed + i) % (1 << 31),
                "n": 1,
                "logprobs": 0,  # the sampled token's only
                "return_token_ids": True,
                # Omitted parameters would come from the base's generation_config.json, so none is omitted.
                "temperature": temperature,
                "top_p": 1.0,
                "top_k": -1,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "presence_penalty": 0.0,
                "frequency_penalty": 0.0,
                "ignore_eos": True,  # the base's EOS; stop_token_ids lists all of ours
                "stop_token_ids": list(end_ids(self.roles.tokenizer)),
            }
            return self._checked(self._json("/v1/completions", body), max_new_tokens)

        with ThreadPoolExecutor(max_workers=CONCURRENT) as pool:
            answers = list(pool.map(answer, range(len(prompts))))
        return [ids for ids, _ in answers], [logprobs for _, logprobs in answers]

    def _checked(self, answer: dict[str, Any], max_new_tokens: int) -> tuple[list[int], list[float]]:
        """Token ids and log-probabilities of the single response, after checking that it is complete."""
        choices = answer.get("choices") or [{}]
        ids = choices[0].get("token_ids") or []
        logprobs = (choices[0].get("logprobs") or {}).get("token_logprobs") or []
        reason, ends = choices[0].get("finish_reason"), set(end_ids(self.roles.tokenizer))
        whole = len(ids) == max_new_tokens if reason == "length" else ids[-1:] and ids[-1] in ends
        if len(choices) != 1 or not ids or ends & set(ids[:-1]) or not whole:
            problem = f"gave {len(choices)} responses, the first of {len(ids)} token ids, finished by {reason!r}"
        elif len(logprobs) != len(ids) or not all(value is not None and math.isfinite(value) for value in logprobs):
            problem = f"gave {len(logprobs)} log-probabilities to {len(ids)} tokens"
        else:
            return [int(token) for token in ids], [float(value) for value in logprobs]
        raise WorkbenchError(
            self.url,
            problem,
            expected=f"one response of {max_new_tokens} tokens or up to EOS, with token ids and log-probabilities: "
            "a vLLM server that knows return_token_ids (0.10.2 or later)",
        )

    def _json(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        content = self._ask(path, body)
        try:
            answer: dict[str, Any] = dict(json.loads(content))
        except ValueError:
            raise WorkbenchError(
                self.url + path, f"answered {content[:80]!r}", expected="JSON, as vLLM's server gives"
            ) from None
        return answer

    def _ask(self, path: str, body: dict[str, Any] | None) -> bytes:
        """POST a body, or GET without one."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
                content: bytes = reply.read()
                return content
        except urllib.error.HTTPError as error:
            problem = f"refused {path} ({error.code}): {error.read(300).decode(errors='replace')}"
        except OSError as error:
            problem = f"cannot be reached: {error}"
        raise WorkbenchError(
            self.url,
            problem,
            expected="a running vLLM server with run-time LoRA loading, which sees the run folder",
            remedy=f"{COMMAND}, or rollout.engine=transformers",
        )
