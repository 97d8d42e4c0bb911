"""A copy of base and adapter in one set of plain weights, for sampling: no dequantisation and no adapter's extra steps.

It needs the memory of the unquantised base (13 GB for a 7B in bfloat16) on the device, none on the host. The weights
that are copied are what the NF4 base stands for, dequantised, so the copy is the policy up to the rounding of `dtype`;
the NF4 base itself is never merged into, which would drift further with every round.
"""

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.initialization import no_init_weights

from workbench.model.dense import unpacked
from workbench.model.roles import Roles


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
            if isinstance(layer, LoraLayer)
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
