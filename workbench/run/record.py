"""Reads run.json, and checks that it has the form that every command relies on. Knows no phase."""

import json
from pathlib import Path
from typing import Any

from workbench.run.errors import WorkbenchError

REQUIRED: dict[str, type] = {"phase": str, "status": str}
SECTIONS: dict[str, type] = {"parents": str, "parents_at": dict, "data": dict, "annotators": dict}
"""Mappings by role or by name of a data file → the type of their values. A run may lack them."""
FINGERPRINT: dict[str, type] = {"path": str, "bytes": int, "sha256": str}
"""What `data` says about each file. Its path relative to the run is missing in older runs."""


def read_record(path: Path) -> dict[str, Any]:
    """The content of run.json.

    Raises:
        WorkbenchError: it cannot be read, or is no record of a run.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise _broken(path, f"broken JSON at line {error.lineno}: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise _broken(path, f"not JSON in UTF-8: {error}") from None
    problem = _problem(content)
    if problem is not None:
        raise _broken(path, problem)
    return dict(content)


def _broken(path: Path, problem: str) -> WorkbenchError:
    return WorkbenchError(
        path,
        problem,
        expected="run.json as the run wrote it",
        remedy="copy the run folder again, or delete it and repeat the run",
    )


def _problem(content: Any) -> str | None:
    if not isinstance(content, dict):
        return f"holds {_shown(content)} instead of the record of a run"
    for name, kind in REQUIRED.items():
        if not isinstance(content.get(name), kind):
            return f"{name} is {_shown(content[name])}" if name in content else f"has no {name}"
    for section, kind in SECTIONS.items():
        entries = content.get(section, {})
        if not isinstance(entries, dict):
            return f"{section} is {_shown(entries)}, not a mapping"
        wrong = next((name for name, entry in entries.items() if not isinstance(entry, kind)), None)
        if wrong is not None:
            return f"{section}.{wrong} is {_shown(entries[wrong])}"
    for name, file in content.get("data", {}).items():
        if not isinstance(file.get("relative", ""), str):
            return f"data.{name}.relative is {_shown(file['relative'])}"
        wrong = next((key for key, kind in FINGERPRINT.items() if not isinstance(file.get(key), kind)), None)
        if wrong is not None:
            return f"data.{name}.{wrong} is {_shown(file[wrong])}" if wrong in file else f"data.{name} has no {wrong}"
    return None


def _shown(value: Any) -> str:
    return repr(value)[:60]
