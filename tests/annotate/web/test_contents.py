import json
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import ValidationError

from annotate.config import PageSection
from annotate.queue.rules import Nothing, Refused, Submission
from annotate.queue.submission import Span, check, check_marks
from annotate.store.database import Store
from annotate.web.card import card_html
from annotate.web.contents import PageContents, read_contents, remember_contents
from annotate.web.page import login_html
from annotate.web.texts import ASSETS, Texts, languages
from workbench.run.errors import WorkbenchError

TEMPLATES = ASSETS.parent / "templates"


def read(tmp_path: Path, text: str | None, **changes: object) -> PageContents:
    path = tmp_path / "guidelines.md"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    return read_contents("Title", PageSection(guidelines=str(path), **changes))  # type: ignore[arg-type]


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
    for names in (("a", "a "), ("",), ("x" * 65,), ("a\nb",)):
        with pytest.raises(WorkbenchError, match=r"page\.rubric"):
            read(tmp_path, "text", rubric=names)
        with pytest.raises(WorkbenchError, match=r"page\.reasons"):
            read(tmp_path, "text", reasons=names)
    with pytest.raises(ValidationError, match="at most 9 items"):
        PageSection(reasons=tuple("abcdefghij"))
    with pytest.raises(WorkbenchError, match=r"no texts in 'xx'"):
        read(tmp_path, "text", language="xx")


def test_each_version_of_the_guidelines_is_kept_once(store: Store) -> None:
    for text in ("first", "first", "second", "first"):
        remember_contents(store, PageContents("Title", guidelines=text))
    remember_contents(store, PageContents("Title"))
    with store.read() as transaction:
        kept = [event["detail"]["text"] for event in transaction.events() if event["kind"] == "guidelines"]
    assert kept == ["first", "second"]


def test_a_reason_that_was_offered_once_stays_accepted(store: Store) -> None:
    for reasons in (("b", "a"), (), ("c", "a")):
        remember_contents(store, PageContents("Title", PageSection(reasons=reasons)))
    with store.read() as transaction:
        assert transaction.offered_reasons() == ["b", "a", "c"]


def test_what_the_lead_writes_is_escaped() -> None:
    contents = PageContents('<b>"T"', PageSection(rubric=('"><script>x</script>',), edit=False), "text")
    page = card_html(contents)
    assert "<script>" not in page
    assert "&lt;b&gt;&#34;T&#34;" in page
    assert 'data-action="edit"' not in page
    assert 'data-action="edit"' in card_html(PageContents("T"))
    assert 'id="guidelines"' not in card_html(PageContents("T"))
    assert "&lt;b&gt;" in login_html(contents, "/assets/x", "login.wrong")
    assert "Try again in 7 seconds" in login_html(contents, "/assets/x", "login.wait", seconds=7)


ARENA = ASSETS.parents[1] / "arena"
SOURCES = [*ASSETS.glob("*.js"), *TEMPLATES.glob("*.html"), *TEMPLATES.glob("*.jinja"), *ASSETS.parent.glob("*.py")]
SOURCES += [path for path in ARENA.rglob("*") if path.suffix in (".js", ".html", ".py")]
ENGLISH: dict[str, str] = json.loads((ASSETS / "texts.en.json").read_text(encoding="utf-8"))


def test_every_text_that_is_asked_for_is_there() -> None:
    asked: set[str] = set()
    for path in SOURCES:
        asked |= set(re.findall(r"\b(?:t|texts)\(\s*[\"']([a-z_.0-9]+)[\"']", path.read_text(encoding="utf-8")))
    assert len(asked) > 150
    asked = {name for name in asked if not name.endswith(".")}  # these are put together
    assert asked - set(ENGLISH) == set()


def test_every_reason_of_the_queue_has_a_text() -> None:
    sources = [*(ASSETS.parents[1] / "queue").glob("*.py"), ARENA / "votes.py"]
    queue = [path.read_text(encoding="utf-8") for path in sources]
    refused = {f"refused.{why}" for text in queue for why in re.findall(r'Refused\(\s*"(\w+)"', text)}
    assert len(refused) > 20
    assert refused == {name for name in ENGLISH if name.startswith("refused.")}
    for why in get_args(get_type_hints(Nothing)["why"]):
        for count in (1, 1234):
            assert "{" not in Texts().counted(f"nothing.{why}", count)
    assert "1,234 pairs" in Texts().counted("nothing.for_others", 1234)


