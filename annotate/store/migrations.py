"""From an older schema of the label store to this one: one list of statements a version. Knows no rule of the queue."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from annotate.store.schema import SCHEMA_VERSION, metadata

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
}
"""What leads from a version to the one after it; tables that are new are made by `create_all`."""


SINCE: Mapping[str, int] = {"api_token": 2, "adjudication": 2}
"""Tables that version 1 did not have: in a store that lacks them, `create_all` makes them as they are now."""


def migrate(connection: sa.Connection, version: int) -> None:
    """Bring a store of an older version to this one, within the transaction of `connection`."""
    for step in range(version, SCHEMA_VERSION):
        for statement in STEPS[step]:
            if SINCE.get(statement.removeprefix("ALTER TABLE ").split()[0], 1) <= version:
                connection.exec_driver_sql(statement)
    metadata.create_all(connection)
