"""Forgetting an annotator or an item: rows deleted from the store, and tombstones that outlive every backup.

Tombstones of an SQLite store are in a file next to it; `restore` applies them to the backup. An annotator's tombstone
holds a salted hash, not the name.
"""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.run.checkpoints import private_opener
from workbench.run.errors import WorkbenchError
from workbench.run.partial import lines_of

_SUFFIX = ".forgotten"
Run = Callable[[str, Mapping[str, Any]], Any]
"""Executes SQL with named parameters, and returns its rows."""
FORGOTTEN = "forgotten"
_OWN_ITEMS = "SELECT id FROM item WHERE only_for = :id"
_DONE = "SELECT item FROM assignment WHERE annotator = :id AND state = 'done' AND NOT surplus"
_ANNOTATOR = (
    "DELETE FROM reply WHERE annotator = :id OR author = :id",
    "DELETE FROM adjudication WHERE adjudicator = :id",
    "DELETE FROM judgement WHERE annotator = :id",
    "DELETE FROM assignment WHERE annotator = :id",
    "DELETE FROM api_token WHERE annotator = :id",
    f"DELETE FROM response WHERE item IN ({_OWN_ITEMS})",
    "DELETE FROM item WHERE only_for = :id",
    "UPDATE event SET annotator = NULL WHERE annotator = :id",
    "UPDATE event SET detail = REPLACE(detail, :quoted, :nobody)",
    "UPDATE annotator SET name = :name, password_hash = NULL, state = 'removed', session_version = session_version + 1 "
    "WHERE id = :id",
)
_ITEMS = "SELECT id FROM item WHERE id = :id OR repeat_of = :id"
_ITEM = (
    *(
        f"DELETE FROM {table} WHERE item IN ({_ITEMS})"
        for table in ("reply", "adjudication", "judgement", "assignment")
    ),
    f"DELETE FROM response WHERE item IN ({_ITEMS})",
    "DELETE FROM item WHERE repeat_of = :id",
    "DELETE FROM item WHERE id = :id",
)


def delete_annotator(run: Run, name: str) -> bool:
    """Delete everything that an annotator has made; the account's row stays, without a name. False: no such account."""
    found = list(run("SELECT id, simulated, state FROM annotator WHERE name = :name", {"name": name}))
    if not found:
        return False
    number, simulated, state = found[0]
    values = {
        "id": number,
        "name": f"{FORGOTTEN}-{number}",
        "quoted": json.dumps(name, ensure_ascii=False),
        "nobody": json.dumps(FORGOTTEN),
    }
    if state != "removed":  # its judgements still count
        done = "done_simulated" if simulated else "done_people"
        run(f"UPDATE item SET {done} = {done} - 1 WHERE id IN ({_DONE})", {"id": number})
    for statement in _ANNOTATOR:
        run(statement, {key: value for key, value in values.items() if f":{key}" in statement})
    return True


def delete_item(run: Run, item_id: str) -> bool:
    """Delete an item with its answers, its repeats and all that was said about them. False: no such item."""
    found = list(run("SELECT id FROM item WHERE item_id = :item", {"item": item_id}))
    for statement in _ITEM if found else ():
        run(statement, {"id": found[0][0]})
    return bool(found)


def bury(store: Path, *, annotator: str | None = None, item_id: str | None = None) -> None:
    """Append a tombstone to the file next to a store, on disk before anything is deleted."""
    line: dict[str, Any] = {"at": time.time()}
    if annotator is not None:
        salt = secrets.token_hex(16)
        line |= {"salt": salt, "annotator": _hash(salt, annotator)}
    if item_id is not None:
        line["record"] = item_id
    with open(_file(store), "a", encoding="utf-8", opener=private_opener) as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def apply_tombstones(store: Path, run: Run) -> int:
    """Delete from another database what was forgotten in this store; returns how many accounts and items that were.

    Raises:
        WorkbenchError: the file of tombstones cannot be read.
    """
    stones = list(_read(_file(store)))
    if not stones:
        return 0
    names = [str(row[0]) for row in run("SELECT name FROM annotator", {})]
    gone = 0
    for stone in stones:
        if "record" in stone:
            gone += delete_item(run, stone["record"])
        for name in names:
            if "annotator" in stone and _hash(stone["salt"], name) == stone["annotator"]:
                gone += delete_annotator(run, name)
    return gone


def has_tombstones(store: Path) -> bool:
    """Whether anything was forgotten in this store."""
    return _file(store).is_file()


def _file(store: Path) -> Path:
    return store.with_name(store.name + _SUFFIX)


def _hash(salt: str, name: str) -> str:
    return hashlib.sha256(f"{salt}\x1f{name}".encode()).hexdigest()


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for number, line in enumerate(lines_of(path.read_text(encoding="utf-8")), start=1):
        try:
            yield json.loads(line)
        except ValueError:
            raise WorkbenchError(
                f"{path}, line {number}",
                "is not a tombstone",
                expected="a JSON object per line, as `annotate forget` wrote it",
                remedy="take the line from a copy of this file: without it, somebody who was forgotten would come back",
            ) from None
