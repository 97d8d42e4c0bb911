"""The model of a run as it was trained, computed in float32: what every export is compared with."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from workbench.model.base import load_base, load_tokenizer
from workbench.model.masks import pad_rows
from workbench.model.open import base_of, without_dropout
from workbench.model.roles import Roles
from workbench.model.score import batches_by_length, pass_tokens
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

ROLE = "trained"
Weights = Literal["trained", "original"]
"""`trained`: the base as it was in training, so dequantised NF4 for an NF4 run. `original`: the base's own files."""


def open_trained(folder: RunFolder, weights: Weights = "trained", *, base: str | None = None) -> Roles:
    """The base with the run's adapter as role `ROLE`, in float32 whatever the run's dtype.

    Raises:
        WorkbenchError: the run is unfinished, its base is another one, or its adapter cannot be merged.
    """
    check_lora(folder)
    spec = replace(base_of(folder.require_finished(), base), dtype="float32", kernels="modules")
    if weights == "original":
        spec = replace(spec, quantise="none")
    tokenizer = load_tokenizer(spec.name, spec.revision, spec.pad_token)
    model = load_base(spec, tokenizer)
    without_dropout(model)
    return Roles.of(model, tokenizer, ROLE, folder.adapter)


def check_lora(folder: RunFolder) -> None:
    """Refuse an adapter that is no change of weights: a soft prompt exists only at the input.

    Raises:
        WorkbenchError: it is not LoRA or DoRA.
    """
    path = folder.adapter / "adapter_config.json"
    if not path.is_file():
        raise WorkbenchError(path, "no adapter here", expected="a finished run; of an ensemble, RUN/members/1")
    kind = str(json.loads(path.read_text(encoding="utf-8")).get("peft_type"))
    if kind != "LORA":
        raise WorkbenchError(
            folder.path,
            f"its adapter is {kind}, which cannot be folded into the weights of a base",
            expected="LoRA or DoRA",
            remedy=f"load it with peft: {folder.adapter} is in peft's own format",
        )


@dataclass(frozen=True)
class States:
    """Final hidden states of token rows, with and without the adapter. N = tokens of all rows, D = hidden."""

    rows: list[list[int]]
    trained: Tensor
    """(N, D) float32, on the CPU, row by row."""
    base: Tensor
    """(N, D) float32, likewise."""
    lm_head: Tensor
    """(V, D) float32."""


def batches(rows: Sequence[list[int]], pad_id: int, device: torch.device) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Index, ids (B, T) and mask (B, T) of right-padded batches of similar length."""
    for batch in batches_by_length(list(map(len, rows)), batch_size=16, batch_tokens=pass_tokens(device)):
        ids, mask = pad_rows([rows[index] for index in batch], pad_id)
        yield batch, ids.to(device), mask.to(device)


def states_of(roles: Roles, rows: list[list[int]]) -> States:
    """The states of the rows under the trained model and under its base."""
    trained, bare = [torch.zeros(0)] * len(rows), [torch.zeros(0)] * len(rows)
    model: Any = roles.model
    for batch, ids, mask in batches(rows, roles.tokenizer.pad_token_id, roles.device):
        with roles.use(ROLE) as forward:
            _scatter(trained, batch, forward(ids, mask), mask)
            with model.disable_adapter():
                _scatter(bare, batch, forward(ids, mask), mask)
    return States(rows, torch.cat(trained), torch.cat(bare), roles.lm_head.float().cpu())


def _scatter(found: list[Tensor], batch: list[int], hidden: Tensor, mask: Tensor) -> None:
    for index, states, real in zip(batch, hidden, mask, strict=True):
        found[index] = states[real].detach().float().cpu()
