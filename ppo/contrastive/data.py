"""Preference pairs as rows of the contrastive trainer: token ids, labels, and the reference's log-probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ppo.config import ContrastiveConfig, LossSection
from ppo.contrastive.curriculum import draw_order
from ppo.contrastive.losses import PairLogprobs, label_targets
from workbench.data.batching import encode_pairs
from workbench.data.readers import read_preferences
from workbench.data.records import Preference, Prompt, RatedAnswer
from workbench.data.rules import RowRules
from workbench.data.splits import from_mix, load_pairs
from workbench.evaluate.metrics import correctness
from workbench.evaluate.statistics import share_interval
from workbench.model.roles import Roles
from workbench.model.score import response_nll
from workbench.model.session import Session
from workbench.run.errors import WorkbenchError
from workbench.run.progress import progress

ROWS_AT_ONCE = 512
"""Rows between two steps of the progress bar of the reference's pass."""

Row = dict[str, Any]
"""A pair: `prompt_ids`, `chosen_ids` and `rejected_ids` (responses alone, EOS last), `target`, `margin`, `weight`,
`difficulty`; from `with_reference` also `reference_chosen` and `reference_rejected`."""


@dataclass(frozen=True)
class PairData:
    """Encoded pairs."""

    train: list[Row]
    heldout: list[Row]
    heldout_groups: list[str]
    """The prompt of each held-out pair."""
    heldout_prompts: list[Prompt]
    """Distinct held-out prompts."""
    counts: dict[str, int]
    """Pairs on each side; ties and over-long pairs that are left out."""


def load_data(
    config: ContrastiveConfig, tokenizer: PreTrainedTokenizerBase, files: dict[str, Path], rules: RowRules
) -> PairData:
    """Read, split by prompt and encode.

    Raises:
        WorkbenchError: from the readers and the split; or all pairs are too long.
    """
    section = config.data
    split = load_pairs(
        files["train"],
        files.get("heldout"),
        heldout_share=section.heldout_share,
        seed=config.run.seed,
        limit=section.limit,
        rules=rules,
    )
    encode = partial(encode_pairs, tokenizer, max_length=section.max_length, prompt_apart=True, rules=rules)
    more = from_mix(read_preferences(files["mix"], rules), split.heldout) if "mix" in files else []
    pairs = [*split.train, *more]
    encoded = encode(pairs, source=files["train"])
    kept_out = encode(split.heldout, source=files.get("heldout", files["train"]))
    counts = {
        "train": len(encoded.rows),
        "heldout": len(kept_out.rows),
        "ties": split.ties,
        "too_long": encoded.dropped + kept_out.dropped,
    }
    counts |= {"leaked": split.leaked} if split.leaked else {}
    if "mix" in files:
        counts["mixed"] = sum(index >= len(split.train) for index in encoded.kept)
    heldout = [split.heldout[index] for index in kept_out.kept]
    factors = [section.mix_weight if index >= len(split.train) else 1.0 for index in encoded.kept]
    return PairData(
        train=labelled(encoded.rows, [pairs[index] for index in encoded.kept], config.loss, factors=factors),
        heldout=labelled(kept_out.rows, heldout, config.loss),
        heldout_groups=[pair.group for pair in heldout],
        heldout_prompts=distinct_prompts(heldout),
        counts=counts,
    )


def distinct_prompts(records: Sequence[Preference | RatedAnswer]) -> list[Prompt]:
    """The prompt of each group, in the order of the records."""
    return list({record.group: Prompt(id=record.group, prompt=record.prompt) for record in reversed(records)}.values())[
        ::-1
    ]


def labelled(
    rows: Sequence[Row], pairs: Sequence[Preference], section: LossSection, *, factors: Sequence[float] | None = None
) -> list[Row]:
    """The rows with what their records say; weights have mean 1, so that they leave the step size alone.

    Args:
        rows: N encoded pairs.
        pairs: their records.
        section: of the loss.
        factors: (N,) on the weights of the records; None: 1.
    """
    certainties = [
        (probability, weight * factor)
        for (probability, weight), factor in zip(
            (pair.certainty(soft=section.soft_labels) for pair in pairs), factors or [1.0] * len(pairs), strict=True
        )
    ]
    probabilities = torch.tensor([probability for probability, _ in certainties])
    targets = label_targets(probabilities, section.label_smoothing, unbiased=section.unbiased).tolist()
    mean = sum(weight for _, weight in certainties) / max(len(pairs), 1) or 1.0
    return [
        {
            **row,
            "target": target,
            "margin": section.margin * pair.strength,
            "weight": weight / mean,
            "difficulty": difficulty_of(pair),
        }
        for row, pair, target, (_, weight) in zip(rows, pairs, targets, certainties, strict=True)
    ]


def difficulty_of(pair: Preference) -> float:
    """The record's `difficulty`; without one, how little people saw between the responses: 1 − strength / 3."""
    return pair.difficulty if pair.difficulty is not None else 1 - pair.strength / 3


