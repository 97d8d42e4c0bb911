import logging
from typing import Any

import pytest

from tests.workbench.data.conftest import byte_level
from workbench.data.batching import (
    check_prompts,
    encode_demonstrations,
    encode_pairs,
    encode_prompts,
    prompts_with_room,
)
from workbench.data.records import Demonstration, Message, Preference, Prompt
from workbench.data.template import ensure_template
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.run.errors import WorkbenchError

PROMPT = (Message(role="user", content="Where is my order?"),)


@pytest.fixture
def ready() -> Any:
    tokenizer = byte_level()
    ensure_template(tokenizer)
    return tokenizer


def demonstration(response: str) -> Demonstration:
    return Demonstration(id="d", prompt=PROMPT, response=response)


def preference(chosen: str, rejected: str) -> Preference:
    return Preference(
        id="p",
        group="g",
        prompt=PROMPT,
        chosen=(Message(role="assistant", content=chosen),),
        rejected=(Message(role="assistant", content=rejected),),
    )


def test_demonstration_rows_mark_the_response(ready: Any) -> None:
    rows = encode_demonstrations(ready, [demonstration("On its way.")], max_length=100, source="d.jsonl").rows
    prompt, response = encode_prompt(ready, PROMPT), encode_response(ready, PROMPT, "On its way.")
    assert rows == [
        {"input_ids": prompt + response, "completion_mask": [0] * len(prompt) + [1] * len(response)},
    ]


def test_pair_rows_with_the_prompt_in_both_and_apart(ready: Any) -> None:
    pairs = [preference("On its way.", "No.")]
    prompt = encode_prompt(ready, PROMPT)
    (joined,) = encode_pairs(ready, pairs, max_length=100, source="p").rows
    (apart,) = encode_pairs(ready, pairs, max_length=100, source="p", prompt_apart=True).rows
    assert apart["prompt_ids"] == prompt
    assert joined == {"chosen_ids": prompt + apart["chosen_ids"], "rejected_ids": prompt + apart["rejected_ids"]}
    assert apart["chosen_ids"][-1] == apart["rejected_ids"][-1] == ready.eos_token_id


def test_pairs_that_are_too_long_are_dropped_counted_and_reported(ready: Any, caplog: pytest.LogCaptureFixture) -> None:
    pairs = [
        preference("yes", "no"),
        preference("yes", "no " * 50),
        preference("yes " * 50, "no"),
        preference("a", "b"),
    ]
    with caplog.at_level(logging.WARNING):
        encoded = encode_pairs(ready, pairs, max_length=40, source="pairs.jsonl")
    assert encoded.kept == [0, 3]
    assert encoded.dropped == 2
    assert len(encoded.rows) == 2
    assert "pairs.jsonl: dropped 2 of 4 pairs, longer than data.max_length=40" in caplog.text
    assert f"data.max_length={encoded.longest} would keep 100%" in caplog.text


def test_a_long_prompt_is_cut_from_the_left_in_both_rows(ready: Any, caplog: pytest.LogCaptureFixture) -> None:
    pair = preference("yes", "no " * 5)
    (whole,) = encode_pairs(ready, [pair], max_length=999, source="p").rows
    longest = max(map(len, whole.values()))
    prompt = encode_prompt(ready, PROMPT)
    with caplog.at_level(logging.WARNING):
        encoded = encode_pairs(ready, [pair], max_length=longest - 3, source="pairs.jsonl", truncate_prompt=True)
    (row,) = encoded.rows
    assert (encoded.cut, encoded.dropped) == (1, 0)
    for side in ("chosen_ids", "rejected_ids"):
        assert row[side] == [prompt[0], *prompt[4:], *whole[side][len(prompt) :]], (
            "BOS, then what is left of the prompt"
        )
    assert max(map(len, row.values())) == longest - 3
    assert "pairs.jsonl: cut the prompts of 1 of 1 pairs to data.max_length" in caplog.text


def test_a_pair_whose_answer_leaves_no_room_is_dropped(ready: Any) -> None:
    pairs = [preference("yes", "no"), preference("yes", "no " * 50)]
    encoded = encode_pairs(ready, pairs, max_length=40, source="p", truncate_prompt=True)
    assert (encoded.kept, encoded.cut, encoded.dropped) == ([0], 0, 1)


def test_no_warning_if_nothing_is_dropped(ready: Any, caplog: pytest.LogCaptureFixture) -> None:
    encode_pairs(ready, [preference("yes", "no")], max_length=100, source="p")
    assert not caplog.text


def test_the_limit_itself_is_allowed(ready: Any) -> None:
    length = len(encode_demonstrations(ready, [demonstration("yes")], max_length=99, source="d").rows[0]["input_ids"])
    assert encode_demonstrations(ready, [demonstration("yes")], max_length=length, source="d").dropped == 0
    with pytest.raises(WorkbenchError):
        encode_demonstrations(ready, [demonstration("yes")], max_length=length - 1, source="d")


