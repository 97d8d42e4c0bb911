import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from annotate.web.characters import Node, text_of
from annotate.web.highlight import KINDS as CODE
from annotate.web.highlight import LANGUAGES, LONGEST, LONGEST_LINE
from annotate.web.render import LONGEST_FORMATTED, as_markdown, as_source

CORPUS = json.loads(Path(__file__).with_name("rendering_corpus.json").read_text(encoding="utf-8"))
TEXTS = [pytest.param(entry["text"], id=entry["name"]) for entry in CORPUS]
TAGS = {
    *("p", "h3", "h4", "h5", "h6", "blockquote", "pre", "code", "em", "strong", "s", "span"),
    *("ul", "ol", "li", "table", "tbody", "tr", "td"),
}
KINDS = {"", "sign", "unseen", "math", "rule", "head", "line", "amount", *CODE}


def elements(nodes: Sequence[Node]) -> Iterator[dict]:
    for node in nodes:
        if not isinstance(node, str):
            yield dict(node)
            yield from elements(node["children"])


def tags(text: str) -> set[str]:
    return {element["tag"] for element in elements(as_markdown(text))}


def texts_of(text: str, tag: str, kind: str = "") -> list[str]:
    found = elements(as_markdown(text))
    return [text_of(e["children"]) for e in found if e["tag"] == tag and e.get("kind", "") == kind]


