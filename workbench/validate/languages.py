"""The language of each text, by py3langid: 97 languages, a model of a few megabytes in the package, no network."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from workbench.run.progress import progress
from workbench.validate.entries import Entry
from workbench.validate.findings import Finding, Spot, rows_finding

SHORTEST = 60
"""Characters below which a text's language is not guessed."""
_READ = 1000
"""Characters of a text that are looked at."""
SURE = 0.9
"""Probability from which a language counts as known."""
MAIN = 0.8
"""Share of the known texts in one language, from which the others are reported."""


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def check_languages(
    path: str, entries: Sequence[Entry], *, quiet: bool = False
) -> tuple[list[Finding], dict[str, int]]:
    """Texts in another language than the rest, and language → texts; short and uncertain texts count as `?`."""
    identifier = _identifier()
    languages: list[str] = []
    for entry in progress(entries, description="languages", unit=" rows", quiet=quiet):
        text = "\n".join([entry.prompt, *entry.answers])[:_READ].strip()
        name, probability = identifier.classify(text) if len(text) >= SHORTEST else ("?", 0.0)
        languages.append(str(name) if probability >= SURE and name != "zxx" else "?")  # zxx: no language
    counts = Counter(languages)
    known = {name: count for name, count in counts.items() if name != "?"}
    main = max(known, key=known.__getitem__, default="")
    if not known or known[main] < MAIN * sum(known.values()):
        return [], dict(counts.most_common())
    spots = [
        Spot(entry.place, f"{name}: {entry.answers[0][:50] if entry.answers else entry.prompt[:50]!r}")
        for entry, name in zip(entries, languages, strict=True)
        if name not in (main, "?")
    ]
    return rows_finding("other-language", path, spots, len(entries)), dict(counts.most_common())
