"""The audit file of a masking (JSONL), and the way back to the values with the key.

Line 1 names the key by its id. Each further line is one masked value: `place` (file and line), `field`, `kind`, `start`
and `end` in the text before masking, `token`, and `sealed`. No line holds a value in clear.
"""

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.privacy.find import TOKEN
from workbench.privacy.keys import key_id, read_key
from workbench.privacy.mask import Sealer
from workbench.run.checkpoints import make_folder, private_opener, refusal_explained, write_text_atomically
from workbench.run.errors import WorkbenchError
from workbench.run.partial import lines_of

NAME = "masked.jsonl"
"""The audit file's name in a run folder."""


def add_to_audit(path: Path, key: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Append the lines that the audit file does not hold yet; only its owner may read it.

    Args:
        path: of the file, which is made if it does not exist.
        key: the id of the key.
        entries: one per masked value.

    Raises:
        WorkbenchError: the file that is there was made with another key, so the tokens would differ.
    """
    make_folder(path.parent)
    with refusal_explained(path), open(path, "a+", encoding="utf-8", opener=private_opener) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
        file.seek(0)
        known = set(lines_of(file.read()))
        if not known:
            file.write(json.dumps({"key": key}) + "\n")
        elif _header(path) != key:
            raise WorkbenchError(
                path,
                f"was masked with the key {_header(path)}, and the key is {key} now: every token would change",
                expected="the same key",
                remedy="WORKBENCH_MASK_KEY=FILE of the first key, or start over in another place",
            )
        lines = dict.fromkeys(json.dumps(entry, ensure_ascii=False) for entry in entries)
        file.writelines(line + "\n" for line in lines if line not in known)
        file.flush()
        os.fsync(file.fileno())


def unmask_file(path: Path, audit: Path, key_file: Path, out: Path) -> tuple[int, int]:
    """Write a text file with the masked values restored, for its owner only.

    A value that occurred in several spellings is restored in its first one.

    Returns:
        restored: tokens that were replaced.
        unknown: tokens in the file that the audit file does not have.

    Raises:
        WorkbenchError: a file is missing or bad, the key is another one, or `out` exists.
    """
    if out.exists():
        raise WorkbenchError(out, "exists already", remedy="--out ANOTHER")
    key = read_key(key_file)
    if _header(audit) != key_id(key):
        raise WorkbenchError(key_file, f"is the key {key_id(key)}", expected=f"the key {_header(audit)} of {audit}")
    sealed = _sealed(audit)
    sealer, restored, unknown = Sealer(key), 0, 0
    in_json = path.suffix in (".json", ".jsonl")
    parts, end, text = [], 0, _read(path)
    for match in TOKEN.finditer(text):
        token = match.group()
        if token not in sealed:
            unknown += 1
            continue
        value = sealer.open(token, sealed[token])
        parts += [text[end : match.start()], json.dumps(value, ensure_ascii=False)[1:-1] if in_json else value]
        restored, end = restored + 1, match.end()
    write_text_atomically(out, "".join([*parts, text[end:]]), private=True)
    return restored, unknown


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise WorkbenchError(path, f"cannot be read: {error.strerror}", expected="a file") from None
    except UnicodeDecodeError:
        raise WorkbenchError(path, "is not a text file in UTF-8", expected="JSONL, CSV or plain text") from None


def _header(audit: Path) -> str:
    """The id of the key that an audit file was made with.

    Raises:
        WorkbenchError: it is no audit file.
    """
    first = _read(audit).split("\n", 1)[0]
    try:
        return str(json.loads(first)["key"])
    except (ValueError, KeyError, TypeError):
        raise WorkbenchError(audit, "is not an audit file of a masking", expected='{"key": …} on line 1') from None


def _sealed(audit: Path) -> dict[str, str]:
    """Token → its first sealed value."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines_of(_read(audit))[1:], start=2):
        try:
            entry = json.loads(line)
            found.setdefault(entry["token"], entry["sealed"])
        except (ValueError, KeyError, TypeError):
            raise WorkbenchError(f"{audit}, line {number}", "is not a masked value", expected="token, sealed") from None
    return found