def test_the_corpus_is_large_and_named():
    assert len(CORPUS) >= 60
    assert len({entry["name"] for entry in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("text", TEXTS)
def test_both_views_hold_exactly_the_text(text: str) -> None:
    assert text_of(as_markdown(text)) == text
    assert text_of(as_source(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_the_tree_has_known_elements_only(text: str) -> None:
    for element in elements([*as_markdown(text), *as_source(text)]):
        assert element["tag"] in TAGS
        assert element.get("kind", "") in KINDS
        assert set(element) <= {"tag", "kind", "label", "title", "indent", "children"}


def test_random_texts_are_held_exactly() -> None:
    pieces = ["*", "**", "_", "`", "```", "\n", "\n\n", "# ", "- ", "1. ", "> ", "|", "|---|---|\n", "a", "b c", "    "]
    pieces += ["$$", "$$\n", "\\[", "\\]\n", "```python\n", "def f(): # x\n", "'"]
    pieces += ["\t", "\\", "$", "\r", "\r\n", "\0", "\u200b", "~~", "<b>", "&amp;", "![x](y)", "===", "\x0b", "\u2028"]
    generator = random.Random(0)
    for _ in range(1500):
        text = "".join(generator.choices(pieces, k=generator.randint(1, 30)))
        assert text_of(as_markdown(text)) == text
        assert text_of(as_source(text)) == text


def test_structure_is_shown() -> None:
    assert {"ul", "li", "strong"} <= tags("- a\n- **b**")
    assert {"table", "tr", "td"} <= tags("| x |\n|---|\n| 1 |")
    assert texts_of("# T\n\ntext", "h3") == ["# T\n"]
    assert texts_of("> q", "blockquote") == ["> q"]
    assert texts_of("3. third", "ol") == ["3. third"]
    assert texts_of("a ~~b~~", "s") == ["~~b~~"]


def test_signs_are_told_from_text() -> None:
    assert texts_of("# T **b** `c`\n- d", "span", "sign") == ["# ", "**", "**", "`", "`", "- "]
    assert texts_of(r"\*no\* 2 * 3 snake_case", "span", "sign") == []


def test_code_keeps_its_stars_and_its_fence() -> None:
    assert texts_of("```python\nx = a*b*c\n```\n", "pre") == ["```python\nx = a*b*c\n```\n"]
    assert texts_of("```python\nx = a*b*c\n```\n", "span", "sign") == ["```python\n", "```\n"]
    assert texts_of("a ``b ` c`` d", "code") == ["``b ` c``"]


def test_lines_of_code_know_their_indent() -> None:
    code = "```\nif a:\n    b\n\n\tc\n```\n"
    lines = [element for element in elements(as_markdown(code)) if element.get("kind") == "line"]
    assert [text_of(line["children"]) for line in lines] == ["if a:\n", "    b\n", "\tc\n"]
    assert [line["indent"] for line in lines] == [0, 4, 8]


def test_latex_is_no_emphasis() -> None:
    assert texts_of(r"$a_1*b_2*c$ and \(x*y*z\), $5 to $10", "code", "math") == ["$a_1*b_2*c$", r"\(x*y*z\)"]
    assert "em" not in tags(r"$a_1*b_2*c$")


@pytest.mark.parametrize("math", ["$$\na\n- b\n= c\n$$", "\\[\n# x\n1. y\n\\]", "$$x *y* z$$", "\\[ x \\]"])
def test_math_on_lines_of_its_own_is_one_formula(math: str) -> None:
    assert texts_of(f"Thus:\n{math}\nand *so*.", "code", "math") == [math]
    assert tags(f"Thus:\n{math}\nand *so*.") == {"p", "code", "em", "span"}


@pytest.mark.parametrize("text", ["$$", "$$\n", "$$\n\n$$", "\\[\nopen", "$$a$$ and $$b$$ c", "    $$\n    x\n    $$"])
def test_what_is_no_formula_on_its_own_lines_is_left_to_the_other_rules(text: str) -> None:
    assert text_of(as_markdown(text)) == text
    assert text not in texts_of(text, "code", "math")


def test_code_is_highlighted_by_the_name_after_its_fence() -> None:
    code = "@cache\ndef f(x):\n    return 'a' + str(12)  # why\n"
    assert texts_of(f"```python\n{code}```\n", "span", "keyword") == ["def", "return"]
    assert texts_of(f"```{{.Python}} title=x\n{code}```\n", "span", "string") == ["'a'"]
    assert texts_of(f"> ```py\n> {code}> ```\n", "span", "name") == ["@cache"]
    assert texts_of(f"```python\n{code}```\n", "span", "name") == ["@cache", "f", "str"]
    assert texts_of(f"```python\n{code}```\n", "span", "number") == ["12"]
    assert texts_of(f"```python\n{code}```\n", "span", "comment") == ["# why"]
    long, wide = "x = 1\n" * LONGEST, "x = " + "1" * LONGEST_LINE
    for plain in (f"```\n{code}```", f"```unknown\n{code}```", f"```python\n{long}```", f"```python\n{wide}```"):
        assert not CODE & {element.get("kind") for element in elements(as_markdown(plain))}


@pytest.mark.parametrize("language", sorted(LANGUAGES))
@pytest.mark.timeout(60)
def test_hostile_code_in_every_language_ends_and_is_held(language: str) -> None:
    for piece in ("(" * 9, "a ", "/*", "\\"):
        line = piece * (LONGEST_LINE // len(piece)) + "\n"
        text = f"```{language}\n{line * (LONGEST // len(line))}```\n"
        assert text_of(as_markdown(text)) == text


def test_cells_are_split_at_bars_that_are_not_escaped() -> None:
    assert texts_of("| a | b |\n|--|--|\n| 1 \\| 2 | c |", "td") == [
        *("| a ", "| b |\n"),
        *("|--", "|--|\n"),
        *("| 1 \\| 2 ", "| c |"),
    ]


def test_cells_that_are_numbers_are_aligned_as_such() -> None:
    def kinds(nodes: Sequence[Node]) -> list[str]:
        found: list[str] = []
        for node in nodes:
            if not isinstance(node, str):
                found += [node.get("kind", "")] if node["tag"] == "td" else kinds(node["children"])
        return found

    table = "| a | 1,234.5 | -7 % |\n|--|--|--|\n| 3 | 3 of 4 | **5** |"
    assert kinds(as_markdown(table)) == ["", "amount", "amount", "", "", "", "amount", "", ""]


def test_a_table_too_wide_to_stand_in_columns_is_shown_by_lines() -> None:
    text = "|a" * 11 + "|\n" + "|-" * 11 + "|"
    assert texts_of(text, "pre") == [text]
    assert "table" not in tags(text)


def test_what_nobody_can_see_is_named() -> None:
    def labels(nodes: Sequence[Node]) -> list[str]:
        return [element["label"] for element in elements(nodes) if element.get("kind") == "unseen"]

    text = "a\u200bb\u202ec\x00d\re\xa0f\tg  \n"
    assert labels(as_markdown(text)) == ["ZWSP", "RLO", "NUL", "CR"]
    assert labels(as_source(text)) == ["ZWSP", "RLO", "NUL", "CR", "NBSP", "TAB", "2×SP"]
    emoji = "\U0001f469\u200d\U0001f467 \u2764\ufe0f"
    assert labels(as_markdown(emoji)) == []  # a working part of an emoji
    assert labels(as_source(emoji)) == ["ZWJ", "U+FE0F"]
    assert labels(as_markdown("a \u200db")) == ["ZWJ"]
    titles = [element["title"] for element in elements(as_source("\u202e"))]
    assert titles == ["right-to-left override"]


@pytest.mark.parametrize(
    "piece", ["*a **b ", "[", "$$\n", "\\[\n", "$$ x\n", ">", "- ", "`` ` ", "\\(", "$a", "|a", "_a_", "<"]
)
@pytest.mark.timeout(120)  # a fraction of a second each; a rule that backtracks would not end
def test_hostile_repetition_ends(piece: str) -> None:
    text = piece * (LONGEST_FORMATTED // len(piece))
    assert text_of(as_markdown(text)) == text


def test_very_long_texts_are_not_formatted() -> None:
    text = "**a** " * LONGEST_FORMATTED
    assert list(elements(as_markdown(text))) == []
    assert text_of(as_markdown(text)) == text
