"""Addresses of label stores: a file or a database, and the source of a database's password.

A password in an address would not stay secret: `ps` shows command lines, and configurations are stored and shared.
"""

import logging
import os
import re
from pathlib import Path

import sqlalchemy as sa

from workbench.run.errors import WorkbenchError

_log = logging.getLogger(__name__)
ENVIRONMENT = "ANNOTATE_STORE_URL"
"""The environment variable used if store.url is not set; it may contain a password."""
_FIELD = re.compile(r"((?:\\.|[^:\\])*)(?::|$)")


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite store; None for another database."""
    if "://" in url and not url.startswith("sqlite:///"):
        return None
    return Path(url.removeprefix("sqlite:///"))


def without_password(url: str) -> str:
    """An address as it may be shown."""
    try:
        return url if sqlite_path(url) is not None else sa.engine.make_url(url).render_as_string()
    except (sa.exc.ArgumentError, ValueError):
        return url.split("@")[-1]


def refuse_password(place: str, url: str) -> None:
    """Refuse an address from a command line or a configuration that contains a password.

    Raises:
        WorkbenchError: it contains one; the message does not show it.
    """
    if sqlite_path(url) is not None:
        return
    try:
        address = sa.engine.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return  # reported when it is opened
    if address.password is None and "password" not in address.query:
        return
    shown = f"{address.username or 'USER'}@{address.host or 'HOST'}/{address.database or ''}"
    raise WorkbenchError(
        place,
        "contains the database's password, which `ps` and copies of the configuration would show",
        expected=f"{address.drivername}://{shown}",
        remedy=f"put the password into PGPASSWORD or ~/.pgpass, or the whole address into {ENVIRONMENT}",
    )


def with_password(address: sa.URL) -> sa.URL:
    """The address, with the password from PGPASSWORD or the password file if it has none itself."""
    if address.password is not None or "password" in address.query:
        return address
    password = os.environ.get("PGPASSWORD") or _from_file(address)
    return address if password is None else address.set(password=password)


def _from_file(address: sa.URL) -> str | None:
    """The password in ~/.pgpass (or PGPASSFILE): from the first matching line `host:port:database:user:password`.

    Source: PostgreSQL documentation, "The Password File".
    """
    path = Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")
    if not path.is_file():
        return None
    if path.stat().st_mode & 0o077:
        _log.warning("%s: ignored, because other users can read it: chmod 600 %s", path, path)
        return None
    user = address.username or os.environ.get("PGUSER") or ""
    wanted = (address.host or "localhost", str(address.port or 5432), address.database or user, user)
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = [re.sub(r"\\(.)", r"\1", field) for field in _FIELD.findall(line)[:5]]
        if line.startswith("#") or len(fields) < 5:
            continue
        if all(field in ("*", value) for field, value in zip(fields, wanted, strict=False)):
            return fields[4]
    return None
