"""Lists written as text into the cells of a CSV file."""

from typing import Any

import numpy as np
import pytest

from workbench.data.files.cells import CellError, cell_value, messages_in

MESSAGES = [{"content": "it's \"so\"\n'}' '{' x", "role": "user"}, {"content": "a 0", "role": "assistant"}]


@pytest.mark.parametrize(
    "value",
    [
        MESSAGES,
        [MESSAGES[0]],
        ["q 0", "it's"],
        ["one"],
        [["Remember", "ok"], ["b", "c"]],
        [{"text": "x", "score": 1.5, "none": None}],
    ],
)
def test_lists_printed_by_python_numpy_and_json_are_parsed(value: Any) -> None:
    import json

    assert cell_value(repr(value)) == value
    assert cell_value(json.dumps(value)) == value
    array = np.empty(len(value), dtype=object)
    array[:] = value
    if not isinstance(value[0], list):
        assert cell_value(str(array)) == value
        assert cell_value(repr(array)) == value
        assert cell_value(repr(list(array))) == value


def test_two_texts_side_by_side_stay_two() -> None:
    assert cell_value("['q 0' 'q 1']") == ["q 0", "q 1"]
    assert cell_value("[{'role': 'user', 'content': 'a'}\n {'role': 'assistant', 'content': 'b'}]") == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "[INST] hi [/INST]",
        "[1] First, …",
        "[x] done",
        "[1, 2, 3]",
        "[]",
        "[Verse 1]\nla",
        '["a"] is a list',
    ],
)
def test_text_stays_text(text: str) -> None:
    assert cell_value(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "[{'role': 'user', 'content': 'cut o",
        "[{'role': 'user'} ... {'role': 'assistant'}]",
        "['a', b]",
        "[{'a': nan}]",
        "['" + "x" * 10 + "']]",
    ],
)
def test_text_that_only_begins_like_a_list_is_an_error(text: str) -> None:
    with pytest.raises(CellError):
        cell_value(text)


def test_messages_written_into_text_are_messages() -> None:
    assert messages_in(repr(MESSAGES)) == MESSAGES
    assert messages_in("[{'a': 1}]") == "[{'a': 1}]"
    assert messages_in("[{'role': broken") == "[{'role': broken"
