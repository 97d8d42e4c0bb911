import json
import re
from pathlib import Path

import pytest

from annotate.store.database import Store
from annotate.web.contents import PageContents, read_contents, remember_guidelines
from annotate.web.page import card_html, login_html
from annotate.web.texts import ASSETS, Texts, languages
from workbench.run.errors import WorkbenchError

TEMPLATES = ASSETS.parent / "templates"


def read(tmp_path: Path, text: str | None, **changes: object) -> PageContents:
    path = tmp_path / "guidelines.md"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    values = {"guidelines": str(path), "rubric": (), "edit": True, "ask_before_saving": False, "language": "en"}
    return read_contents("Title", **{**values, **changes})  # type: ignore[arg-type]


def test_the_version_is_a_hash_after_what_the_text_states(tmp_path: Path) -> None:
    plain, other = read(tmp_path, "Be fair.").guidelines_version, read(tmp_path, "Be fair!").guidelines_version
    assert plain is not None
    assert re.fullmatch("[0-9a-f]{8}", plain)
    assert plain != other
    stated = read(tmp_path, "# How\n\n**Version: 2.1-b**\n\nBe fair.").guidelines_version
    assert stated is not None
    assert re.fullmatch(r"2\.1-b \([0-9a-f]{8}\)", stated)
    assert PageContents("Title").guidelines_version is None


def test_bad_contents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="cannot be read"):
        read(tmp_path, None)
    for rubric in (("a", "a "), ("",), ("x" * 65,)):
        with pytest.raises(WorkbenchError, match=r"page\.rubric"):
            read(tmp_path, "text", rubric=rubric)
    with pytest.raises(WorkbenchError, match=r"no texts in 'xx'"):
        read(tmp_path, "text", language="xx")


def test_each_version_of_the_guidelines_is_kept_once(store: Store) -> None:
    for text in ("first", "first", "second", "first"):
        remember_guidelines(store, PageContents("Title", text))
    remember_guidelines(store, PageContents("Title"))
    with store.read() as transaction:
        kept = [event["detail"]["text"] for event in transaction.events() if event["kind"] == "guidelines"]
    assert kept == ["first", "second"]


def test_what_the_lead_writes_is_escaped() -> None:
    contents = PageContents('<b>"T"', "text", rubric=('"><script>x</script>',), edit=False)
    page = card_html(contents)
    assert "<script>" not in page
    assert "&lt;b&gt;&#34;T&#34;" in page
    assert 'data-action="edit"' not in page
    assert 'data-action="edit"' in card_html(PageContents("T"))
    assert 'id="guidelines"' not in card_html(PageContents("T"))
    assert "&lt;b&gt;" in login_html(contents, "/assets/x", "login.wrong")
    assert "Try again in 7 seconds" in login_html(contents, "/assets/x", "login.wait", seconds=7)


def test_every_text_that_is_asked_for_is_there() -> None:
    texts = json.loads((ASSETS / "texts.en.json").read_text(encoding="utf-8"))
    sources = [*ASSETS.glob("*.js"), *TEMPLATES.glob("*.html"), *ASSETS.parent.glob("*.py")]
    asked: set[str] = set()
    for path in sources:
        asked |= set(re.findall(r"\bt\(\s*[\"']([a-z_.0-9]+)[\"']", path.read_text(encoding="utf-8")))
    assert len(asked) > 50
    asked = {name for name in asked if not name.endswith(".")}  # these are put together
    assert asked - set(texts) == set()


def test_every_text_is_used() -> None:
    sources = [*ASSETS.glob("*.js"), *TEMPLATES.glob("*.html"), ASSETS.parent / "page.py", ASSETS.parent / "login.py"]
    source = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    made = ("full.", "short.", "role.", "skip.reason.", "flag.", "saved.", "key.")  # the rest of the name is a value
    for name in json.loads((ASSETS / "texts.en.json").read_text(encoding="utf-8")):
        stem = name.removesuffix(".title")
        assert f'"{name}"' in source or f"'{name}'" in source or name.startswith(made) or f'"{stem}"' in source, name


def test_texts_with_values_and_missing_texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Texts()("answer", letter="A") == "Answer A"
    assert languages() == ["en"]
    (tmp_path / "texts.en.json").write_text('{"a": "one", "b": "two"}', encoding="utf-8")
    (tmp_path / "texts.de.json").write_text('{"a": "eins"}', encoding="utf-8")
    monkeypatch.setattr("annotate.web.texts.ASSETS", tmp_path)
    assert languages() == ["de", "en"]
    with pytest.raises(WorkbenchError, match="1 texts are missing: b"):
        Texts("de")
