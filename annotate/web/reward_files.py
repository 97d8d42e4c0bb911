"""What reward models tell those who lead: a learning curve, and pairs to judge again. Reads files, knows no model.

The files are written by `python -m reward curve … --out FOLDER` and `python -m reward explain … --relabel FILE` (or
`acquire --out FILE`), at any time: they are read whenever a page is shown.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from annotate.intake.priorities import Applied, apply_priorities, read_priorities
from annotate.store.database import Store
from workbench.run.errors import WorkbenchError


@dataclass(frozen=True)
class Curve:
    """How accuracy grows with the number of pairs."""

    sentence: str
    points: tuple[tuple[float, float], ...]
    """(pairs, held-out accuracy) of each fit."""
    line: tuple[tuple[float, float, float, float], ...]
    """(pairs, accuracy, low, high) of the power law, with its 95 % interval."""


@dataclass(frozen=True)
class Waiting:
    """Items that a file asks to be judged, best first."""

    count: int
    again: int
    """The judged ones among them that people are to judge once more."""
    prompts: tuple[str, ...]
    """What the first of them ask, where the file says it."""


@dataclass(frozen=True)
class RewardFiles:
    """Where the files are, or will be."""

    curve_folder: Path | None = None
    relabel: Path | None = None

    def curve(self) -> Curve | None:
        """The learning curve, where it has been made.

        Raises:
            WorkbenchError: curve.json is none.
        """
        path = None if self.curve_folder is None else self.curve_folder / "curve.json"
        if path is None or not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            points = tuple((float(p["pairs"]), float(p["accuracy"])) for p in content["points"])
            line = tuple((float(x), float(y), float(low), float(high)) for x, y, low, high in content["line"])
            return Curve(str(content["sentence"]), points, line)
        except (ValueError, KeyError, TypeError) as error:
            raise WorkbenchError(path, f"is no learning curve ({error})", remedy="python -m reward curve") from None

    def waiting(self) -> Waiting | None:
        """What the file of priorities asks for, where there is one.

        Raises:
            WorkbenchError: a line of it is bad.
        """
        if self.relabel is None or not self.relabel.is_file():
            return None
        entries = read_priorities(str(self.relabel))
        prompts = tuple(entry.prompt for entry in entries if entry.prompt)[:8]
        return Waiting(len(entries), sum(entry.again for entry in entries), prompts)

    def send_back(self, store: Store) -> Applied:
        """Give the items their priorities, and open those that shall be judged once more.

        Raises:
            WorkbenchError: there is no such file, or the store holds none of its items.
        """
        if self.relabel is None:
            raise WorkbenchError("lead.relabel", "names no file", remedy="lead.relabel=FILE in the configuration")
        return apply_priorities(store, str(self.relabel))
