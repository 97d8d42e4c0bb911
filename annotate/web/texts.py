"""The page's words: one JSON file a language in `assets/`, read here and by `assets/words.js`."""

import json
import re
from pathlib import Path

from workbench.run.errors import WorkbenchError

ASSETS = Path(__file__).with_name("assets")


class Texts:
    """The words of one language."""

    def __init__(self, language: str = "en") -> None:
        """Read them.

        Raises:
            WorkbenchError: there is no file of this language, or it lacks texts that the English one has.
        """
        self.language = language
        self._texts = _read(language)
        missing = sorted(set(_read("en")) - set(self._texts))
        if missing:
            raise WorkbenchError(
                ASSETS / f"texts.{language}.json",
                f"{len(missing)} texts are missing: {', '.join(missing[:5])}",
                expected="every text of texts.en.json",
            )

    def __call__(self, name: str, /, **values: object) -> str:
        """A text; `{name}` in it stands for a value."""
        return re.sub(r"\{(\w+)\}", lambda match: _written(values[match[1]]), self._texts[name])

    def counted(self, name: str, count: int) -> str:
        """The text `name.one` or `name.many`, with its `{count}`; `name` itself where numbers make no difference."""
        return self(name if name in self._texts else f"{name}.{'one' if count == 1 else 'many'}", count=count)


def _written(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def languages() -> list[str]:
    """Those that there is a file of."""
    return sorted(path.name.split(".")[1] for path in ASSETS.glob("texts.*.json"))


def _read(language: str) -> dict[str, str]:
    if language not in languages():
        raise WorkbenchError("page.language", f"no texts in {language!r}", expected=f"one of {', '.join(languages())}")
    texts: dict[str, str] = json.loads((ASSETS / f"texts.{language}.json").read_text(encoding="utf-8"))
    return texts
