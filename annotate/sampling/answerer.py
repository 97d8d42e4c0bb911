"""Sampling from adapters that change: the base is opened once, and adapters are exchanged on it.

The only file of this package that imports torch when it is loaded; nothing that the page imports may import it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from workbench.data.records import Prompt
from workbench.model.base import BaseSpec, load_base, load_tokenizer
from workbench.model.generate import Sampled, sample
from workbench.model.open import base_of
from workbench.model.roles import Roles
from workbench.run.sources import Source

_ROLE = "policy"


class Answerer:
    """One base with one adapter on it, which can be exchanged."""

    def __init__(self) -> None:
        self._roles: Roles | None = None
        self._spec: BaseSpec | None = None
        self._mark = ""

    def use(self, source: Source) -> None:
        """Use these weights from now on; opens their base unless it is open already.

        Raises:
            WorkbenchError: the base is missing or has changed, or the adapter does not fit it.
        """
        if source.mark == self._mark:
            return
        spec = base_of(source.run)
        weights = {name: tensor for name, tensor in load_file(source.weights).items() if "lora_" in name}
        if self._roles is None or self._spec != spec or not _fits(self._roles, weights):
            tokenizer = load_tokenizer(spec.name, spec.revision, spec.pad_token)
            self._roles, self._spec = Roles.of(load_base(spec, tokenizer), tokenizer, _ROLE, source.adapter), spec
        self._roles.load_adapter_state(_ROLE, weights)
        self._mark = source.mark

    def __call__(self, prompts: Sequence[Prompt], **settings: Any) -> Iterator[tuple[Prompt, list[Sampled]]]:
        """A sampler of `annotate.sampling.pairs`."""
        assert self._roles is not None, "use() comes first"
        return sample(self._roles, _ROLE, prompts, **settings)


def _fits(roles: Roles, weights: Mapping[str, Tensor]) -> bool:
    """Whether the open adapter has the shapes of these weights."""
    ours = roles.adapter_state(_ROLE)
    return {name: tensor.shape for name, tensor in ours.items()} == {n: t.shape for n, t in weights.items()}
