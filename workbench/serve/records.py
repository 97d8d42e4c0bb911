"""What a server writes: feedback, in the forms that `annotate load` reads, and the log of requests, masked."""

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from workbench.data.records import content_id
from workbench.run.checkpoints import make_folder, private_opener, refusal_explained
from workbench.run.errors import Problems
from workbench.run.partial import append_lines, lines_of

MOST_ANSWERS = 10_000
"""Answers that are remembered for feedback, the newest."""
CORRECTIONS, THUMBS = "corrections.jsonl", "thumbs.jsonl"


@dataclass(frozen=True)
class Given:
    """An answer that was given."""

    who: str
    prompt: list[dict[str, str]]
    text: str


class Answers:
    """The newest answers, by id."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, Given] = OrderedDict()

    def add(self, name: str, given: Given) -> None:
        """Remember an answer; the oldest is forgotten if there are more than `MOST_ANSWERS`."""
        self._answers[name] = given
        if len(self._answers) > MOST_ANSWERS:
            self._answers.popitem(last=False)

    def of(self, name: str, who: str) -> Given | None:
        """An answer that was given to this key."""
        given = self._answers.get(name)
        return given if given is not None and given.who == who else None


class Inbox:
    """Feedback, in a folder per name of a key: `corrections.jsonl` holds pairs, `thumbs.jsonl` rated answers (KTO).

    The same feedback again writes nothing. A line is on the disk before the request is answered, and a line that was
    cut off by a crash is dropped at the next start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._known: dict[tuple[str, str], set[str]] = {}

    def correct(self, given: Given, correction: str) -> bool:
        """A corrected answer is preferred to the given one; False if that was known."""
        pair = {"prompt": given.prompt, "chosen": correction, "rejected": given.text}
        return self._add(given.who, CORRECTIONS, pair)

    def rate(self, given: Given, *, good: bool) -> bool:
        """A thumb for one answer; False if that was known."""
        return self._add(given.who, THUMBS, {"prompt": given.prompt, "completion": given.text, "label": good})

    def _add(self, who: str, file: str, row: dict[str, Any]) -> bool:
        name, path = content_id(row), self._folder / who / file
        with self._lock:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _private(path) as output:
                if (who, file) not in self._known:
                    self._known[who, file] = _ids(output)
                if name in self._known[who, file]:
                    return False
                append_lines(output, [{"id": name, **row}])
            self._known[who, file].add(name)
        return True


def _ids(file: TextIO) -> set[str]:
    """The ids in an open file, whose last line is cut off if it is not whole."""
    file.seek(0)
    text = file.read()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.truncate(len(whole.encode()))
    return {json.loads(line)["id"] for line in lines_of(whole)}


def check_outputs(feedback: Path, log: Path | None) -> None:
    """Check that the folder of the feedback and the request log can be written; the log is made if it is not there.

    Raises:
        WorkbenchError: every problem at once.
    """
    problems = Problems()
    there = next((path for path in (feedback, *feedback.parents) if path.exists()), None)
    if there is not None and not there.is_dir():
        problems.add(there, "is a file", expected="a folder for the feedback", remedy="--feedback DIR")
    if log is not None and log.is_dir():
        problems.add(log, "is a folder", expected="a file for the request log", remedy="--log FILE")
    elif log is not None:
        problems.attempt(_open_once, log)
    problems.raise_if_any()


def _open_once(path: Path) -> None:
    make_folder(path.parent)
    with refusal_explained(path), _private(path):
        pass


def _private(path: Path) -> TextIO:
    """A file for reading and appending that only its owner may read."""
    return open(path, "a+", encoding="utf-8", opener=private_opener)


class RequestLog:
    """One JSON object per request, with personal data in its texts masked.

    Raises:
        WorkbenchError: a library of the extra `privacy` is not installed, or the mask key cannot be read.
    """

    def __init__(self, path: Path) -> None:
        from workbench.privacy.find import KINDS
        from workbench.privacy.keys import read_or_make_key
        from workbench.privacy.mask import Masker

        self._masker, self._lock = Masker(KINDS, read_or_make_key()), threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _private(path)

    def write(self, row: dict[str, Any]) -> None:
        """Add a request."""
        line = json.dumps(self._masked(row), ensure_ascii=False)
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def _masked(self, value: Any) -> Any:
        """A JSON value with every text masked."""
        if isinstance(value, str):
            return self._masker.mask(value)[0]
        if isinstance(value, dict):
            return {name: self._masked(inner) for name, inner in value.items()}
        return [self._masked(inner) for inner in value] if isinstance(value, list) else value
