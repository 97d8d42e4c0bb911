"""Where responses come from: `Engine.sample`, behind which several engines do the work.

`auto` samples in this process, on dense weights where the model has them (on a CPU), else as `transformers` does, which
generates with the policy's adapter; `continuous` uses its continuous batching, which refills places whose response has
ended; `merged` generates with a merged copy of base and adapter in `dtype`, which needs no dequantisation but the
memory of the unquantised base; `vllm` asks a vLLM server that loads the adapter by name. Whatever the engine, the
policy's own forward pass scores the responses afterwards.
"""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import GenerationConfig

from workbench.model.generate import generate, generate_with
from workbench.model.roles import Roles
from workbench.model.twin import Twin
from workbench.run.errors import WorkbenchError


class Engine(Protocol):
    """Samples one response to each prompt from the policy as it is now."""

    def refresh(self) -> None:
        """Take over the policy's present weights: called once before each rollout."""

    def sample(
        self, prompts: Sequence[Sequence[int]], *, role: str, max_new_tokens: int, temperature: float, seed: int
    ) -> list[list[int]]:
        """Token ids of the responses, EOS included where one ended, in the order of the prompts."""


def open_engine(name: str, roles: Roles, *, dtype: torch.dtype, url: str, folder: Path) -> Engine:
    """The engine of that name.

    Args:
        name: auto, transformers, continuous, merged or vllm.
        roles: with the role policy.
        dtype: of the merged copy.
        url: of the vLLM server.
        folder: where the adapter is written for the vLLM server; both must see it.
    """
    if name == "transformers":
        return Transformers(roles)
    if name == "continuous":
        return Continuous(roles)
    if name == "merged":
        return Merged(roles, dtype)
    return VllmServer(roles, url, folder) if name == "vllm" else InProcess(roles)


class InProcess:
    """`generate`, with whatever adapter is asked for."""

    def __init__(self, roles: Roles) -> None:
        self.roles = roles

    def refresh(self) -> None:
        """The adapter is used where it is."""

    def sample(
        self, prompts: Sequence[Sequence[int]], *, role: str, max_new_tokens: int, temperature: float, seed: int
    ) -> list[list[int]]:
        """See `Engine`."""
        responses = generate(
            self.roles, role, prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
        )
        return responses.lists()


class Transformers(InProcess):
    """transformers' `generate` with left padding."""

    def sample(
        self, prompts: Sequence[Sequence[int]], *, role: str, max_new_tokens: int, temperature: float, seed: int
    ) -> list[list[int]]:
        """See `Engine`."""
        options: Any = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        with self.roles.use(role):
            responses = generate_with(
                self.roles.model, self.roles.tokenizer, prompts, **options, device=self.roles.device
            )
        return responses.lists()


class Continuous(InProcess):
    """transformers' continuous batching: places whose response has ended are filled with the next prompt."""

    def sample(
        self, prompts: Sequence[Sequence[int]], *, role: str, max_new_tokens: int, temperature: float, seed: int
    ) -> list[list[int]]:
        """See `Engine`. The draw of a response depends on which others are in the batch."""
        tokenizer = self.roles.tokenizer
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=True,
            temperature=temperature,
            top_k=0,
            top_p=1.0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        devices = [self.roles.device] if self.roles.device.type == "cuda" else []
        with self.roles.use(role), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            found: dict[str, Any] = self.roles.causal_model.generate_batch(
                inputs=[list(prompt) for prompt in prompts], generation_config=config
            )
        if len(found) != len(prompts):
            raise RuntimeError(f"continuous batching gave {len(found)} responses to {len(prompts)} prompts")
        in_order = sorted(found.items(), key=lambda item: int(item[0].rpartition("_")[2]))
        return [list(response.generated_tokens) for _, response in in_order]


class Merged(InProcess):
    """`generate` with a merged copy of the policy; other roles are sampled from their adapters."""

    def __init__(self, roles: Roles, dtype: torch.dtype) -> None:
        super().__init__(roles)
        self.twin = Twin(roles, "policy", dtype=dtype)

    def refresh(self) -> None:
        """Merge the policy's present adapter."""
        self.twin.refresh()

    def sample(
        self, prompts: Sequence[Sequence[int]], *, role: str, max_new_tokens: int, temperature: float, seed: int
    ) -> list[list[int]]:
        """See `Engine`."""
        if role != self.twin.role:
            return super().sample(prompts, role=role, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        return generate_with(
            self.twin.model,
            self.roles.tokenizer,
            prompts,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            device=self.roles.device,
        ).lists()


class VllmServer(InProcess):
    """A vLLM server (`vllm serve BASE --enable-lora`, VLLM_ALLOW_RUNTIME_LORA_UPDATING=1) in a process of its own."""

    def __init__(self, roles: Roles, url: str, folder: Path) -> None:
        super().__init__(roles)
        self.url, self.folder = url.rstrip("/"), folder.resolve()
        self.adapter: str | None = None

    def refresh(self) -> None:
        """Write the policy's adapter and have the server load it under a new name, then unload the old one."""
        before, number = self.adapter, int(self.adapter.rpartition("-")[2]) if self.adapter else 0
        self.adapter = f"policy-{number + 1}"
        place = self.folder / self.adapter
        self.roles.save_adapter("policy", place)
        self._post("/v1/load_lora_adapter", {"lora_name": self.adapter, "lora_path": str(place)})
        if before:
            self._post("/v1/unload_lora_adapter", {"lora_name": before})
            shutil.rmtree(self.folder / before)

    def sample(
        self, prompts: Sequence[Sequence[int]], *, role: str, max_new_tokens: int, temperature: float, seed: int
    ) -> list[list[int]]:
        """See `Engine`; only the policy is on the server."""
        if role != "policy":
            return super().sample(prompts, role=role, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        answer = self._post(
            "/v1/completions",
            {
                "model": self.adapter,
                "prompt": [list(prompt) for prompt in prompts],
                "max_tokens": max_new_tokens,
                "temperature": temperature,
                "top_p": 1.0,
                "top_k": -1,
                "seed": seed % (1 << 31),
                "return_token_ids": True,
            },
        )
        choices = sorted(json.loads(answer)["choices"], key=lambda choice: int(choice["index"]))
        if len(choices) != len(prompts) or any(not choice.get("token_ids") for choice in choices):
            raise WorkbenchError(
                self.url,
                f"gave {len(choices)} responses to {len(prompts)} prompts, or none with token ids",
                expected="a vLLM server that knows return_token_ids (0.10.2 or later)",
            )
        return [list(choice["token_ids"]) for choice in choices]

    def _post(self, path: str, body: dict[str, Any]) -> bytes:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=600) as reply:
                content: bytes = reply.read()
                return content
        except urllib.error.HTTPError as error:
            problem = f"refused {path} ({error.code}): {error.read(300).decode(errors='replace')}"
        except OSError as error:
            problem = f"cannot be reached: {error}"
        raise WorkbenchError(
            self.url,
            problem,
            expected="a running vLLM server with run-time LoRA loading",
            remedy="VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve BASE --enable-lora, or rollout.engine=transformers",
        )
