"""The tables of the label store, and the steps from older versions. Plain SQLAlchemy Core types: any database works.

Times are seconds since 1970 (UTC). `strength` is in the order of the item's responses: negative if the first is better,
positive if the second is. The bit `swapped` says on which sides they were shown.
"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

SCHEMA_VERSION = 4

metadata = sa.MetaData()

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""`schema_version`, the key that signs cookies, the reasons that the page has offered (JSON list), and the round of a
loop that people label for (JSON)."""

annotator = sa.Table(
    "annotator",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("password_hash", sa.Text),
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, server_default="active"),
    sa.Column("session_version", sa.Integer, nullable=False, default=0),
    sa.Column("created_at", sa.Float, nullable=False),
)
"""Accounts. `role`: annotator, reviewer, admin. A higher `session_version` ends every login of the account. `state`:
active; paused (gets no items, its judgements count); removed (cannot log in, its judgements do not count)."""

api_token = sa.Table(
    "api_token",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("annotator", sa.ForeignKey("annotator.id"), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("revoked_at", sa.Float),
    sa.Column("scope", sa.String(16), nullable=False, server_default="admin"),
    sa.Column("expires_at", sa.Float),
)
"""Keys for programs. `scope`: label, read, or admin (everything that the account may do). Only the SHA-256 of a token
is stored; a token has 256 random bits, so it cannot be guessed from the hash."""

item = sa.Table(
    "item",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("item_id", sa.String(200), nullable=False, unique=True),
    sa.Column("group_id", sa.String(200), nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False, default="ordinary"),
    sa.Column("repeat_of", sa.Integer, sa.ForeignKey("item.id")),
    sa.Column("only_for", sa.Integer, sa.ForeignKey("annotator.id")),
    sa.Column("known_strength", sa.Integer),
    sa.Column("campaign", sa.String(200)),
    sa.Column("priority", sa.Float, nullable=False),
    sa.Column("overlap", sa.Integer, nullable=False),
    sa.Column("done_people", sa.Integer, nullable=False, default=0),
    sa.Column("done_simulated", sa.Integer, nullable=False, default=0),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("fingerprint", sa.String(16), nullable=False),
    sa.Column("why", sa.Text),
)
"""Items to judge. `prompt` is JSON (messages); `fingerprint` is a hash of prompt and answers.
`kind`: ordinary; gold (with `known_strength`); repeat (of item `repeat_of`, for annotator `only_for`). Gold items and
repeats have overlap 0: they are not in the common queue, but planted among ordinary items. training (with
`known_strength` and `why` it is right): given to everybody before the ordinary items, and never counted.
`campaign`: the comparison of runs that owns the item; its judgements are exported only if asked for.
People and simulated annotators each give `overlap` judgements: neither takes an item from the other."""

for _done in (item.c.done_people, item.c.done_simulated):
    # Only the open items, in the order in which they are handed out: `next` never scans finished ones.
    sa.Index(
        f"item_open_{_done.name}",
        item.c.priority.desc(),
        item.c.id,
        sqlite_where=_done < item.c.overlap,
        postgresql_where=_done < item.c.overlap,
    )
sa.Index("item_fingerprint", item.c.fingerprint)
sa.Index(
    "item_planted",
    item.c.kind,
    item.c.repeat_of,
    sqlite_where=item.c.kind != "ordinary",
    postgresql_where=item.c.kind != "ordinary",
)

response = sa.Table(
    "response",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("item", sa.ForeignKey("item.id"), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("response_id", sa.String(200), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("temperature", sa.Float),
    sa.Column("ended", sa.Boolean, nullable=False),
    sa.UniqueConstraint("item", "position"),
)

assignment = sa.Table(
    "assignment",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("item", sa.ForeignKey("item.id"), nullable=False),
    sa.Column("annotator", sa.ForeignKey("annotator.id"), nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("swapped", sa.Boolean, nullable=False),
    sa.Column("display_order", sa.Text),
    sa.Column("leased_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False, default=0),
    sa.Column("surplus", sa.Boolean, nullable=False, default=False),
    sa.Column("starred", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.UniqueConstraint("item", "annotator"),
    sa.Index("assignment_of", "annotator", "state"),
)
"""An item given to an annotator. `state`: leased, done (judged), skipped. `revision`: number of the newest judgement.
`surplus`: judged after the lease had gone to others; stored, but not counted towards the overlap. `swapped`: the second
of two answers is shown on the left. `display_order` (more than two): JSON list, positions in the order shown.
`starred`: the annotator wants to come back to it."""

judgement = sa.Table(
    "judgement",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("item", sa.ForeignKey("item.id"), nullable=False),
    sa.Column("annotator", sa.ForeignKey("annotator.id"), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("client_key", sa.String(64), nullable=False, unique=True),
    sa.Column("choice", sa.String(16), nullable=False),
    sa.Column("strength", sa.Integer),
    sa.Column("ranking", sa.Text),
    sa.Column("swapped", sa.Boolean, nullable=False),
    sa.Column("display_order", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("comment", sa.Text),
    sa.Column("flag", sa.String(32)),
    sa.Column("rubric", sa.Text),
    sa.Column("edited_text", sa.Text),
    sa.Column("edited_response", sa.Integer),
    sa.Column("guidelines_version", sa.String(64)),
    sa.Column("seconds", sa.Float),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("reasons", sa.Text),
    sa.Column("spans", sa.Text),
    sa.Column("differences_shown", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.UniqueConstraint("item", "annotator", "revision"),
    sa.Index("judgement_by", "annotator", "id"),
)
"""Append-only. The newest revision of (item, annotator) counts. `choice`: compared (with `strength`), ranked (with
`ranking`, JSON: a rank per answer, 1 is best, ties share one), both_bad, skipped (with `reason`), withdrawn (an undo).
Like `strength`, these are in the order of the item's answers, whatever the sides were: `ranking`, `rubric` (JSON:
dimension -> -3 … 3), `edited_response` (position of the answer that `edited_text` improves) and `spans`. `flag`: pii,
unsafe, broken. `reasons`: JSON list of labels. `spans`: JSON list of marked passages, each with `answer` (position),
`start` and `end` (code points of the answer's text, `end` excluded) and `label`. `differences_shown`: whether the words
that only one answer has were marked while it was judged."""

adjudication = sa.Table(
    "adjudication",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("item", sa.ForeignKey("item.id"), nullable=False),
    sa.Column("choice", sa.String(16), nullable=False),
    sa.Column("strength", sa.Integer),
    sa.Column("ranking", sa.Text),
    sa.Column("comment", sa.Text),
    sa.Column("adjudicator", sa.ForeignKey("annotator.id"), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Index("adjudication_of", "item", "id"),
)
"""A reviewer's ruling on an item. Append-only; the newest of an item wins over its annotators."""

reply = sa.Table(
    "reply",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("item", sa.ForeignKey("item.id"), nullable=False),
    sa.Column("annotator", sa.ForeignKey("annotator.id"), nullable=False),
    sa.Column("author", sa.ForeignKey("annotator.id"), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Index("reply_to", "annotator", "item"),
)
"""A reviewer's message to an annotator about their judgement of an item. Append-only."""

event = sa.Table(
    "event",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("annotator", sa.ForeignKey("annotator.id")),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)
"""The audit trail: loading, logins, withdrawals, exports and the like. `detail` is JSON."""

STEPS: Mapping[int, Sequence[str]] = {
    1: (
        "ALTER TABLE annotator ADD COLUMN state VARCHAR(16) DEFAULT 'active' NOT NULL",
        "UPDATE annotator SET state = 'paused' WHERE NOT active",
        "ALTER TABLE annotator DROP COLUMN active",
        "ALTER TABLE item ADD COLUMN only_for INTEGER REFERENCES annotator (id)",
        "ALTER TABLE item ADD COLUMN campaign VARCHAR(200)",
        "ALTER TABLE assignment ADD COLUMN display_order TEXT",
        "ALTER TABLE judgement ADD COLUMN ranking TEXT",
        "ALTER TABLE judgement ADD COLUMN display_order TEXT",
        "ALTER TABLE judgement ADD COLUMN edited_response INTEGER",
        "CREATE INDEX item_fingerprint ON item (fingerprint)",
        "CREATE INDEX item_planted ON item (kind, repeat_of) WHERE kind != 'ordinary'",
    ),
    2: (
        "ALTER TABLE api_token ADD COLUMN scope VARCHAR(16) DEFAULT 'admin' NOT NULL",
        "ALTER TABLE api_token ADD COLUMN expires_at FLOAT",
    ),
    3: (
        "ALTER TABLE item ADD COLUMN why TEXT",
        "ALTER TABLE assignment ADD COLUMN starred BOOLEAN DEFAULT false NOT NULL",
        "ALTER TABLE judgement ADD COLUMN reasons TEXT",
        "ALTER TABLE judgement ADD COLUMN spans TEXT",
        "ALTER TABLE judgement ADD COLUMN differences_shown BOOLEAN DEFAULT false NOT NULL",
    ),
}
"""Statements that lead from a version to the next one; `create_all` makes new tables."""

SINCE: Mapping[str, int] = {"api_token": 2, "adjudication": 2}
"""Tables that version 1 did not have. In a store without them, `create_all` makes them in their present form."""


def migrate(connection: sa.Connection, version: int) -> None:
    """Upgrade a store from an older version, within the transaction of `connection`."""
    for step in range(version, SCHEMA_VERSION):
        for statement in STEPS[step]:
            if SINCE.get(statement.removeprefix("ALTER TABLE ").split()[0], 1) <= version:
                connection.exec_driver_sql(statement)
    metadata.create_all(connection)
