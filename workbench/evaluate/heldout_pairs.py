"""The preference pairs that a reward run is evaluated on, and their token rows. Knows no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workbench.data.batching import encode_pairs
from workbench.data.readers import read_preferences
from workbench.data.records import Preference
from workbench.data.rules import RowRules
from workbench.data.splits import load_pairs
from workbench.data.tokenise import encode_rows
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.parents import find_data


@dataclass(frozen=True)
class PairsWithin:
    """Held-out pairs, sorted by the run's own `data.max_length`. Rows are the chosen answers', then the rejected ones'.

    A run trains on no longer pairs, so accuracy is measured on the others first and on these separately.
    """

    pairs: list[Preference]
    """Ties, and pairs within the limit (with their prompts cut if the run cuts them)."""
    rows: list[list[int]]
    """Token rows of the pairs that are not ties."""
    longer: list[Preference]
    """Pairs beyond the limit that the base has positions for."""
    longer_rows: list[list[int]]
    beyond: int
    """Number of pairs beyond the limit."""
    max_length: int

    @classmethod
    def of(cls, folder: RunFolder, tokenizer: Any, pairs: Sequence[Preference]) -> "PairsWithin":
        """Sort the pairs by the limit in the run's configuration.

        Raises:
            WorkbenchError: every pair is too long.
        """
        data = yaml.safe_load(folder.config_path.read_text(encoding="utf-8"))["data"]
        positions = tokenizer.model_max_length
        most = min(int(data.get("max_length", positions)), positions)
        decided = [pair for pair in pairs if pair.strength > 0]
        ties = [pair for pair in pairs if pair.strength <= 0]
        if not decided:
            return cls(ties, [], [], [], 0, most)
        cut = bool(data.get("truncate_prompt", False))
        own = encode_pairs(tokenizer, decided, max_length=most, truncate_prompt=cut, source="held-out pairs")
        kept = set(own.kept)
        beyond = [pair for index, pair in enumerate(decided) if index not in kept]
        readable = [
            (pair, row) for pair in beyond if max(map(len, (row := _pair_row(tokenizer, pair)).values())) <= positions
        ]
        return cls(
            pairs=[*(decided[index] for index in own.kept), *ties],
            rows=_both_sides(own.rows),
            longer=[pair for pair, _ in readable],
            longer_rows=_both_sides([row for _, row in readable]),
            beyond=len(beyond),
            max_length=most,
        )


def _pair_row(tokenizer: Any, pair: Preference) -> dict[str, list[int]]:
    chosen, rejected = encode_rows(tokenizer, pair.prompt, pair.chosen_text, pair.rejected_text)
    return {"chosen_ids": chosen, "rejected_ids": rejected}


def _both_sides(rows: Sequence[dict[str, list[int]]]) -> list[list[int]]:
    return [row[side] for side in ("chosen_ids", "rejected_ids") for row in rows]


def own_heldout_pairs(folder: RunFolder) -> list[Preference]:
    """The pairs that a reward run held out of its training, split the same way again.

    Raises:
        WorkbenchError: run.json names no training data.
    """
    config = yaml.safe_load(folder.config_path.read_text(encoding="utf-8"))
    data = folder.record().get("data", {})
    if "train" not in data:
        raise WorkbenchError(folder.record_path, "names no training data", remedy="give the pairs: --preferences FILE")
    return load_pairs(
        find_data(folder, "train"),
        find_data(folder, "heldout") if "heldout" in data else None,
        heldout_share=float(config["data"]["heldout_share"]),
        seed=int(config["run"]["seed"]),
        rules=RowRules.of(config["data"]),
    ).heldout


def foreign_pairs(path: Path, rules: RowRules) -> list[Preference]:
    """The pairs of a file, without those marked `train`."""
    return [record for record in read_preferences(path, rules) if record.split != "train"]
