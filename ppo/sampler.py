"""Where responses come from: `Engine.sample`, behind which several engines do the work.

`auto` samples in this process, on dense weights where the model has them (on a CPU), else as `transformers` does, which
generates with the policy's adapter; `continuous` uses its continuous batching, which refills places whose response has
ended; `merged` generates with a merged copy of base and adapter in `dtype`, which needs no dequantisation but the
memory of the unquantised base; `vllm` asks a vLLM server that loads the adapter by name. Whatever the engine, the
policy's own forward pass scores the responses afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.initialization import no_init_weights

from ppo.vllm import VllmClient
from workbench.data.template import end_ids
from workbench.model.cpu.dense import unpacked
from workbench.model.generate import generate, generate_with
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.run.errors import WorkbenchError


@dataclass(frozen=True)
class Samples:
    """One response to each of B prompts, in their order."""

    ids: list[list[int]]
    """Token ids, EOS included where a response ended."""
    logprobs: list[list[float]] | None = None
    """Of these tokens in the distribution they were drawn from; None where the engine does not tell."""


class Engine(Protocol):
    """Samples one response to each prompt from the policy as it is now."""

    in_batches: bool
    """Whether the caller limits the prompts of one call; otherwise all that the policy shall answer come in one."""

    def refresh(self) -> None:
        """Take over the policy's present weights: called once before each rollout."""

    def sample(
        self, prompts: Sequence[Sequence[int]], *, role: str, max_new_tokens: int, temperature: float, seed: int
    ) -> Samples:
        """Sample; equal prompts get different responses."""


def open_engine(name: str, roles: Roles, *, dtype: torch.dtype, url: str, folder: Path, processes: Processes) -> Engine:
    """The engine of that name.

    Args:
        name: auto, transformers, continuous, merged or vllm.
        roles: with the role policy.
        dtype: of the merged copy.
        url: of the vLLM server.
        folder: where the adapter is written for the vLLM server; both must see it.
        processes: of this run.
    """
    if name == "transformers":
        return Transformers(roles)
    if name == "continuous":
        return Continuous(roles)
    if name == "merged":
        return Merged(roles, dtype)
    return Vllm(roles, url, folder, processes) if name == "vllm" else InProcess(roles)


class InProcess:
    """`generate`, with whatever adapter is asked for."""

    in_batches = True

    def __init__(self, roles: Roles) -> None:
        self.roles = roles

    def refresh(self) -> None:
        """The adapter is used where it is."""

    def sample(
        self, prompts: Sequence[Sequence[int]], *, role: str, max_new_tokens: int, temperature: float, seed: int
    ) -> Samples:
        """See `Engine`."""
        responses = generate(
            self.roles, role, prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
        )
        return Samples(responses.lists())


class Transformers(InProcess):
    """transformers' `generate` with left padding."""

    def sample(
        self, prompts: Sequence[Sequence[int]], *, role: str, max_new_tokens: int, temperature: float, seed: int
    ) -> Samples:
        """See `Engine`."""
        options: Any = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        with self.roles.use(role):
            responses = generate_with(
                self.roles.model, self.roles.tokenizer, prompts, **options, device=self.roles.device
            )
        return Samples(responses.lists())


class Continuous(InProcess):
    """transformers' continuous batching: places whose response has ended are filled with the next prompt."""

    def sample(
        self, prompts: Sequence[Sequence[int]], *, role: str, max_new_tokens: int, temperature: float, seed: int
    ) -> Samples:
        """See `Engine`. The draw of a response depends on which others are in the batch."""
        tokenizer = self.roles.tokenizer
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=True,
            temperature=temperature,
            top_k=0,
            top_p=1.0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=list(end_ids(tokenizer)),
        )
        devices = [self.roles.device] if self.roles.device.type == "cuda" else []
        with self.roles.use(role), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            found: dict[str, Any] = self.roles.causal_model.generate_batch(
                inputs=[list(prompt) for prompt in prompts], generation_config=config
            )
        in_order = sorted(found.items(), key=lambda item: int(item[0].rpartition("_")[2]))
        failed = [str(response.error) for _, response in in_order if response.error or not response.generated_tokens]
        if failed or len(in_order) != len(prompts):
            raise WorkbenchError(
                "rollout.engine=continuous",
                f"gave {len(in_order) - len(failed)} responses to {len(prompts)} prompts"
                + (f"; the first error: {failed[0]}" if failed else ""),
                expected="a response to each prompt",
                remedy="rollout.engine=transformers, or a smaller rollout.sample_batch_size where memory ran out",
            )
        return Samples([list(response.generated_tokens) for _, response in in_order])


class MergedCopy:
    """The merged copy of one role.

    Args:
        roles: the base with its adapters.
        role: whose adapter is merged; `refresh` before sampling.
        dtype: of the copy.
    """

    def __init__(self, roles: Roles, role: str, *, dtype: torch.dtype) -> None:
        self.roles, self.role = roles, role
        config: Any = AutoConfig.for_model(**roles.causal_model.config.to_dict())
        config.quantization_config = None
        with roles.device, no_init_weights():  # made where it stays, and not filled twice: no 13 GB on the host
            self.model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
        self.model.tie_weights()  # which is part of the initialisation that was left out
        self.model.generation_config = roles.causal_model.generation_config
        self.model.requires_grad_(False)
        own: dict[str, Tensor] = {name: weight.data for name, weight in self.model.named_parameters()}
        self._layers = [
            (own[f"{name}.weight"], layer)
            for name, layer in roles.causal_model.named_modules()
            if hasattr(layer, "get_delta_weight")
        ]
        for name, weight in roles.causal_model.named_parameters():
            if "lora_" not in name and not name.endswith("base_layer.weight"):  # a bias has no adapter
                own[name.replace(".base_layer.", ".")].copy_(weight)

    def refresh(self) -> None:
        """Take over the adapter's present weights."""
        with torch.no_grad():
            layer: Any
            for own, layer in self._layers:
                own.copy_(unpacked(layer).float() + layer.get_delta_weight(self.role).float())


class Merged(InProcess):
    """`generate` with a merged copy of the policy; other roles are sampled from their adapters."""

    def __init__(self, roles: Roles, dtype: torch.dtype) -> None:
        super().__init__(roles)
        self.copy = MergedCopy(roles, "policy", dtype=dtype)

    def refresh(self) -> None:
        """Merge the policy's present adapter."""
        self.copy.refresh()

    def sample(
        self, prompts: Sequence[Sequence[int]], *, role: str, max_new_tokens: int, temperature: float, seed: int
    ) -> Samples:
        """See `Engine`."""
        if role != self.copy.role:
            return super().sample(prompts, role=role, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        responses = generate_with(
            self.copy.model,
            self.roles.tokenizer,
            prompts,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            device=self.roles.device,
        )
        return Samples(responses.lists())


class Vllm(InProcess):
    """A vLLM server in a process of its own; other roles are sampled in this process."""

    in_batches = False

    def __init__(self, roles: Roles, url: str, folder: Path, processes: Processes) -> None:
        super().__init__(roles)
        self.client = VllmClient(roles, url, folder, processes)

    def refresh(self) -> None:
        """Have the server load the policy's present adapter."""
        self.client.refresh()

    def sample(
        self, prompts: Sequence[Sequence[int]], *, role: str, max_new_tokens: int, temperature: float, seed: int
    ) -> Samples:
        """See `Engine`."""
        options: Any = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        if role != "policy":
            return super().sample(prompts, role=role, **options)
        return Samples(*self.client.sample(prompts, **options))
