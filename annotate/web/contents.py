"""What the lead decides about the page: its title, guidelines with their version, rubric, what may be edited."""

import hashlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

from annotate.store.database import Store
from annotate.web.texts import Texts
from workbench.run.errors import WorkbenchError
from workbench.run.shipped import here_or_shipped

_STATED = re.compile(r"^\W*version\W+(\w[\w.\-]{0,31})", re.IGNORECASE | re.MULTILINE)
_EVENT = "guidelines"


@dataclass(frozen=True)
class PageContents:
    """The page's own texts and switches."""

    title: str
    guidelines: str | None = None
    """Markdown."""
    rubric: tuple[str, ...] = ()
    """Names of the dimensions that are asked for besides the overall answer."""
    edit: bool = True
    """Whether the better answer may be edited."""
    ask_before_saving: bool = False
    """Whether an answer is saved by a second key (Enter) only."""
    language: str = "en"

    @property
    def guidelines_version(self) -> str | None:
        """The version that the guidelines state, if they do, and a hash of their text; stored with each answer."""
        if self.guidelines is None:
            return None
        digest = hashlib.sha256(self.guidelines.encode()).hexdigest()[:8]
        stated = _STATED.search(self.guidelines)
        return f"{stated[1]} ({digest})" if stated else digest


def read_contents(
    title: str,
    *,
    guidelines: str | None,
    rubric: tuple[str, ...],
    edit: bool,
    ask_before_saving: bool,
    language: str,
) -> PageContents:
    """The contents, with the guidelines read from their file.

    Raises:
        WorkbenchError: the guidelines cannot be read, a rubric that names a dimension twice, or an unknown language.
    """
    Texts(language)
    names = [name.strip() for name in rubric]
    if len(set(names)) < len(names) or not all(0 < len(name) <= 64 for name in names):
        raise WorkbenchError(
            "page.rubric", f"cannot be {list(rubric)}", expected="different names of 1 to 64 characters"
        )
    text = None if guidelines is None else _read(here_or_shipped(Path(guidelines)))
    return PageContents(title, text, tuple(names), edit, ask_before_saving, language)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbenchError(
            f"page.guidelines={path}", f"cannot be read: {error}", expected="a markdown file in UTF-8"
        ) from None


def remember_guidelines(store: Store, contents: PageContents) -> None:
    """Keep the text of a new version of the guidelines in the audit trail: old answers stay explained."""
    if contents.guidelines is None:
        return
    version = contents.guidelines_version
    with store.write() as transaction:
        known = {event["detail"]["version"] for event in transaction.events() if event["kind"] == _EVENT}
        if version not in known:
            transaction.add_event(_EVENT, time.time(), version=version, text=contents.guidelines)