def test_every_refusal_has_the_values_of_its_text() -> None:
    bad: list[tuple[int, dict[str, Any]]] = [
        (2, {"choice": "compared", "strength": 9}),
        (3, {"choice": "ranked", "ranking": (1, 2, 7)}),
        (3, {"choice": "ranked", "ranking": (1, 2)}),
        (3, {"choice": "compared", "strength": 1}),
        (2, {"choice": "both_bad", "rubric": {"honest": 4}}),
        (2, {"choice": "both_bad", "rubric": {str(n): 1 for n in range(17)}}),
        (2, {"choice": "both_bad", "edited_text": "x", "edited_response": 2}),
        (2, {"choice": "both_bad", "flag": "ugly"}),
        (2, {"choice": "best"}),
        (2, {"choice": "skipped", "reason": "x" * 1501}),
        (2, {"choice": "skipped", "comment": "NUL \x00"}),
        (2, {"choice": "skipped", "seconds": -1}),
    ]
    for answers, fields in bad:
        with pytest.raises(Refused) as refused:
            check(Submission(1, client_key="a-good-key", **fields), answers)
        said = Texts()(f"refused.{refused.value.why}", **refused.value.values)
        assert "{" not in said
    marks: list[dict[str, Any]] = [
        {"reasons": ("ugly",)},
        {"reasons": ("unsafe", "unsafe")},
        {"reasons": tuple("abcdefghij")},
        {"spans": (Span(2, 0, 1, "unsafe"),)},
        {"spans": (Span(0, 0, 9, "unsafe"),)},
    ]
    for fields in marks:
        with pytest.raises(Refused) as refused:
            check_marks(Submission(1, "both_bad", "a-good-key", **fields), ["one", "two"], ["unsafe"])
        assert "{" not in Texts()(f"refused.{refused.value.why}", **refused.value.values)
    assert Texts()("refused.long", name="reason", most=500, given=1501) == (
        "reason must be at most 500 characters long, not 1,501"
    )


def test_every_text_is_used() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    asked = set(re.findall(r"[\"']([a-z_][a-z_.0-9-]*)[\"']", source))
    stems = {name for name in asked if name.endswith(".")}  # the rest of the name is a value
    stems |= {name + "." for name in re.findall(r"counted\(f?[\"']([a-z_.]+)[\"']", source)}
    stems |= set(re.findall(r"\(f[\"']([a-z_.]+\.)\{", source)) | set(re.findall(r"`([a-z_.]+\.)\$\{", source))
    stems |= set(re.findall(r"[\"']([a-z_.]+\.)%d[\"']", source))
    assert {"full.", "agreement.", "lead.verdict.", "nothing.", "refused.", "lead.unit."} <= stems
    for name in ENGLISH:
        stem = name.removesuffix(".title")
        assert name in asked or stem in asked or name.startswith(tuple(stems)), name


def test_no_page_of_the_lead_holds_words_of_its_own() -> None:
    made = re.compile(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<script>.*?</script>", re.DOTALL)
    for path in TEMPLATES.glob("*.jinja"):
        text = made.sub(" ", path.read_text(encoding="utf-8"))
        assert re.findall(r"[A-Za-z]{2,}", re.sub(r"<[^>]*>", " ", text)) == [], path.name
        said = re.findall(r'(?:aria-label|placeholder|title|alt)="([^"]*)"', text)
        assert [words for words in said if words.strip()] == [], path.name


def test_texts_with_values_and_missing_texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Texts()("answer", letter="A") == "Answer A"
    assert languages() == ["en"]
    (tmp_path / "texts.en.json").write_text('{"a": "one", "b": "two"}', encoding="utf-8")
    (tmp_path / "texts.de.json").write_text('{"a": "eins"}', encoding="utf-8")
    monkeypatch.setattr("annotate.web.texts.ASSETS", tmp_path)
    assert languages() == ["de", "en"]
    with pytest.raises(WorkbenchError, match="1 texts are missing: b"):
        Texts("de")
