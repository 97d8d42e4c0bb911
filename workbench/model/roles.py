"""One base, every role an adapter: the one place that switches between policy, reference, value and reward.

    with roles.use("policy", train=True) as policy:
        hidden = policy(input_ids, attention_mask)
        …                       # loss
        loss.backward()         # before the role changes: enforced

With peft, a backward pass after a switch gives zero gradients (wrong ones with activation checkpointing) and no error.
So `use` cannot be nested, and raises if it ends before the backward pass of a forward pass. One of the files that know
peft. Shapes: B = batch, T = tokens, D = hidden, n = selected tokens.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from workbench.data.base_files import positions_of
from workbench.data.template import end_ids
from workbench.model.adapters import (
    adapter_weights,
    causal_model_of,
    frozen_config,
    load_adapter,
    read_adapter,
    virtual_tokens_of,
)
from workbench.model.adapters import lora_config as lora_config  # a script that builds roles finds these two here
from workbench.model.adapters import start_training_adapter as start_training_adapter
from workbench.model.base import full_size, keep_cpu_weights_in_place
from workbench.model.cpu.blocks import one_thread_per_op
from workbench.model.cpu.dense import Dense
from workbench.model.cpu.entrance import cpu_kernels, reason_for_modules
from workbench.model.heads import ScalarHead
from workbench.model.masks import is_end, last_tokens, position_ids
from workbench.run.checkpoints import publish_folder
from workbench.run.divergence import require_finite_file
from workbench.run.errors import WorkbenchError


class Forward(Protocol):
    """The forward pass of the role in use."""

    def __call__(self, input_ids: Tensor, attention_mask: Tensor, at: Tensor | None = None) -> Tensor:
        """(B, T) twice → final hidden states (B, T, D), or (n, D) of the n tokens where `at` (B, T) is True."""


@dataclass
class Roles:
    """Named adapters and scalar heads on one frozen base."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    heads: dict[str, ScalarHead] = field(default_factory=dict)
    _weights: dict[str, list[nn.Parameter]] = field(default_factory=dict)
    _layers: list[LoraLayer] = field(default_factory=list)
    _active: str | None = None
    _gradients_owed: int = 0

    def __post_init__(self) -> None:
        self.model.eval()  # all modules in one mode: peft's are new in train mode
        self._find_layers()

    @classmethod
    def of(cls, base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, role: str, adapter: Path) -> "Roles":
        """Put the first role on a base, with the same checks as every other one."""
        model: Any = get_peft_model(base, frozen_config(adapter, base), adapter_name=role)
        load_adapter(
            model, role, read_adapter(adapter), place=adapter
        )  # from_pretrained would ignore what does not fit
        roles = cls(model, tokenizer)
        roles._finish_adding(role)
        return roles

    @property
    def names(self) -> list[str]:
        """The roles on the base."""
        return list(self.model.peft_config)

    @property
    def device(self) -> torch.device:
        """The device of the base."""
        return self.lm_head.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the hidden states; adapters and heads are float32."""
        return self.lm_head.dtype

    @cached_property
    def positions(self) -> int:
        """The most positions, in tokens, that a row of this base may have, without those of virtual tokens."""
        return (positions_of(self.causal_model.config.get_text_config().to_dict()) or 1 << 30) - self.virtual_tokens

    @property
    def virtual_tokens(self) -> int:
        """The virtual tokens before each row: more than 0 if the adapters are soft prompts or prefixes."""
        return virtual_tokens_of(self.model)

    @property
    def lm_head(self) -> Tensor:
        """(V, D) weight of the base's LM head."""
        weight: Tensor = self.causal_model.get_output_embeddings().weight
        return weight

    @property
    def causal_model(self) -> Any:
        """The causal model inside; its layers carry every adapter."""
        return causal_model_of(self.model)

    def add(self, role: str, adapter: Path, head: ScalarHead | None = None) -> None:
        """Load another adapter (in peft format) under a role's name, frozen.

        Raises:
            WorkbenchError: it does not fit the base, or is a soft prompt while the others are LoRA, or the reverse.
        """
        config = frozen_config(adapter, self.causal_model)
        kind = self.model.peft_config[self.names[0]].peft_type
        if config.peft_type != kind:
            raise WorkbenchError(
                adapter,
                f"is of the kind {config.peft_type}, and cannot share a base with one of the kind {kind}",
                expected="adapters of one kind: all LoRA, or all soft prompts, or all prefixes",
                remedy="open these runs one at a time (evaluate: without --reward and --against)",
            )
        self.model.add_adapter(role, config)
        load_adapter(self.model, role, read_adapter(adapter), place=adapter)
        self._finish_adding(role)
        if head is not None:
            self.heads[role] = head.to(self.device)

    def copy(self, source: str, target: str) -> None:
        """A new role that starts as an exact copy of another one's adapter (heads are not copied)."""
        config = LoraConfig(**{**self.model.peft_config[source].to_dict(), "inference_mode": True})
        self.model.add_adapter(target, config)
        with torch.no_grad():
            for mine, theirs in zip(self._adapter_weights(target), self._adapter_weights(source), strict=True):
                mine.copy_(theirs)
        self._finish_adding(target)

    def average(self, sources: Sequence[str], target: str) -> None:
        """A new role whose adapter is the average of others', each a product B·A; its rank is the sum of theirs."""
        model: Any = self.model
        # Their factors side by side are the exact average of the products; the product of averaged factors is not.
        model.add_weighted_adapter(list(sources), [1 / len(sources)] * len(sources), target, combination_type="cat")
        self._finish_adding(target)

    def remove(self, role: str) -> None:
        """Take a role and its head off the base. `default`, which a trainer owns, is then active and trainable."""
        self._switch("default", train=True)
        self.model.delete_adapter(role)
        self._weights.pop(role, None)
        self.heads.pop(role, None)
        self._find_layers()
        self._switch("default", train=True)

    def _find_layers(self) -> None:
        self._layers = [module for module in self.model.modules() if isinstance(module, LoraLayer)]

    def _finish_adding(self, role: str) -> None:
        self._find_layers()
        keep_cpu_weights_in_place(self.model)
        self.model.eval()  # as after construction: the adapter's modules are new
        for weight in self._adapter_weights(role):
            weight.data = weight.data.float()  # bfloat16 would round most of an optimizer step away
            weight.requires_grad_(False)

    @property
    def cpu_kernels(self) -> Dense | None:
        """The CPU kernels of this base, if they apply at this moment; None: the modules run."""
        return None if self.virtual_tokens else cpu_kernels(self.causal_model.model)

    def reason_for_modules(self, *, activation_checkpointing: bool) -> str | None:
        """Why training runs on the modules; None if it runs on the CPU kernels."""
        if self.virtual_tokens:
            return "virtual tokens"
        return reason_for_modules(self.causal_model.model, recomputes=activation_checkpointing)

    def one_thread_per_op(self) -> contextlib.AbstractContextManager[None]:
        """Wrap a training loop in this: it avoids thread contention with the CPU kernels and does nothing elsewhere."""
        recomputes = self.causal_model.model.gradient_checkpointing
        on_cpu = self.cpu_kernels is not None and self.reason_for_modules(activation_checkpointing=recomputes) is None
        return one_thread_per_op() if on_cpu else contextlib.nullcontext()

    @contextlib.contextmanager
    def use(self, role: str, *, train: bool = False) -> Iterator[Forward]:
        """Make `role` active for the body; the only place where adapters are switched.

        Args:
            role: one of `names`.
            train: gradients for this role's adapter (and activation checkpointing, if it is on). Otherwise eval
                mode without gradients.

        Raises:
            RuntimeError: nested use, or the body ends with a forward pass whose backward pass has not run.
        """
        if self._active is not None:
            raise RuntimeError(f"role {role!r} asked for while {self._active!r} is in use: one role at a time")
        was_trainable = self._adapter_weights(role)[0].requires_grad
        self._switch(role, train=train)
        if self.model.training != train:
            self.model.train(train)
        self._active, self._gradients_owed = role, 0
        try:
            with torch.set_grad_enabled(train):
                yield self._forward
            if self._gradients_owed > 0:
                raise RuntimeError(
                    f"role {role!r} is released before its backward pass: its gradients would silently be lost"
                )
        finally:
            self._active = None
            if was_trainable and not train:  # a TRL trainer owns this adapter and continues with it
                self._switch(role, train=True)

    def _switch(self, role: str, *, train: bool) -> None:
        """Like `model.set_adapter(role, inference_mode=not train)`, but without walking through every module."""
        for name in self.names:
            for weight in self._adapter_weights(name):
                weight.requires_grad_(train and name == role)
        model: Any = self.model
        model.active_adapter = role
        if not self.virtual_tokens:
            model.base_model.active_adapter = role
        for layer in self._layers:
            layer._active_adapter = [role]

    def _forward(self, input_ids: Tensor, attention_mask: Tensor, at: Tensor | None = None) -> Tensor:
        """The forward pass of the active role; see `Forward`."""
        check_row(input_ids.shape[1], self.positions)
        dense = self.cpu_kernels
        if dense is not None:
            hidden = dense(input_ids, attention_mask.bool(), at)
        else:
            virtual = self.virtual_cache(len(input_ids))
            real = torch.nn.functional.pad(attention_mask.long(), (self.virtual_tokens, 0), value=1)
            hidden = self.causal_model.model(
                input_ids=input_ids,
                attention_mask=real,
                position_ids=position_ids(attention_mask) + self.virtual_tokens,
                past_key_values=virtual,
                use_cache=virtual is not None,
            ).last_hidden_state
            hidden = hidden if at is None else hidden[at]
        if hidden.requires_grad:  # counted, so that `use` can refuse to switch before the backward pass
            self._gradients_owed += 1
            hidden.register_hook(self._gradient_paid)
        return hidden

    def virtual_cache(self, rows: int) -> DynamicCache | None:
        """Keys and values of the active role's virtual tokens, for this many rows; None for LoRA.

        A soft prompt is run through the base; a prefix consists of keys and values. Each call returns a new cache.
        """
        if not self.virtual_tokens:
            return None
        learned = self.model.get_prompt(rows)
        if isinstance(learned, DynamicCache):
            return learned
        decoder = self.causal_model.model
        cache: DynamicCache = decoder(inputs_embeds=learned.to(self.dtype), use_cache=True).past_key_values
        return cache

    def _gradient_paid(self, gradient: Tensor) -> None:
        self._gradients_owed -= 1

    def parameters(self, role: str) -> list[nn.Parameter]:
        """The trainable parameters of a role, chosen by name: its adapter, then its head."""
        head = list(self.heads[role].parameters()) if role in self.heads else []
        return self._adapter_weights(role) + head

    def _adapter_weights(self, role: str) -> list[nn.Parameter]:
        if role not in self._weights:
            self._weights[role] = list(adapter_weights(self.model, role).values())
        return self._weights[role]

    def adapter_state(self, role: str) -> dict[str, Tensor]:
        """The weights of a role's adapter under their names in peft's files, for a checkpoint or a comparison."""
        return {name: weight.data for name, weight in adapter_weights(self.model, role).items()}

    def load_adapter_state(self, role: str, state: dict[str, Tensor]) -> None:
        """Restore what `adapter_state` returned."""
        load_adapter(self.model, role, state, place=f"role {role}")

    def save_adapter(self, role: str, folder: Path) -> None:
        """Write a role's adapter in plain peft format, with the tokenizer, atomically.

        Raises:
            WorkbenchError: its weights are not finite.
        """

        def write(hidden: Path) -> None:
            self.model.save_pretrained(str(hidden), selected_adapters=[role])
            for file in (hidden / role).iterdir():  # peft puts a named adapter into a folder of that name
                file.rename(hidden / file.name)
            (hidden / role).rmdir()
            require_finite_file(hidden / "adapter_model.safetensors", folder)
            self.tokenizer.save_pretrained(str(hidden))

        publish_folder(folder, write)

    def checkpoint_activations(self) -> None:
        """Recompute activations during backward passes in train mode."""
        self.causal_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def scores(self, role: str, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The score (B,) float32 at the last real token of right-padded rows. No gradient."""
        return self.heads[role](self.features(role, input_ids, attention_mask)).detach()

    def features(self, role: str, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The hidden state (B, D) at the last real token of right-padded rows. No gradient.

        Any other end token in the last position is replaced by EOS, the only one that reward models are trained on.
        """
        last = last_tokens(attention_mask)
        input_ids = input_ids.masked_fill(
            last & is_end(input_ids, end_ids(self.tokenizer)), self.tokenizer.eos_token_id
        )
        with self.use(role) as forward:
            return forward(input_ids, attention_mask, last)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of each role's adapter and head."""
        heads = [role for role in self.heads if role not in self.names]
        return {role: sum(p.numel() for p in self.parameters(role)) for role in (*self.names, *heads)}

    def base_bytes(self) -> int:
        """Memory of the frozen base as stored: NF4 packs two parameters into a byte, plus scales."""
        return sum(p.numel() * p.element_size() + _scale_bytes(p) for p in self._base_weights())

    def base_parameters(self) -> int:
        """Parameters of the base, before quantisation."""
        return sum(map(full_size, self._base_weights()))

    def _base_weights(self) -> list[nn.Parameter]:
        """Every weight outside the adapters; tied weights once."""
        adapters = {id(p) for role in self.names for p in self._adapter_weights(role)}
        return [p for p in self.model.parameters() if id(p) not in adapters]

    def summary(self) -> str:
        """A table of parameters and memory: the base and each role."""
        rows = [("base, shared", f"{self.base_parameters():,}", self.base_bytes())]
        rows += [(role, f"{count:,}", 4 * count) for role, count in self.parameter_counts().items()]
        width = max(len(row[0]) for row in rows)
        lines = [f"  {name:<{width}}  {count:>15}  {size / 2**20:>10,.1f} MiB" for name, count, size in rows]
        return "\n".join([f"  {'role':<{width}}  {'parameters':>15}  {'memory':>14}", *lines])


def _scale_bytes(parameter: nn.Parameter) -> int:
    """Memory of an NF4 weight's scales: a byte per block of 64 weights, a float32 per block of 256 scales."""
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return 0
    scales = [state.absmax, *([state.state2.absmax] if state.nested else [])]
    return sum(scale.numel() * scale.element_size() for scale in scales)


def check_row(tokens: int, positions: int) -> None:
    """Refuse a row that is longer than the base's positions. The last check before a forward pass.

    Raises:
        WorkbenchError: a row is longer.
    """
    if tokens > positions:
        raise WorkbenchError(
            "base",
            f"it has {positions} positions, but a row has {tokens} tokens",
            expected=f"at most {positions} tokens of prompt and answer together",
            remedy="leave out the longest rows, or allow fewer tokens (data.max_length, max_new_tokens)",
        )
