"""Personal data in rows is masked before any form reads them, so that no reader can miss a text."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

from workbench.data.files.row import Row
from workbench.privacy.keys import read_or_make_key
from workbench.privacy.mask import Masker
from workbench.run.sections import PersonalKind as Kind

NOT_TEXTS = frozenset({"id", "group", "split", "role", "run", "chosen_run", "rejected_run", "annotator", "annotators"})
"""Columns and keys that name things; they are not masked."""


@lru_cache(maxsize=8)
def masker_of(kinds: tuple[Kind, ...]) -> Masker:
    """The masker with the key of this user.

    Raises:
        WorkbenchError: from the key file, or a library is not installed.
    """
    return Masker(kinds, read_or_make_key())


def masked(row: Row, masker: Masker, keep: Collection[str] = ()) -> tuple[Row, list[dict[str, Any]]]:
    """A row whose texts are masked, and the lines for the audit file.

    Marked passages (`spans`) are left out: their offsets are those of the texts before masking.

    Args:
        row: with canonical column names.
        masker: says what is masked.
        keep: columns to leave as they are, in addition to `NOT_TEXTS`.
    """
    entries: list[dict[str, Any]] = []

    def of(value: Any, field: str) -> Any:
        if isinstance(value, str):
            text, findings = masker.mask(value)
            entries.extend({"place": row.place, "field": field, **asdict(finding)} for finding in findings)
            return text
        if isinstance(value, Mapping):
            return {key: one if key in NOT_TEXTS else of(one, f"{field}.{key}") for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [of(one, f"{field}[{index}]") for index, one in enumerate(value)]
        return value

    left = NOT_TEXTS | set(keep)
    fields = {name: value if name in left else of(value, name) for name, value in row.fields.items() if name != "spans"}
    return replace(row, fields=fields), entries
