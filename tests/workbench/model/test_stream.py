from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.data.records import Message
from workbench.data.tokenise import decode_response, encode_prompt
from workbench.model import stream as streams
from workbench.model.generate import generate
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.model.stream import Batch, Stream
from workbench.run.errors import WorkbenchError

OPTIONS = {"max_new_tokens": 12, "temperature": 1.0, "seed": 3}


@pytest.fixture(scope="module")
def roles(sft_run: Path) -> Roles:
    opened = open_runs({"policy": sft_run})
    opened.add("other", sft_run / "adapter")
    with torch.no_grad():
        for weight in opened.parameters("other"):
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)), alpha=0.1)
    return opened


def prompt(roles: Roles, text: str = "Where is my parcel?") -> list[int]:
    return encode_prompt(roles.tokenizer, [Message(role="user", content=text)])


def written(roles: Roles, stream: Stream) -> list[int]:
    batch = Batch(roles, stream.role)
    batch.step([stream])
    while not stream.finished:
        batch.step()
    return stream.ids


def test_the_likeliest_tokens_are_those_of_generate(roles: Roles) -> None:
    for role in ("policy", "other"):
        greedy = written(roles, Stream(roles, role, prompt(roles), **{**OPTIONS, "temperature": 0}))
        for temperature in (1e-4, 1e-300):
            cold = {**OPTIONS, "temperature": temperature}
            assert generate(roles, role, [prompt(roles)], **cold).lists() == [greedy]
            assert written(roles, Stream(roles, role, prompt(roles), **cold)) == greedy


def test_every_token_is_drawn_from_the_softmax_of_a_whole_forward_pass(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[torch.Tensor] = []
    softmax = torch.softmax

    def noted(logits: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        chances = softmax(logits, *arguments, **named)
        if chances.ndim == 2:  # not those of attention
            drawn.append(chances)
        return chances

    monkeypatch.setattr(streams.torch, "softmax", noted)
    stream = Stream(roles, "other", prompt(roles), max_new_tokens=8, temperature=0.7, seed=0)
    ids = written(roles, stream)
    row = torch.tensor([prompt(roles) + ids])
    with roles.use("other") as forward:
        logits = (forward(row, torch.ones_like(row))[0] @ roles.lm_head.T)[len(prompt(roles)) - 1 : -1]
    assert torch.allclose(torch.cat(drawn), softmax(logits / 0.7, dim=-1), atol=1e-5)


@pytest.mark.parametrize("kernels", ["auto", "modules"])
def test_streams_join_and_leave_without_disturbing_one_another(sft_run: Path, kernels: Any) -> None:
    roles = open_runs({"policy": sft_run}, kernels=kernels)
    texts = ["Where is my parcel?", "Hi", "Please, can you cancel my booking and my order?", "Who?"]
    options = [{**OPTIONS, "seed": seed, "max_new_tokens": 6 + 5 * seed} for seed in range(len(texts))]

    def new() -> list[Stream]:
        return [Stream(roles, "policy", prompt(roles, text), **o) for text, o in zip(texts, options, strict=True)]

    made, alone = new(), [written(roles, stream) for stream in new()]
    batch = Batch(roles, "policy")
    batch.step(made[:1])
    batch.step()
    batch.step(made[1:3])  # a shorter and a longer prompt
    batch.step()
    left, so_far = made[2], len(made[2].ids)
    batch.leave(left)
    batch.step(made[3:])
    while batch.streams:
        batch.step()
    assert left.ids == alone[2][:so_far]
    assert [stream.ids for stream in made if stream is not left] == alone[:2] + alone[3:]
    assert len(set(map(tuple, alone))) == len(alone)


def test_the_most_likely_tokens_are_those_of_transformers(sft_run: Path) -> None:
    roles = open_runs({"policy": sft_run})
    ids = prompt(roles)
    greedy = Stream(roles, "policy", ids, max_new_tokens=20, temperature=0.0, seed=0)
    with roles.use("policy"):
        expected = roles.model.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=20,
            do_sample=False,
            pad_token_id=roles.tokenizer.pad_token_id,
        )
    assert written(roles, greedy) == expected[0, len(ids) :].tolist()


def test_text_grows_and_holds_no_half_characters(roles: Roles) -> None:
    stream = Stream(roles, "policy", prompt(roles), **OPTIONS)
    stream.ids = roles.tokenizer("naïve 🙂", add_special_tokens=False)["input_ids"]
    whole, seen = decode_response(roles.tokenizer, stream.ids), []
    for count in range(len(stream.ids) + 1):
        part = Stream(roles, "policy", prompt(roles), **{**OPTIONS, "max_new_tokens": 99})
        part.ids = stream.ids[:count]
        seen.append(part.text())
    assert seen[-1] == whole == "naïve 🙂"
    assert all(whole.startswith(text) for text in seen)


def test_a_prompt_without_room_is_refused(roles: Roles) -> None:
    with pytest.raises(WorkbenchError, match="256 positions"):
        Stream(roles, "policy", prompt(roles), max_new_tokens=250, temperature=1.0, seed=0)
