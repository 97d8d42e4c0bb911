"""Pseudonyms of annotators in exports: a keyed hash of the account's name. The key never leaves the store."""

import hashlib
import hmac
import secrets
from collections.abc import Callable

from annotate.store.database import Store

_KEY = "pseudonym_key"


def pseudonyms(store: Store) -> Callable[[str], str]:
    """A function from an account's name to its pseudonym, which is the same in every export of this store.

        annotator-h,   h = the first 12 hex digits of HMAC-SHA256(key, name)

    The key is made at the first use; a copy or a backup of the store has it too.
    """
    with store.write() as transaction:
        key = transaction.setting(_KEY)
        if key is None:
            key = secrets.token_hex(32)
            transaction.put_setting(_KEY, key)
    secret = bytes.fromhex(key)

    def pseudonym(name: str) -> str:
        return "annotator-" + hmac.new(secret, name.encode(), hashlib.sha256).hexdigest()[:12]

    return pseudonym
