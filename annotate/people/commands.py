"""`python -m annotate annotator`: accounts from the command line. The rules are `annotate.people.accounts`'s."""

import getpass
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from annotate.people import accounts as people
from annotate.people.tokens import make_token, revoke_token
from annotate.store.database import Store
from workbench.run.errors import WorkbenchError

_WORDS = {
    "list": (1,),
    "tokens": (1, 2),
    "token": (2, 3),
    "role": (3,),
    **dict.fromkeys(("add", "password", "pause", "resume", "remove"), (2,)),
}
"""Number of words of each action, including the action itself."""
_STATES = {
    "pause": ("paused", "gets no items; judgements count"),
    "resume": ("active", "gets items; judgements count"),
    "remove": ("removed", "cannot log in; its judgements no longer count, and their items are handed out again"),
}


def change_accounts(
    store: Store, words: Sequence[str], role: str, *, scope: str = "admin", days: int | None = None
) -> None:
    """Run one action of the command line.

    Args:
        role: of a new account.
        scope: of a new token.
        days: for which a new token is valid; None: until it is revoked.

    Raises:
        WorkbenchError: an unknown action, or an action that is refused.
    """
    if not words or len(words) not in _WORDS.get(words[0], ()):
        raise WorkbenchError(
            "annotator",
            f"cannot read {' '.join(words)!r}",
            expected="list, add NAME, password NAME, pause NAME, resume NAME, remove NAME, role NAME ROLE, "
            "tokens [NAME], token NAME [PURPOSE], or token revoke NUMBER",
        )
    action, *names = words
    if action == "list":
        _list(store)
    elif action == "add":
        people.add_account(store, names[0], role, _password())
        print(f"{names[0]} can log in ({role})")
    elif action == "password":
        people.set_password(store, names[0], _password())
        print(f"{names[0]} has a new password; older logins and tokens have ended")
    elif action == "role":
        people.set_role(store, names[0], names[1])
        print(f"{names[0]} has the role {names[1]}")
    elif action == "tokens":
        _tokens(store, *names)
    elif action == "token" and names[0] == "revoke" and names[1:]:
        token = revoke_token(store, _number(names[1]))
        print(f"token {token.id} of {token.annotator} ({token.name}) is revoked")
    elif action == "token":
        print(make_token(store, names[0], names[1] if names[1:] else "command line", scope=scope, days=days))
    else:
        state, effect = _STATES[action]
        people.set_state(store, names[0], state)
        print(f"{names[0]} is {state}: {effect}")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise WorkbenchError(
            "annotator token revoke",
            f"{text!r} is not the number of a token",
            expected="a number, such as 1",
            remedy="python -m annotate annotator CONFIG.yaml tokens, which lists them",
        )
    return int(text)


def _list(store: Store) -> None:
    with store.read() as transaction:
        for account in transaction.annotators():
            kind = "simulated" if account.simulated else account.role
            print(f"{account.name}  {kind}{'' if account.active else f'  ({account.state})'}")


def _tokens(store: Store, name: str | None = None) -> None:
    with store.read() as transaction:
        owner = None if name is None else people.find(transaction, store, name).id
        tokens = [token for token in transaction.tokens(owner) if token.valid(time.time())]
    for token in tokens:
        ends = "" if token.expires_at is None else f"  until {datetime.fromtimestamp(token.expires_at, UTC):%Y-%m-%d}"
        print(f"{token.id}  {token.annotator}  {token.name}  {token.scope}{ends}")


def _password() -> str:
    """The password: asked for twice on a terminal, otherwise the first line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        raise WorkbenchError("password", "the two entries differ")
    return password
