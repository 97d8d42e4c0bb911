"""One row of a file, with its place. Knows no file format and no record."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.run.errors import WorkbenchError


@dataclass(frozen=True)
class Row:
    """One row of a file, or the `error` that kept it from being read."""

    place: str
    """File and position, such as `data.jsonl, line 3`."""
    fields: dict[str, Any] = field(default_factory=dict)
    """The columns that have a value."""
    error: WorkbenchError | None = None
    nulls: frozenset[str] = frozenset()
    """The columns whose value is null or NaN."""

    def fail(self, problem: str, *, expected: str | None = None, remedy: str | None = None) -> WorkbenchError:
        """An error at this row's place."""
        return WorkbenchError(self.place, problem, expected=expected, remedy=remedy)


def row_of(place: str, value: object) -> Row:
    """The row of a JSON object; null and NaN (pandas' missing cell) do not count as values."""
    if not isinstance(value, Mapping):
        problem = f"a JSON {type(value).__name__}, not an object: {str(value)[:60]}"
        return Row(place, error=WorkbenchError(place, problem, expected='an object, such as {"prompt": …}'))
    nulls = frozenset(str(key) for key, content in value.items() if _missing(content))
    return Row(place, {str(key): content for key, content in value.items() if str(key) not in nulls}, nulls=nulls)


def _missing(content: object) -> bool:
    return content is None or (isinstance(content, float) and math.isnan(content))
