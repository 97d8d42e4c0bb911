"""The key of the masks: a file of its owner's. Whoever has it can restore what was masked."""

import base64
import binascii
import os
import secrets
import stat
import tempfile
from hashlib import sha256
from pathlib import Path

from workbench.run.errors import WorkbenchError

ENVIRONMENT = "WORKBENCH_MASK_KEY"
"""The environment variable with the path of the key file."""
_BYTES = 32


def key_path() -> Path:
    """The key file: `$WORKBENCH_MASK_KEY`, or `~/.config/alignment-workbench/mask.key`."""
    given = os.environ.get(ENVIRONMENT)
    return Path(given) if given else Path.home() / ".config" / "alignment-workbench" / "mask.key"


def read_key(path: Path) -> bytes:
    """The key in a file.

    Raises:
        WorkbenchError: there is no such file, others may read it, or it holds no key.
    """
    if not path.is_file():
        raise WorkbenchError(
            path, "no such key file", expected="the key that the texts were masked with", remedy=f"{ENVIRONMENT}=FILE"
        )
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise WorkbenchError(
            path, f"others may read the key (mode {mode:o})", expected="mode 600", remedy=f"chmod 600 {path}"
        )
    try:
        key = base64.b64decode(path.read_bytes().strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _BYTES:
        raise WorkbenchError(path, "is not a key file", expected=f"{_BYTES} bytes in base64")
    return key


def read_or_make_key(path: Path | None = None) -> bytes:
    """The key in a file; if there is none, a new one is made, which only the owner may read.

    Raises:
        WorkbenchError: from `read_key`, or the file cannot be written.
    """
    path = path or key_path()
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _publish(base64.b64encode(secrets.token_bytes(_BYTES)) + b"\n", path)
        except OSError as error:
            problem = f"the key cannot be written: {error.strerror}"
            raise WorkbenchError(path, problem, remedy=f"{ENVIRONMENT}=FILE") from None
    return read_key(path)


def key_id(key: bytes) -> str:
    """8 hex digits that tell keys apart and do not reveal them."""
    return sha256(b"mask key " + key).hexdigest()[:8]


def _publish(content: bytes, path: Path) -> None:
    """Write a whole file with mode 600 unless another process was faster."""
    descriptor, hidden = tempfile.mkstemp(dir=path.parent)  # mode 600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(hidden, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(hidden)
