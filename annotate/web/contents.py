"""The page's title, settings, and guidelines with their version."""

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from annotate.config import PageSection
from annotate.store.database import Store
from annotate.web.texts import Texts
from workbench.run.errors import WorkbenchError
from workbench.run.shipped import here_or_shipped

_STATED = re.compile(r"^\W*version\W+(\w[\w.\-]{0,31})", re.IGNORECASE | re.MULTILINE)
_EVENT = "guidelines"


@dataclass(frozen=True)
class PageContents:
    """The page's title, settings and guidelines."""

    title: str
    section: PageSection = field(default_factory=PageSection)
    guidelines: str | None = None
    """Markdown, read from `section.guidelines`."""

    @property
    def guidelines_version(self) -> str | None:
        """The version stated in the guidelines, if any, and a hash of their text; stored with each answer."""
        if self.guidelines is None:
            return None
        digest = hashlib.sha256(self.guidelines.encode()).hexdigest()[:8]
        stated = _STATED.search(self.guidelines)
        return f"{stated[1]} ({digest})" if stated else digest


def read_contents(title: str, section: PageSection) -> PageContents:
    """The contents, with the guidelines read from their file.

    Raises:
        WorkbenchError: the guidelines cannot be read, a dimension or reason occurs twice, or the language is unknown.
    """
    Texts(section.language)
    names = {key: _names(f"page.{key}", getattr(section, key)) for key in ("rubric", "reasons")}
    text = None if section.guidelines is None else _read(here_or_shipped(Path(section.guidelines)))
    return PageContents(title, section.model_copy(update=names), text)


def _names(key: str, given: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in given)
    if len(set(names)) < len(names) or not all(0 < len(name) <= 64 and name.isprintable() for name in names):
        raise WorkbenchError(key, f"cannot be {list(given)}", expected="different names of 1 to 64 characters")
    return names


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbenchError(
            f"page.guidelines={path}", f"cannot be read: {error}", expected="a markdown file in UTF-8"
        ) from None


def remember_contents(store: Store, contents: PageContents) -> None:
    """Tell the store what its answers may refer to: the reasons, and the guidelines' text (in the audit trail)."""
    version, reasons = contents.guidelines_version, contents.section.reasons
    if version is None and not reasons:
        return
    with store.write() as transaction:
        transaction.offer_reasons(reasons)
        known = {event["detail"]["version"] for event in transaction.events() if event["kind"] == _EVENT}
        if version is not None and version not in known:
            transaction.add_event(_EVENT, time.time(), version=version, text=contents.guidelines)
