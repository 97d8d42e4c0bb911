"""Hashes of texts in place of random draws: a choice depends on seed and text alone, not on the order of rows."""

import hashlib


def text_digest(*parts: object, separator: str = "\x1f") -> bytes:
    """SHA-256 of the parts as text, joined by a separator that the parts should not hold (32 bytes)."""
    return hashlib.sha256(separator.join(map(str, parts)).encode()).digest()


def unit_hash(*parts: object, separator: str = "\x1f") -> float:
    """A number in [0, 1), uniform over parts: the first 48 bits of `text_digest`, which a float holds exactly."""
    return int.from_bytes(text_digest(*parts, separator=separator)[:6], "big") / 2**48