def in_order(rows: list[Row], config: ContrastiveConfig) -> list[Row]:
    """The rows as training reads them, one after the other, each as often as the curriculum draws it.

    Raises:
        WorkbenchError: all pairs are equally hard.
    """
    section, train = config.curriculum, config.train
    difficulties = [row["difficulty"] for row in rows]
    if min(difficulties) == max(difficulties):
        raise WorkbenchError(
            "curriculum.schedule",
            f"is {section.schedule}, but all {len(rows)} pairs have difficulty {difficulties[0]:.3g}",
            expected="pairs with `difficulty`, or with several strengths",
            remedy="make pairs with `python -m ppo pairs`, or curriculum.schedule=mixed",
        )
    draws = train.max_steps * train.batch_size or round(len(rows) * train.epochs)
    order = draw_order(difficulties, draws, schedule=section.schedule, power=section.power, seed=config.run.seed)
    return [rows[index] for index in order]


def with_reference(
    session: Session,
    roles: Roles,
    rows: list[Row],
    name: str,
    *,
    batch_size: int,
    sides: Sequence[str] = ("chosen", "rejected"),
    role: str = "default",
) -> list[Row]:
    """The rows with their responses' log-probabilities under the reference.

    The reference never changes, so its pass over the data is made once and kept in the run folder: a resumed run reads
    it there.

    Args:
        session: the run; its first process computes, all of them read.
        roles: with the reference.
        rows: N of them.
        name: of the file in the run folder.
        batch_size: responses in one pass, at most.
        sides: a row's responses: `SIDE_ids` becomes `reference_SIDE`.
        role: of the reference; before training, the policy is still the start adapter.
    """
    file = session.folder.path / f"{name}.safetensors"
    if session.processes.first and not file.is_file():
        found = _reference_logprobs(roles, role, rows, sides, batch_size, description=name)
        half_written = file.with_suffix(".part")
        save_file(found, half_written)
        half_written.replace(file)
    session.processes.wait()
    known = {f"reference_{side}": nats.tolist() for side, nats in load_file(file).items()}
    return [{**row, **{side: nats[index] for side, nats in known.items()}} for index, row in enumerate(rows)]


def _reference_logprobs(
    roles: Roles, role: str, rows: list[Row], sides: Sequence[str], batch_size: int, *, description: str
) -> dict[str, Tensor]:
    """(N,) float32 of each side."""
    bar = progress(total=len(rows), description=description, unit="row")
    parts: dict[str, list[Tensor]] = {side: [] for side in sides}
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        for side, found in parts.items():
            found.append(side_logprobs(roles, part, side, role=role, batch_size=batch_size)[0])
        bar.update(len(part))
    bar.close()
    return {side: torch.cat(found).float() for side, found in parts.items()}


def side_logprobs(
    roles: Roles, rows: Sequence[Row], side: str, *, role: str = "default", batch_size: int
) -> tuple[Tensor, Tensor]:
    """Log-probability of each row's response of a side under a role, (N,) float64 nats, and its tokens."""
    prompts, responses = ([row[name] for row in rows] for name in ("prompt_ids", f"{side}_ids"))
    nats, tokens = response_nll(roles, role, prompts, responses, batch_size=batch_size)
    return -nats, tokens


def logprobs_of(roles: Roles, rows: Sequence[Row], *, batch_size: int) -> PairLogprobs:
    """Both roles' log-probabilities of N pairs, float64: the policy's computed now, the reference's from the rows."""
    chosen, chosen_tokens = side_logprobs(roles, rows, "chosen", batch_size=batch_size)
    rejected, rejected_tokens = side_logprobs(roles, rows, "rejected", batch_size=batch_size)
    return PairLogprobs(
        chosen,
        rejected,
        column(rows, "reference_chosen").double(),
        column(rows, "reference_rejected").double(),
        chosen_tokens.double(),
        rejected_tokens.double(),
    )


def column(rows: Sequence[Row], name: str) -> Tensor:
    """(N,) float32 of one field."""
    return torch.tensor([row[name] for row in rows], dtype=torch.float32)


def heldout_figures(losses: Tensor, gaps: Tensor, groups: Sequence[str]) -> dict[str, float]:
    """`heldout/…` of N comparisons: the mean loss, the share of positive gaps with its interval, and the mean gap.

    Args:
        losses: of the rows, of any number.
        gaps: (N,) implicit reward of the better answer less that of the worse one.
        groups: (N,) prompts, over which the interval is computed.
    """
    right = share_interval(correctness(gaps.numpy()), groups)
    return {
        "heldout/loss": float(losses.mean()),
        "heldout/accuracy": right.mean,
        "heldout/accuracy_low": right.low,
        "heldout/accuracy_high": right.high,
        "heldout/margin": float(gaps.mean()),
        "heldout/pairs": right.count,
    }
