"""Held-out token rows to verify an export on, and the logits of a run's own head on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from workbench.data.embedded import resolve_data
from workbench.data.labelled import stream_texts
from workbench.data.readers import read_prompts
from workbench.data.records import Message
from workbench.data.rules import RowRules
from workbench.data.tokenise import encode_prompt, encode_text
from workbench.evaluate.heldout_pairs import PairsWithin, foreign_pairs
from workbench.evaluate.inputs import EvaluationInputs
from workbench.export.trained import ROLE, batches
from workbench.model.generate import generate
from workbench.model.heads import load_head, load_label_head
from workbench.model.masks import last_tokens
from workbench.model.open import check_probe
from workbench.model.roles import Roles
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.parents import find_data

ROWS = 64
"""Prompts, pairs or texts."""
ANSWER = 48
"""Tokens that the trained model samples after each prompt."""


@dataclass(frozen=True)
class Head:
    """A trained head as one linear map: logits = W h + b."""

    weight: Tensor
    """(K, D) float32, gain included."""
    bias: Tensor
    """(K,) float32, offset included."""
    labels: list[str]
    """K names; `score` for a reward model."""
    multi_label: bool


def heldout_rows(folder: RunFolder, roles: Roles, heldout: str | None, *, seed: int = 0) -> list[list[int]]:
    """Token rows, the shortest first: prompts with an answer of the trained model, both sides of pairs, or texts.

    Args:
        folder: of the run.
        roles: with the trained model as `ROLE`.
        heldout: file of prompts, pairs (reward) or texts (classification); None: the run's own.
        seed: of the sampled answers.

    Raises:
        WorkbenchError: none are known, or the file is bad.
    """
    phase, rules = folder.record()["phase"], RowRules.of_run(folder.config_path)
    if phase == "reward":
        rows = _pairs(folder, roles, resolve_data(heldout), rules) if heldout else _probe_rows(folder)
    elif phase == "classify":
        rows = _texts(folder, roles, heldout)
    else:
        file = resolve_data(EvaluationInputs(prompts=heldout).prompts_of(folder))
        rows = _answered(roles, [one.prompt for one in read_prompts(file, rules)[:ROWS]], seed)
    fitting = sorted((row for row in rows if len(row) <= roles.positions), key=len)
    if not fitting:
        place, expected = heldout or folder.path, f"rows of at most {roles.positions} tokens"
        raise WorkbenchError(place, "no held-out row fits the base", expected=expected, remedy="--heldout FILE")
    if len(fitting) < len(rows):
        print(f"{len(rows) - len(fitting)} of {len(rows)} held-out rows are longer than the base reads: left out")
    return fitting


def _pairs(folder: RunFolder, roles: Roles, file: Path, rules: RowRules) -> list[list[int]]:
    return PairsWithin.of(folder, roles.tokenizer, foreign_pairs(file, rules)[:ROWS]).rows


def _probe_rows(folder: RunFolder) -> list[list[int]]:
    """The rows that the reward run stored with their scores."""
    _, probe = load_head(folder.head_path)
    return [ids[real].tolist() for ids, real in zip(probe.ids, probe.mask, strict=True)] if probe else []


def _texts(folder: RunFolder, roles: Roles, heldout: str | None) -> list[list[int]]:
    record = folder.record()
    own = "heldout" if "heldout" in record["data"] else "train"
    file = resolve_data(heldout) if heldout else find_data(folder, own)
    rows = []
    for row in islice(stream_texts(file, record["text_column"]), ROWS):
        if not isinstance(row, WorkbenchError):
            rows.append(encode_text(roles.tokenizer, row[1]))
        elif heldout:  # of the run's own file, training left out such rows and listed them
            raise row
    return rows


def _answered(roles: Roles, prompts: Sequence[Sequence[Message]], seed: int) -> list[list[int]]:
    encoded = [encode_prompt(roles.tokenizer, prompt) for prompt in prompts]
    encoded = [ids for ids in encoded if len(ids) < roles.positions]
    room = roles.positions - max(map(len, encoded), default=0)
    sampled = generate(roles, ROLE, encoded, max_new_tokens=min(ANSWER, room), temperature=1.0, seed=seed)
    return [ids + answer for ids, answer in zip(encoded, sampled.lists(), strict=True)]


def head_of(folder: RunFolder, roles: Roles) -> Head:
    """The head of a reward model, after its stored probe was scored again, or of a classifier.

    Raises:
        WorkbenchError: the run has none, or the reward model scores its probe differently than in training.
    """
    if not folder.has_head:
        raise WorkbenchError(
            folder.path,
            "trained no head",
            expected="a reward run, or a classification run with method: head",
            remedy="--to merged, or --to gguf",
        )
    record = folder.record()
    if record["phase"] == "classify":
        labels = load_label_head(folder.head_path)
        weight, bias = labels.weight.detach(), labels.bias.detach()
        return Head(weight, bias, list(labels.labels), bool(record["multi_label"]))
    head, probe = load_head(folder.head_path)
    roles.heads[ROLE] = head.to(roles.device)
    if probe is not None:
        check_probe(roles, ROLE, probe, folder.path)
    head = head.cpu()
    weight, bias = head.gain * head.weight.detach(), head.gain * head.bias.detach() + head.offset
    return Head(weight[None], bias[None], ["score"], False)


def head_logits(roles: Roles, head: Head, rows: list[list[int]]) -> Tensor:
    """(N, K) float32 logits of the trained model at the last token of each row."""
    found = torch.zeros(len(rows), len(head.bias))
    for batch, ids, mask in batches(rows, roles.tokenizer.pad_token_id, roles.device):
        with roles.use(ROLE) as forward:
            states = forward(ids, mask, last_tokens(mask)).detach().float().cpu()
        found[batch] = states @ head.weight.T + head.bias
    return found
