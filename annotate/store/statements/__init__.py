"""Every statement that the label store runs, in portable SQL. Knows tables, not rules.

One file per group of tables. A `Transaction` lives between BEGIN and COMMIT (`Store.write`, `Store.read`). The rules
are in `annotate.queue.rules` and `annotate.people.accounts`.
"""

from annotate.store.statements.accounts import Accounts
from annotate.store.statements.imported import Imported
from annotate.store.statements.items import Items
from annotate.store.statements.judgements import Judgements
from annotate.store.statements.leases import Leases
from annotate.store.statements.past import Past
from annotate.store.statements.planted import Planted
from annotate.store.statements.rows import (
    Adjudication,
    Annotator,
    Assignment,
    CardRows,
    CurrentJudgement,
    GivenJudgement,
    Reply,
    StoredItem,
    StoredResponse,
    Target,
    Token,
)
from annotate.store.statements.trail import Trail


class Transaction(Trail, Accounts, Items, Leases, Planted, Judgements, Imported, Past):
    """The store between BEGIN and COMMIT."""


__all__ = [
    "Adjudication",
    "Annotator",
    "Assignment",
    "CardRows",
    "CurrentJudgement",
    "GivenJudgement",
    "Reply",
    "StoredItem",
    "StoredResponse",
    "Target",
    "Token",
    "Transaction",
]
