"""Sampling from adapters that change: the base is opened once, adapters take turns on it.

The only file of this package that imports torch when it is loaded; nothing that the page imports may import it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from annotate.sampling.sources import ADAPTER, STATE, Source, locate
from workbench.data.records import Prompt
from workbench.model.base import BaseSpec, load_base, load_tokenizer
from workbench.model.generate import Sampled, sample
from workbench.model.open import base_of
from workbench.model.roles import Roles
from workbench.run.errors import WorkbenchError
from workbench.run.parents import find_parent

_ROLE = "policy"


class Answerer:
    """One base with one adapter on it, which can be exchanged."""

    def __init__(self) -> None:
        self._roles: Roles | None = None
        self._spec: BaseSpec | None = None
        self._mark = ""

    def use(self, source: Source) -> None:
        """Put these weights in the place of the others; opens the base where that is another one.

        Raises:
            WorkbenchError: the base is missing or has changed, or the adapter does not fit it.
        """
        if source.mark == self._mark:
            return
        spec = base_of(source.run)
        shape = _shape_of(source)
        if self._roles is None or self._spec != spec or not _fits(self._roles, shape):
            tokenizer = load_tokenizer(spec.name, spec.revision, spec.pad_token)
            self._roles, self._spec = Roles.of(load_base(spec, tokenizer), tokenizer, _ROLE, shape), spec
        self._roles.load_adapter_state(_ROLE, _read(source.weights))
        self._mark = source.mark

    def __call__(self, prompts: Sequence[Prompt], **settings: Any) -> Iterator[tuple[Prompt, list[Sampled]]]:
        """A sampler of `annotate.sampling.pairs`."""
        assert self._roles is not None, "use() comes first"
        return sample(self._roles, _ROLE, prompts, **settings)


def _shape_of(source: Source) -> Path:
    """A folder with an adapter of the same shape: its own, or that of the run from which the ppo run started."""
    if source.weights.name == ADAPTER:
        return source.weights.parent
    if (source.run.adapter / ADAPTER).is_file():
        return source.run.adapter
    start = find_parent(source.run, "start")
    if start is None:
        raise WorkbenchError(source.run.record_path, "does not say from which run it started")
    return locate(str(start.path)).weights.parent


def _fits(roles: Roles, shape: Path) -> bool:
    ours = roles.adapter_state(_ROLE)
    theirs = _lora(load_file(shape / ADAPTER))
    return {name: tensor.shape for name, tensor in ours.items()} == {n: t.shape for n, t in theirs.items()}


def _read(weights: Path) -> dict[str, Tensor]:
    if weights.name == STATE:
        # Our own checkpoint, of a run on this machine; it holds generator states, which need more than weights_only.
        adapters: dict[str, dict[str, Tensor]] = torch.load(weights, map_location="cpu", weights_only=False)["adapters"]
        return adapters["policy"]
    return _lora(load_file(weights))


def _lora(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if "lora_" in name}
