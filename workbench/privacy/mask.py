"""Masks personal data in texts: every value becomes a token, the same one wherever it occurs."""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.privacy.find import INSTALL, KINDS, check_kinds, find
from workbench.privacy.keys import key_id
from workbench.run.errors import WorkbenchError
from workbench.run.sections import PersonalKind as Kind


@dataclass(frozen=True)
class Finding:
    """A value that was masked; it does not hold the value in clear."""

    kind: Kind
    start: int
    """First character, in the text before masking."""
    end: int
    token: str
    """The text that stands there now."""
    sealed: str
    """The value, encrypted (AES-SIV, in hex); `Sealer.open` restores it."""


class Masker:
    """Replaces personal data by tokens.

    A token is a keyed hash (HMAC-SHA-256) of the kind and the normalised value: with one key, a value has one token in
    all texts, files and processes, and without the key nobody can test a guess.

    Args:
        kinds: what to mask; see `KINDS`.
        key: 32 bytes, from `keys.read_or_make_key`.

    Raises:
        WorkbenchError: an unknown kind, or a library of the extra `privacy` is not installed.
    """

    def __init__(self, kinds: Sequence[str], key: bytes) -> None:
        check_kinds(kinds)
        self.kinds: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind in kinds)
        self.key_id = key_id(key)
        self._hash_key = hmac.digest(key, b"token", "sha256")
        self._sealer = Sealer(key)

    def mask(self, text: str) -> tuple[str, list[Finding]]:
        """The text with tokens, and what was found. Tokens that are in the text already are left as they are."""
        parts, findings, end = [], [], 0
        for span in find(text, self.kinds):
            value = text[span.start : span.end]
            token = self._token(span.kind, value)
            parts += [text[end : span.start], token]
            findings.append(Finding(span.kind, span.start, span.end, token, self._sealer.seal(token, value)))
            end = span.end
        return "".join([*parts, text[end:]]), findings

    def _token(self, kind: Kind, value: str) -> str:
        digest = hmac.digest(self._hash_key, f"{kind}\x1f{normalised(kind, value)}".encode(), "sha256")
        return f"[{kind.upper()}_{digest.hex()[:10]}]"


def normalised(kind: Kind, value: str) -> str:
    """Equal for spellings of one value: case, spaces, and separators of numbers do not count."""
    if kind in ("iban", "card"):
        return re.sub(r"[\W_]", "", value).upper()
    if kind == "phone":
        return re.sub(r"(?!^\+)\D", "", value)
    return " ".join(value.split()).casefold()


class Sealer:
    """Encrypts values so that only the key restores them (AES-SIV: equal values have equal ciphertexts).

    Raises:
        WorkbenchError: cryptography is not installed.
    """

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESSIV
        except ImportError:
            raise WorkbenchError("cryptography", "is not installed", remedy=INSTALL) from None
        self._cipher: Any = AESSIV(hmac.digest(key, b"seal", "sha256") + hmac.digest(key, b"seal 2", "sha256"))

    def seal(self, token: str, value: str) -> str:
        """A value, encrypted and bound to its token."""
        return self._cipher.encrypt(value.encode(), [token.encode()]).hex()

    def open(self, token: str, sealed: str) -> str:
        """The value again.

        Raises:
            WorkbenchError: another key, or the audit file was changed.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(bytes.fromhex(sealed), [token.encode()]).decode()
        except (InvalidTag, ValueError):
            raise WorkbenchError(
                token, "cannot be restored", expected="the key that masked it, and an unchanged audit file"
            ) from None
