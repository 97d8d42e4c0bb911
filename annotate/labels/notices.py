"""Notices of training runs to the lead: one per run, shown on the lead's page and by `status`."""

import json
import time
from collections.abc import Sequence
from typing import NamedTuple

from annotate.store.statements import Transaction

_NOTICES = "notices"


class Notice(NamedTuple):
    """What a run says to the lead."""

    run: str
    at: float
    text: str


def put_notice(transaction: Transaction, run: str, text: str) -> None:
    """Replace the notice of a run; an empty text takes it back."""
    known = notices(transaction)
    kept = [notice for notice in known if notice.run != run]
    if text or len(kept) < len(known):
        now = time.time()
        new = [Notice(run, now, text)] if text else []
        transaction.put_setting(_NOTICES, json.dumps([*kept, *new], ensure_ascii=False))
        transaction.add_event("notice", now, run=run, text=text)


def notices(transaction: Transaction) -> Sequence[Notice]:
    """The notices, oldest first."""
    return [Notice(*row) for row in json.loads(transaction.setting(_NOTICES) or "[]")]
