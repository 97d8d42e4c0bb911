"""API keys: a file of lines `NAME KEY`, which only its owner may read."""

import hashlib
import hmac
import re
import stat
from pathlib import Path

from workbench.run.errors import WorkbenchError

SHORTEST = 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}")
_MADE = "python -c 'import secrets; print(\"NAME\", secrets.token_urlsafe(32))' >> FILE; chmod 600 FILE"


class Keys:
    """Who may use the server.

    Args:
        path: the file; None: anybody who reaches the server, under the name `local`.

    Raises:
        WorkbenchError: the file is missing, others may read it, or a line is bad.
    """

    def __init__(self, path: Path | None) -> None:
        self.needed = path is not None
        self.plain: dict[str, str] = {} if path is None else _read(path)
        """Name → key."""
        self._digests = [(name, _digest(key)) for name, key in self.plain.items()]

    def name_of(self, authorization: str) -> str | None:
        """Whose key an Authorization header holds; None: nobody's. The time it takes does not depend on the key."""
        if not self.needed:
            return "local"
        scheme, _, given = authorization.partition(" ")
        digest, found = _digest(given.strip()), None
        for name, known in self._digests:
            if hmac.compare_digest(known, digest):
                found = name
        return found if scheme.lower() == "bearer" else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _read(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise WorkbenchError(path, "no such file of API keys", expected="lines NAME KEY", remedy=_MADE)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise WorkbenchError(
            path, f"others may read the API keys (mode {mode:o})", expected="mode 600", remedy=f"chmod 600 {path}"
        )
    keys: dict[str, str] = {}
    # A byte that is not UTF-8 becomes U+FFFD, which is refused below.
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, key = line.strip().partition(" ")
        wrong = not _NAME.fullmatch(name) or len(key.strip()) < SHORTEST or "\ufffd" in key
        if wrong or name in keys or key.strip() in keys.values():  # the key itself is never printed
            raise WorkbenchError(
                f"{path}, line {number}",
                "is not a new name with a key of its own",
                expected=f"NAME KEY: letters, digits, '.', '_' and '-', then at least {SHORTEST} characters of UTF-8",
                remedy=_MADE,
            )
        keys[name] = key.strip()
    if not keys:
        raise WorkbenchError(path, "holds no API key", expected="lines NAME KEY", remedy=_MADE)
    return keys
