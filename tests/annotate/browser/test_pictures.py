import re
from pathlib import Path

from tests.annotate.browser import pictures


def test_every_picture_of_the_page_is_made_by_the_script() -> None:
    named = set(re.findall(r'"([\w-]+)"', Path(pictures.__file__).read_text(encoding="utf-8")))
    there = {path.stem for path in pictures.IMAGES.glob("*.png")}
    assert there - named == {"report-desktop", "worlds", "atlas"}  # of a finished demo, and of two benchmarks
    assert {name for name in named if name.startswith(("annotate-", "lead-"))} <= there
