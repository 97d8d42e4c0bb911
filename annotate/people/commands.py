"""`python -m annotate annotator`: accounts from the command line. The rules are `annotate.people.accounts`'s."""

import getpass
import sys
from collections.abc import Sequence

from annotate.people import accounts as people
from annotate.store.database import Store
from workbench.run.errors import WorkbenchError

_WORDS = {
    "list": (1,),
    "token": (2, 3),
    "role": (3,),
    **dict.fromkeys(("add", "password", "pause", "resume", "remove"), (2,)),
}
"""How many words each action has, itself counted."""
_STATES = {
    "pause": ("paused", "gets no items; judgements count"),
    "resume": ("active", "gets items; judgements count"),
    "remove": ("removed", "cannot log in; judgements count no more, and their items are handed out again"),
}


def change_accounts(store: Store, words: Sequence[str], role: str) -> None:
    """Do what the words of the command line say.

    Raises:
        WorkbenchError: words that make no command, or something that cannot be done.
    """
    if not words or len(words) not in _WORDS.get(words[0], ()):
        raise WorkbenchError(
            "annotator",
            f"cannot read {' '.join(words)!r}",
            expected="list, add NAME, password NAME, pause NAME, resume NAME, remove NAME, role NAME ROLE, "
            "or token NAME [PURPOSE]",
        )
    action, *names = words
    if action == "list":
        _list(store)
    elif action == "add":
        people.add_account(store, names[0], role, _password())
        print(f"{names[0]} can log in ({role})")
    elif action == "password":
        people.set_password(store, names[0], _password())
        print(f"{names[0]} has a new password; older logins have ended")
    elif action == "role":
        people.set_role(store, names[0], names[1])
        print(f"{names[0]} has the role {names[1]}")
    elif action == "token":
        print(people.make_token(store, names[0], names[1] if names[1:] else "command line"))
    else:
        state, effect = _STATES[action]
        people.set_state(store, names[0], state)
        print(f"{names[0]} is {state}: {effect}")


def _list(store: Store) -> None:
    with store.read() as transaction:
        for account in transaction.annotators():
            kind = "simulated" if account.simulated else account.role
            print(f"{account.name}  {kind}{'' if account.active else f'  ({account.state})'}")


def _password() -> str:
    """Asked for twice on a terminal; otherwise the first line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        raise WorkbenchError("password", "the two are not the same")
    return password
