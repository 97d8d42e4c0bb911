"""What statements return: one named tuple per kind of row."""

import json
from typing import NamedTuple


class Annotator(NamedTuple):
    """An account, or a simulated annotator."""

    id: int
    name: str
    role: str
    password_hash: str | None
    simulated: bool
    state: str
    session_version: int

    @property
    def active(self) -> bool:
        """Whether it gets items."""
        return self.state == "active"

    @property
    def removed(self) -> bool:
        """Whether it cannot log in and its judgements do not count."""
        return self.state == "removed"


class Token(NamedTuple):
    """An API token, without its secret."""

    id: int
    annotator: str
    name: str
    created_at: float
    revoked_at: float | None
    scope: str
    expires_at: float | None

    def valid(self, now: float) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


class StoredItem(NamedTuple):
    """An item's own columns; `done` counts people or simulated annotators, whichever was asked for."""

    id: int
    item_id: str
    group_id: str
    prompt: str
    overlap: int
    done: int
    round: int
    kind: str = "ordinary"
    repeat_of: int | None = None
    known_strength: int | None = None
    campaign: str | None = None
    priority: float = 0
    why: str | None = None


class StoredResponse(NamedTuple):
    """One of an item's answers."""

    text: str
    run: str
    ended: bool
    response_id: str = ""


class Assignment(NamedTuple):
    """An item given to an annotator; see `annotate.store.schema`."""

    id: int
    item: int
    state: str
    swapped: bool
    leased_at: float
    expires_at: float
    revision: int
    surplus: bool
    display_order: str | None = None
    starred: bool = False


class Target(NamedTuple):
    """An item that imported judgements are about."""

    id: int
    overlap: int
    done: int
    """Judgements by people, or by simulated annotators, whichever was asked for."""
    answers: int
    """Number of its answers."""


class CardRows(NamedTuple):
    """An item, its answers in the item's order, and its assignment to one annotator, if any."""

    item: StoredItem
    responses: list[StoredResponse]
    given: Assignment | None
    has_room: bool
    """Whether the judgements and the live leases together are fewer than the item's overlap."""


class CurrentJudgement(NamedTuple):
    """The newest revision of somebody's judgement of an item; JSON columns as text (see `annotate.store.schema`)."""

    item: int
    annotator: str
    simulated: bool
    choice: str
    strength: int | None
    swapped: bool
    seconds: float | None
    ranking: str | None = None
    rubric: str | None = None
    flag: str | None = None
    comment: str | None = None
    reason: str | None = None
    edited_text: str | None = None
    edited_response: int | None = None
    display_order: str | None = None
    guidelines_version: str | None = None
    created_at: float = 0
    revision: int = 1
    reasons: str | None = None
    spans: str | None = None
    differences_shown: bool = False


class Adjudication(NamedTuple):
    """A reviewer's ruling on an item."""

    item: int
    choice: str
    strength: int | None
    ranking: str | None
    comment: str | None
    adjudicator: str
    created_at: float


class Reply(NamedTuple):
    """A reviewer's message to an annotator about an item that they judged."""

    item: int
    annotator: str
    author: str
    text: str
    created_at: float


class GivenJudgement(NamedTuple):
    """One line of an annotator's own history."""

    item: int
    item_id: str
    prompt: str
    choice: str
    strength: int | None
    swapped: bool
    created_at: float
    ranking: str | None
    display_order: str | None
    flag: str | None
    comment: str | None
    reason: str | None
    starred: bool
    ruling: Adjudication | None = None
    """The reviewer's ruling on the item."""
    replies: tuple[Reply, ...] = ()
    """Oldest first."""

    @property
    def last_message(self) -> str:
        """The last message of the prompt."""
        return str(json.loads(self.prompt)[-1]["content"])
