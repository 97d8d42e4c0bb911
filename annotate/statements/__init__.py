"""Every statement that the label store runs, in the plain SQL that databases share. Knows tables, not rules.

One file a group of tables. A `Transaction` lives between BEGIN and COMMIT (`Store.write`, `Store.read`); who may do
what is decided in `annotate.queue` and `annotate.people`.
"""

from annotate.statements.accounts import Accounts
from annotate.statements.counts import Counts
from annotate.statements.items import Items
from annotate.statements.judgements import Judgements
from annotate.statements.leases import Leases
from annotate.statements.planted import Planted
from annotate.statements.rows import (
    Adjudication,
    Annotator,
    Assignment,
    CurrentJudgement,
    GivenJudgement,
    StoredItem,
    StoredResponse,
    Token,
)
from annotate.statements.trail import Trail


class Transaction(Trail, Accounts, Items, Leases, Planted, Judgements, Counts):
    """The store between BEGIN and COMMIT."""


__all__ = [
    "Adjudication",
    "Annotator",
    "Assignment",
    "CurrentJudgement",
    "GivenJudgement",
    "StoredItem",
    "StoredResponse",
    "Token",
    "Transaction",
]
