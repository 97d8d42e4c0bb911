"""Rollout engines: each samples responses from the policy as it is now.

| engine | samples with |
|---|---|
| `auto` | the policy's adapter in this process: dense weights if the model has them (on a CPU), else `transformers` |
| `transformers` | transformers' `generate` and the policy's adapter |
| `merged` | `generate` on a merged copy of base and adapter: no dequantisation, but the memory of an unquantised base |
| `vllm` | a vLLM server that loads the adapter by name |

The policy's own forward pass scores the responses afterwards, whichever engine sampled them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.initialization import no_init_weights

from ppo.vllm import VllmClient
from workbench.model.cpu.dense import unpacked
from workbench.model.generate import generate, generate_with
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.run.out_of_memory import memory_hint


@dataclass(frozen=True)
class Samples:
    """One response to each of B prompts, in their order."""

    ids: list[list[int]]
    """Token ids, EOS included if the response ended."""
    logprobs: list[list[float]] | None = None
    """Log-probabilities of these tokens when they were drawn; None if the engine does not report them."""


class Engine(Protocol):
    """Samples one response to each prompt from the policy as it is now."""

    in_batches: bool
    """True: the caller limits the prompts per call. False: it passes all its prompts in one call."""

    def refresh(self) -> None:
        """Take over the policy's present weights; called once before each rollout."""

    def sample(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Samples:
        """Sample; equal prompts get different responses."""


@memory_hint("while copying the policy for sampling", "rollout.engine=transformers, which needs no merged copy")
def open_engine(name: str, roles: Roles, *, dtype: torch.dtype, url: str, folder: Path, processes: Processes) -> Engine:
    """The engine of that name.

    Args:
        name: auto, transformers, merged or vllm.
        roles: with the role policy.
        dtype: of the merged copy.
        url: of the vLLM server.
        folder: where the adapter is written for the vLLM server; both must see it.
        processes: of this run.
    """
    if name == "transformers":
        return Transformers(roles)
    if name == "merged":
        return Merged(roles, dtype)
    return Vllm(roles, url, folder, processes) if name == "vllm" else InProcess(roles)


class InProcess:
    """`generate` with the policy's adapter."""

    in_batches = True

    def __init__(self, roles: Roles) -> None:
        self.roles = roles

    def refresh(self) -> None:
        """Nothing to do: the adapter itself is used."""

    def sample(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Samples:
        """See `Engine`."""
        options: Any = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        return Samples(generate(self.roles, "policy", prompts, **options).lists())


class Transformers(InProcess):
    """transformers' `generate` with left padding."""

    def sample(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Samples:
        """See `Engine`."""
        options: Any = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        roles = self.roles
        with roles.use("policy"):
            return Samples(generate_with(roles.model, roles.tokenizer, prompts, **options, device=roles.device).lists())


class Merged(InProcess):
    """`generate` with a merged copy of the policy."""

    def __init__(self, roles: Roles, dtype: torch.dtype) -> None:
        super().__init__(roles)
        self.copy = MergedCopy(roles, "policy", dtype=dtype)

    def refresh(self) -> None:
        """Merge the policy's present adapter."""
        self.copy.refresh()

    def sample(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Samples:
        """See `Engine`."""
        options: Any = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        roles = self.roles
        return Samples(generate_with(self.copy.model, roles.tokenizer, prompts, **options, device=roles.device).lists())


class Vllm:
    """A vLLM server in a process of its own, which batches requests itself."""

    in_batches = False

    def __init__(self, roles: Roles, url: str, folder: Path, processes: Processes) -> None:
        self.client = VllmClient(roles, url, folder, processes)

    def refresh(self) -> None:
        """Have the server load the policy's present adapter."""
        self.client.refresh()

    def sample(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Samples:
        """See `Engine`."""
        return Samples(*self.client.sample(prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed))


class MergedCopy:
    """Base and one role's adapter merged into plain weights: no dequantisation, no adapter steps while sampling.

    It takes the memory of the unquantised base on the device (13 GB for a 7B in bfloat16), none on the host. The merged
    weights are the dequantised NF4 weights plus the adapter, so the copy is the policy up to the rounding of `dtype`.
    The NF4 base itself is never merged into: its rounding would drift further with every merge.

    Args:
        roles: the base with its adapters.
        role: whose adapter is merged; call `refresh` before sampling.
        dtype: of the copy.
    """

    def __init__(self, roles: Roles, role: str, *, dtype: torch.dtype) -> None:
        self.roles, self.role = roles, role
        config: Any = AutoConfig.for_model(**roles.causal_model.config.to_dict())
        config.quantization_config = None
        with roles.device, no_init_weights():  # created on the device and not filled twice: no 13 GB on the host
            self.model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
        self.model.tie_weights()  # no_init_weights skips it
        self.model.generation_config = roles.causal_model.generation_config
        self.model.requires_grad_(False)
        own: dict[str, Tensor] = {name: weight.data for name, weight in self.model.named_parameters()}
        self._layers = [  # (weight of the copy, LoRA layer); peft itself is known to workbench/model/ alone
            (own[f"{name}.weight"], module)
            for name, module in roles.causal_model.named_modules()
            if hasattr(module, "get_delta_weight")
        ]
        for name, weight in roles.causal_model.named_parameters():
            if "lora_" not in name and not name.endswith("base_layer.weight"):  # a bias has no adapter
                own[name.replace(".base_layer.", ".")].copy_(weight)

    def refresh(self) -> None:
        """Merge the adapter's present weights."""
        with torch.no_grad():
            layer: Any
            for own, layer in self._layers:
                own.copy_(unpacked(layer).float() + layer.get_delta_weight(self.role).float())
