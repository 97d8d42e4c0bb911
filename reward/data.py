"""Preference pairs as prompt groups of token rows for the reward trainer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from reward.config import LossSection, RewardPairSection
from reward.ensemble import resampled
from workbench.data.batching import encode_pairs
from workbench.data.records import Preference
from workbench.data.rules import RowRules
from workbench.data.splits import load_pairs


@dataclass(frozen=True)
class RewardData:
    """Encoded pairs."""

    train: Dataset
    """One row per prompt: `ids`, the token rows of its answers (prompt and response, EOS last), and one list entry per
    comparison in `chosen` and `rejected` (indices into `ids`), `level` of strength (0 tie … S), `probability` that
    chosen is better, and `weight`."""
    heldout: Dataset
    """One row per pair: chosen_ids and rejected_ids."""
    heldout_groups: list[str]
    """The prompt of each held-out row."""
    train_records: list[Preference]
    level_shares: list[float]
    """(S + 1,) share of the training pairs at each level of strength, ties first."""
    counts: dict[str, int]
    """Pairs on each side, ties and over-long pairs that are left out, and pairs whose prompt is `cut`."""


LARGEST_GROUP = 16
"""Answers in one group, at most; a prompt with more answers becomes several groups, so memory stays bounded."""


def load_data(
    tokenizer: PreTrainedTokenizerBase,
    files: Mapping[str, Path],
    section: RewardPairSection,
    loss: LossSection,
    *,
    seed: int,
    bootstrap_seed: int | None = None,
) -> RewardData:
    """Read the pairs, split them by prompt and encode them.

    Args:
        tokenizer: of the base.
        files: paths of `train` and, if the configuration names one, `heldout`.
        section: what is done to the pairs.
        loss: what it reads of a label: ties, strengths, soft labels.
        seed: of the split and of `shuffle_labels`.
        bootstrap_seed: draw the training prompts with replacement (a member of an ensemble); None: use each once.

    Raises:
        WorkbenchError: from the readers and the split; or all pairs are too long.
    """
    train, heldout = files["train"], files.get("heldout")
    rules = RowRules(section.ignore, section.bad_rows)
    split = load_pairs(
        train,
        heldout,
        heldout_share=section.heldout_share,
        seed=seed,
        keep_ties=loss.kind == "ordinal",
        limit=section.limit,
        rules=rules,
    )
    records = split.train
    if section.shuffle_labels:
        records = swapped_at_random(records, seed)
    if bootstrap_seed is not None:
        records = resampled(records, bootstrap_seed)
    encode = partial(
        encode_pairs,
        tokenizer,
        max_length=section.max_length,
        truncate_prompt=section.truncate_prompt,
        rules=rules,
    )
    encoded, kept_out = encode(records, source=train), encode(split.heldout, source=heldout or train)
    kept = [records[i] for i in encoded.kept]
    levels, shares = strength_levels([record.strength for record in kept])
    counts = {
        "train": len(encoded.rows),
        "heldout": len(kept_out.rows),
        "ties": split.ties,
        "too_long": encoded.dropped + kept_out.dropped,
        "cut": encoded.cut + kept_out.cut,
    }
    counts |= {"leaked": split.leaked} if split.leaked else {}
    rows = prompt_groups(encoded.rows, kept, levels, soft_labels=loss.soft_labels)
    groups = [split.heldout[i].group for i in kept_out.kept]
    return RewardData(Dataset.from_list(rows), Dataset.from_list(kept_out.rows), groups, kept, shares, counts)


def strength_levels(strengths: Sequence[float]) -> tuple[list[float], list[float]]:
    """Number the strengths that occur: 0 for ties, then 1 … S; an averaged strength lies between two levels.

    Returns:
        levels: (N,) level of each strength. shares: (S + 1,) share of pairs at each level, ties first; an averaged
            strength counts partly for both of its levels.
    """
    seen = sorted({float(whole) for s in strengths if s > 0 for whole in (math.floor(s), math.ceil(s))} - {0.0})
    known = [0.0, *seen]
    levels = np.interp(strengths, known, range(len(known)))
    shares = np.zeros(len(known))
    below = np.floor(levels).astype(int)
    np.add.at(shares, below, 1 - (levels - below))
    np.add.at(shares, np.ceil(levels).astype(int), levels - below)
    return levels.tolist(), (shares / shares.sum()).tolist()


LABELS = ("chosen", "rejected", "level", "probability", "weight")
"""Columns of a comparison."""


def prompt_groups(
    rows: Sequence[dict[str, Any]], records: Sequence[Preference], levels: Sequence[float], *, soft_labels: bool
) -> list[dict[str, Any]]:
    """Group comparisons by prompt, with each answer stored once; see `RewardData.train`."""
    groups: list[dict[str, Any]] = []
    newest: dict[str, dict[str, Any]] = {}
    for row, record, level in zip(rows, records, levels, strict=True):
        group = newest.get(record.group)
        if group is None or len(group["ids"]) > LARGEST_GROUP - 2:
            group = newest[record.group] = {"ids": [], **{name: [] for name in LABELS}}
            groups.append(group)
        for side in ("chosen", "rejected"):
            if row[f"{side}_ids"] not in group["ids"]:
                group["ids"].append(row[f"{side}_ids"])
            group[side].append(group["ids"].index(row[f"{side}_ids"]))
        group["level"].append(level)
        probability, weight = record.certainty(soft=soft_labels)
        group["probability"].append(probability)
        group["weight"].append(weight)
    return groups


def swapped_at_random(records: Sequence[Preference], seed: int) -> list[Preference]:
    """The records with chosen and rejected swapped in a random half, so labels carry no information."""
    generator = torch.Generator().manual_seed(seed)
    swap = torch.rand(len(records), generator=generator) < 0.5
    return [
        record.model_copy(update={"chosen": record.rejected, "rejected": record.chosen}) if flip else record
        for record, flip in zip(records, swap.tolist(), strict=True)
    ]
