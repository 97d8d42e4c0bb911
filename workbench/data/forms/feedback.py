"""Open WebUI's export of feedback: a thumb for one answer, and a snapshot of the chat around it.

The chat is a tree of messages. An answer's siblings are the other answers to the same message: of other models in
the arena or side by side, or made anew. With one sibling the thumb compares two answers.
"""

from collections.abc import Mapping
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.example import Example, Form, Vote
from workbench.data.forms.fields import Messages, empty_row, ends_with_user, messages_of, not_blank, number_of, short

_Tree = Mapping[str, Mapping[str, Any]]
SEVERAL = "a thumb for one of several answers, which does not rank the others"


def _inner(value: Any, *path: str) -> Any:
    """A nested value; None if a step is missing."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _chat(row: Row) -> tuple[Mapping[str, Any], _Tree]:
    """The part of the snapshot that holds the chat, and its messages by id."""
    snapshot = row.fields["snapshot"]
    for path in (("chat", "chat"), ("chat",), ()):
        chat = _inner(snapshot, *path)
        tree = _inner(chat, "history", "messages")
        if isinstance(tree, Mapping) and all(isinstance(message, Mapping) for message in tree.values()):
            return chat, tree
    raise row.fail(
        "'snapshot' holds no messages", expected="snapshot.chat.chat.history.messages, as Open WebUI exports it"
    )


def _rated(row: Row, tree: _Tree) -> Mapping[str, Any]:
    """The answer that the thumb is for."""
    name = _inner(row.fields["meta"], "message_id")
    message = tree.get(str(name))
    if message is None or message.get("role") != "assistant":
        raise row.fail(f"'meta.message_id' is {short(name)}", expected="an answer among the snapshot's messages")
    return message


def _path_to(row: Row, tree: _Tree, message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The messages before this one, oldest first."""
    path: list[Mapping[str, Any]] = []
    while (parent := message.get("parentId")) is not None:
        message = tree.get(str(parent), {})
        if not message or any(message is known for known in path):
            raise row.fail(f"'parentId' is {short(parent)}", expected="another message of the snapshot")
        path.append(message)
    return path[::-1]


def _siblings(row: Row, tree: _Tree, rated: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The other answers to the same message, without empty ones."""
    names = tree.get(str(rated.get("parentId")), {}).get("childrenIds") or ()
    if not isinstance(names, list | tuple):
        raise row.fail(f"'childrenIds' is {short(names)}", expected="a list of messages")
    children = [tree[str(name)] for name in names if str(name) in tree]
    return [
        child
        for child in children
        if child is not rated and child.get("role") == "assistant" and str(child.get("content") or "").strip()
    ]


def _prompt(row: Row) -> Messages:
    chat, tree = _chat(row)
    turns: list[dict[str, Any]] = [
        {"role": turn.get("role"), "content": turn.get("content")} for turn in _path_to(row, tree, _rated(row, tree))
    ]
    system = _inner(chat, "params", "system")
    if isinstance(system, str) and system.strip():
        turns.insert(0, {"role": "system", "content": system})
    return ends_with_user(row, "snapshot", messages_of(Row(row.place, {"snapshot": turns}), "snapshot"))


def _thumb(row: Row) -> float:
    rating = number_of(Row(row.place, {"data.rating": _inner(row.fields["data"], "rating")}), "data.rating")
    if rating == 0:
        raise empty_row(row, "'data.rating' is 0", "1 or -1")
    return 1.0 if rating > 0 else -1.0


def _model(message: Mapping[str, Any]) -> str:
    return str(message.get("selectedModelId") or message.get("model") or "")


def _example(row: Row) -> Example:
    _, tree = _chat(row)
    rated, thumb = _rated(row, tree), _thumb(row)
    others = _siblings(row, tree, rated)
    texts = [_text(row, message) for message in (rated, *others)]
    runs = tuple(map(_model, (rated, *others)))
    vote = Vote(thumb, str(row.fields.get("user_id") or ""), comment=str(_inner(row.fields["data"], "comment") or ""))
    if not others:
        return Example(_prompt(row), tuple(texts), good=thumb > 0, votes=(vote,), runs=runs)
    if len(others) > 1:
        return Example(_prompt(row), tuple(texts), runs=runs, notes=(SEVERAL,))
    annotators = (vote.annotator,) if vote.annotator else ()
    return Example(_prompt(row), tuple(texts), thumb, votes=(vote,), runs=runs, annotators=annotators)


def _text(row: Row, message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if not isinstance(content, str):
        raise row.fail(f"the content of an answer is {short(content)}", expected="text")
    return not_blank(row, "content", content)


OPEN_WEBUI = Form(
    ("data", "meta", "snapshot"),
    when=lambda row: all(isinstance(row.fields[name], Mapping) for name in ("data", "meta", "snapshot")),
    prompt=_prompt,
    example=_example,
    may_have=("id", "user_id"),
)
"""Open WebUI: one row per thumb."""
