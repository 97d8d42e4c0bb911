"""The preference pairs that a reward run is evaluated on. Knows token ids and limits, no model."""

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
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.model.roles import Roles
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder


@dataclass(frozen=True)
class PairsWithin:
    """Pairs as the run itself measures them, and those beyond its `data.max_length`."""

    pairs: list[Preference]
    """Ties, and pairs within the limit (prompts cut, where the run cuts them)."""
    rows: list[list[int]]
    """Of the pairs that are no ties: chosen, then rejected."""
    longer: list[Preference]
    """Beyond the limit, but within the base's positions."""
    longer_rows: list[list[int]]
    beyond: int
    """All beyond the limit."""
    max_length: int

    @classmethod
    def of(cls, folder: RunFolder, roles: Roles, pairs: Sequence[Preference]) -> "PairsWithin":
        """Sort the pairs by the run's own limits.

        Raises:
            WorkbenchError: every pair is too long.
        """
        data = yaml.safe_load(folder.config_path.read_text(encoding="utf-8"))["data"]
        most = min(int(data.get("max_length", roles.positions)), roles.positions)
        decided = [pair for pair in pairs if pair.strength > 0]
        ties = [pair for pair in pairs if pair.strength <= 0]
        if not decided:
            return cls(ties, [], [], [], 0, most)
        cut = bool(data.get("truncate_prompt", False))
        own = encode_pairs(roles.tokenizer, decided, max_length=most, truncate_prompt=cut, source="held-out pairs")
        beyond = [pair for place, pair in enumerate(decided) if place not in set(own.kept)]
        whole = [_pair_row(roles.tokenizer, pair) for pair in beyond]
        fits = [max(map(len, row.values())) <= roles.positions for row in whole]
        longer = [pair for pair, fit in zip(beyond, fits, strict=True) if fit]
        rows = [row for row, fit in zip(whole, fits, strict=True) if fit]
        kept = [decided[place] for place in own.kept]
        return cls([*kept, *ties], _both_sides(own.rows), longer, _both_sides(rows), len(beyond), most)


def _pair_row(tokenizer: Any, pair: Preference) -> dict[str, list[int]]:
    prompt = encode_prompt(tokenizer, pair.prompt)
    sides = {"chosen_ids": pair.chosen_text, "rejected_ids": pair.rejected_text}
    return {name: prompt + encode_response(tokenizer, pair.prompt, text) for name, text in sides.items()}


def _both_sides(rows: Sequence[dict[str, list[int]]]) -> list[list[int]]:
    return [row[side] for side in ("chosen_ids", "rejected_ids") for row in rows]


def own_heldout_pairs(folder: RunFolder) -> list[Preference]:
    """The pairs that a reward run kept out of its training, split again as it was then.

    Raises:
        WorkbenchError: its data file is gone.
    """
    config = yaml.safe_load(folder.config_path.read_text(encoding="utf-8"))
    data = folder.record().get("data", {})
    if "train" not in data:
        raise WorkbenchError(folder.record_path, "names no training data", remedy="give the pairs: --preferences FILE")
    return load_pairs(
        Path(data["train"]["path"]),
        Path(data["heldout"]["path"]) if "heldout" in data else None,
        heldout_share=float(config["data"]["heldout_share"]),
        seed=int(config["run"]["seed"]),
        rules=RowRules.of(config["data"]),
    ).heldout


def foreign_pairs(path: Path, rules: RowRules | None) -> list[Preference]:
    """The pairs of a file, without those marked `train`."""
    return [record for record in read_preferences(path, rules) if record.split != "train"]