def test_all_pairs_too_long_names_file_lengths_limit_and_remedy(ready: Any) -> None:
    pairs = [preference("yes", "no"), preference("yes " * 50, "no")]
    lengths = [len(row["chosen_ids"]) for row in encode_pairs(ready, pairs, max_length=999, source="p").rows]
    with pytest.raises(WorkbenchError) as caught:
        encode_pairs(ready, pairs, max_length=5, source="pairs.jsonl")
    message = str(caught.value)
    assert message.startswith("pairs.jsonl: all 2 pairs are too long")
    assert f"the shortest has {min(lengths)} tokens, the longest {max(lengths)}" in message
    assert "at most 5 tokens (data.max_length)" in message
    assert f"data.max_length={max(lengths)} keeps them all" in message


def test_prompts_have_a_limit_of_their_own(ready: Any) -> None:
    prompts = [Prompt(id="a", prompt=PROMPT), Prompt(id="b", prompt=(Message(role="user", content="long " * 50),))]
    encoded = encode_prompts(ready, prompts, max_length=40, source="prompts.jsonl")
    assert encoded.kept == [0]
    assert encoded.rows == [{"prompt_ids": encode_prompt(ready, PROMPT)}]
    with pytest.raises(WorkbenchError, match=r"all 2 prompts(.|\n)*data\.max_prompt_length="):
        encode_prompts(ready, prompts, max_length=2, source="prompts.jsonl")


def test_no_records_is_an_error(ready: Any) -> None:
    with pytest.raises(WorkbenchError, match="it has no pairs"):
        encode_pairs(ready, [], max_length=10, source="p")


@pytest.mark.slow
def test_trls_collators_read_the_rows(ready: Any) -> None:
    from trl.trainer.dpo_trainer import DataCollatorForPreference as PromptApart
    from trl.trainer.reward_trainer import DataCollatorForPreference as Joined

    pairs = [preference("On its way.", "No."), preference("yes", "no")]
    joined = Joined(pad_token_id=0)(encode_pairs(ready, pairs, max_length=100, source="p").rows)
    apart = PromptApart(pad_token_id=0)(encode_pairs(ready, pairs, max_length=100, source="p", prompt_apart=True).rows)
    assert joined["input_ids"].shape[0] == apart["input_ids"].shape[0] == 4
    assert joined["input_ids"].tolist() == apart["input_ids"].tolist()
    responses = [len(encode_response(ready, PROMPT, text)) for text in ("On its way.", "yes", "No.", "no")]
    assert apart["completion_mask"].sum(dim=1).tolist() == responses


def test_the_advised_limit_is_within_the_positions(ready: Any) -> None:
    demonstrations = [
        Demonstration(id=str(n), prompt=(Message(role="user", content="a b"),), response="a " * n) for n in (30, 200)
    ]
    lengths = [
        len(row["input_ids"])
        for row in encode_demonstrations(ready, demonstrations, max_length=10_000, source="f").rows
    ]
    ready.model_max_length = lengths[1] - 1
    with pytest.raises(WorkbenchError) as caught:
        encode_demonstrations(ready, demonstrations, max_length=5, source="f")
    assert f"data.max_length={lengths[1] - 1} keeps those that the base can read" in str(caught.value.remedy)
    ready.model_max_length = lengths[0] - 1
    with pytest.raises(WorkbenchError) as caught:
        encode_demonstrations(ready, demonstrations, max_length=5, source="f")
    assert "data.max_length" not in str(caught.value.remedy)
    with pytest.raises(WorkbenchError, match=f"the base has {lengths[0] - 1} positions"):
        encode_demonstrations(ready, demonstrations, max_length=lengths[0], source="f")


def test_prompts_leave_room_for_an_answer_or_are_named(ready: Any) -> None:
    prompts = [Prompt(id=name, prompt=(Message(role="user", content="a " * n),)) for name, n in (("s", 2), ("l", 40))]
    short, long = (len(encode_prompt(ready, prompt.prompt)) for prompt in prompts)
    ready.model_max_length = long + 7
    check_prompts(ready, prompts, max_new_tokens=7, key="k")
    with pytest.raises(WorkbenchError) as caught:
        check_prompts(ready, prompts, max_new_tokens=8, key="pairs.max_new_tokens")
    assert f"'l', {long} tokens" in caught.value.problem
    assert f"the base has {long + 7} positions" in caught.value.problem
    assert str(caught.value.remedy).startswith("pairs.max_new_tokens=7")
    assert prompts_with_room(ready, prompts, max_new_tokens=8, key="k") == prompts[:1]
    with pytest.raises(WorkbenchError):
        prompts_with_room(ready, prompts, max_new_tokens=long + 8 - short, key="k")
