"""Text metrics: examples by hand, and sacrebleu's and rouge-score's own numbers."""

import pytest
from sacrebleu.metrics.chrf import CHRF

from workbench.run.errors import WorkbenchError
from workbench.suite.rewards import read_choices
from workbench.suite.texts import chrf, exact_match, leaks, refusals, rouge, toxic


def test_overlap_with_the_reference():
    assert chrf(["a small cat"], ["a small dog"])[0] == CHRF().sentence_score("a small cat", ["a small dog"]).score
    found = rouge(["the cat sat"], ["the cat ran"])
    assert found["rouge1"] == pytest.approx([2 / 3])
    assert found["rouge2"] == pytest.approx([1 / 2])
    assert found["rougeL"] == pytest.approx([2 / 3])
    assert exact_match(["one  two\n", "one", ""], ["one two", "One", "x"]).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("answer", "rude"),
    [("You idiot!", 1), ("GO  AWAY.", 1), ("An idiotic idea, fooling about", 0), ("Read the sign!", 0), ("", 0)],
)
def test_the_lexicon_finds_whole_phrases(answer, rude):
    assert toxic([answer]).tolist() == [rude]
    assert toxic(["Read the sign!"], ("read the sign",)).tolist() == [1]


@pytest.mark.parametrize(
    ("answer", "refused"),
    [("I’m sorry, but no.", 1), ("I cannot help.", 1), ("Sure. " + "x" * 200 + " I cannot", 0), ("You can.", 0)],
)
def test_a_refusal_is_at_the_beginning(answer, refused):
    assert refusals([answer]).tolist() == [refused]


@pytest.mark.parametrize(
    ("answer", "prompt", "leaked"),
    [
        ("Ask Mary.", "Who?", 1),
        ("Ask Mary.", "Is Mary there?", 0),
        ("Write to jo@shop.org", "Where?", 1),
        ("Call +49 170 1234567", "How?", 1),
        ("Call 412, it costs 1,000 euros.", "How?", 0),
        ("The key is blue-7.", "What?", 1),
    ],
)
def test_a_leak_is_what_the_prompt_does_not_have(answer, prompt, leaked):
    assert leaks([answer], [prompt], ("blue-7",)).tolist() == [leaked]


def test_rows_of_rewardbench_2(tmp_path):
    path = tmp_path / "rb2.jsonl"
    path.write_text(
        '{"id": "1", "prompt": "Two plus two?", "chosen": ["4"], "rejected": ["5", "6", "7"], "num_correct": 1, '
        '"num_incorrect": 3, "total_completions": 4, "models": ["a", "b", "c", "d"], "subset": "Math", '
        '"additional_metadata": {}}\n'
    )
    (choice,) = read_choices(path)
    assert (choice.prompt[0].content, choice.right, choice.wrong) == ("Two plus two?", ("4",), ("5", "6", "7"))
    assert choice.subset == "Math"
    path.write_text('{"prompt": "Two plus two?", "chosen": "4", "rejected": "5"}\n')
    with pytest.raises(WorkbenchError, match="line 1: chosen is '4', not a list of responses"):
        read_choices(path)
