"""The error for a row in no form: what the nearest form lacks, and renames that would work."""

import difflib
from collections.abc import Iterable, Sequence

from workbench.data.files.row import Row
from workbench.run.errors import WorkbenchError

FORMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "demonstrations": (
        ("prompt", "response"),
        ("prompt", "completion"),
        ("instruction", "output"),
        ("question", "answer"),
        ("messages",),
    ),
    "preferences": (("prompt", "chosen", "rejected"), ("prompt", "response_a", "response_b", "winner")),
    "rated answers": (("prompt", "response", "label"), ("prompt", "chosen", "rejected")),
    "prompts": (("prompt",), ("instruction",), ("question",), ("messages",), ("text",)),
    "items": (("prompt", "responses"), ("prompt", "response_a", "response_b")),
    "answers": (("prompt", "chosen", "rejected"), ("prompt", "responses"), ("prompt", "response"), ("messages",)),
}
"""Purpose → the forms that error messages name; docs/data.md lists all."""
_MAP = ", or read one under another name: annotate load … --map COLUMN=prompt"
_LIKELY = 0.75
"""Similarity from which one name may be a misspelling of another."""


def missing(row: Row, purpose: str, needs: Sequence[str] | None = None) -> WorkbenchError:
    """The error for a row that lacks a column.

    Args:
        row: with canonical names.
        purpose: a key of `FORMS`.
        needs: the columns of the file's form, if known.
    """
    found = ", ".join(row.fields) or "nothing"
    tool = next((name for name in ("label_annotations", "annotations", "result") if name in row.fields), None)
    if tool is not None and needs is None:
        return row.fail(
            f"an export of a labelling tool ({tool!r}) in a form that is not read; found: {found}",
            expected="; or ".join(", ".join(form) for form in FORMS[purpose]),
            remedy="make items (prompt, response_a, response_b) or pairs (prompt, chosen, rejected) of it; "
            "docs/data.md says which exports are read",
        )
    best = needs or max(FORMS[purpose], key=lambda form: _closeness(form, row.fields))
    absent = [name for name in best if name not in row.fields]
    if not absent or _closeness(best, row.fields) == 0:
        return row.fail(
            f"no fields of {purpose}; found: {found}",
            expected="; or ".join(", ".join(form) for form in FORMS[purpose]),
            remedy=f"rename the columns{_MAP if purpose == 'items' else ''}; docs/data.md lists every form",
        )
    close = {name: _like(name, [other for other in row.fields if other not in best]) for name in absent}
    renames = [f"rename {other!r} to {name!r}" for name, other in close.items() if other]
    return row.fail(
        f"field {', '.join(map(repr, absent))} is missing; found: {found}",
        expected=f"{purpose} with the fields {', '.join(best)}"
        + (f" (or {', '.join(others)})" if (others := _other(purpose, best)) and not needs else ""),
        remedy=f"did you mean {close[absent[0]]!r}? {'; '.join(renames)}"
        if close[absent[0]]
        else f"add {absent[0]!r} to each row; docs/data.md lists every form",
    )


def _other(purpose: str, best: Sequence[str]) -> Sequence[str]:
    """The other form of items."""
    return next((form for form in FORMS[purpose] if form != best), ()) if purpose == "items" else ()


def _closeness(form: Sequence[str], fields: Iterable[str]) -> float:
    names = list(fields)
    alike = [1.0 if name in names else 0.7 if _like(name, names) else 0.0 for name in form]
    return sum(alike) / len(alike)


def _like(name: str, candidates: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=_LIKELY)
    return close[0] if close else None
