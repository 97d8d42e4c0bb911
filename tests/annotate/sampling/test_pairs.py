import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from annotate.config import PairsSection
from annotate.sampling.pairs import make_pairs
from workbench.data.readers import read_items
from workbench.data.records import Message, Prompt
from workbench.run.errors import WorkbenchError

SECTION = PairsSection(
    run="runs/sft",
    temperatures=(0.7, 1.3),
    responses_per_prompt=2,
    max_new_tokens=8,
    batch_size=4,
    tries=2,
    round=1,
    seed=0,
)


@dataclass
class FakeAnswer:
    text: str
    temperature: float
    ended: bool = True


class FakeRun:
    """Answers that depend on prompt and seed; prompts named `same…` always get one and the same."""

    def __init__(self, stop_after: int = 0) -> None:
        self.calls: list[tuple[list[str], int]] = []
        self._stop_after = stop_after

    def __call__(
        self,
        prompts: Sequence[Prompt],
        *,
        temperatures: Sequence[float],
        responses_per_prompt: int,
        max_new_tokens: int,
        batch_size: int,
        seed: int,
    ) -> Iterator[tuple[Prompt, list[FakeAnswer]]]:
        self.calls.append(([prompt.id for prompt in prompts], seed))
        if self._stop_after and len(self.calls) > self._stop_after:
            raise KeyboardInterrupt
        for prompt in prompts:
            # `late…` prompts repeat themselves within one pass, and differ between passes.
            same, late = prompt.id.startswith("same"), prompt.id.startswith("late")
            yield (
                prompt,
                [
                    FakeAnswer("same" if same else f"{seed}" if late else f"{prompt.id} {seed} {k}", temperature)
                    for k, temperature in zip(range(responses_per_prompt), temperatures * 9, strict=False)
                ],
            )


def _prompts(*names: str) -> list[Prompt]:
    return [Prompt(id=name, prompt=(Message(role="user", content=f"{name}?"),)) for name in names]


def test_items_hold_different_answers_and_where_they_come_from(tmp_path: Path) -> None:
    out = tmp_path / "items.jsonl"
    counts = make_pairs(_prompts("p0", "p1"), out, SECTION, FakeRun())
    items = read_items(out)
    assert (counts.items, counts.prompts, counts.sampled, counts.dropped) == (2, 2, 4, 0)
    assert [item.group for item in items] == ["p0", "p1"]
    assert [response.temperature for response in items[0].responses] == [0.7, 1.3]
    assert {response.run for item in items for response in item.responses} == {"runs/sft"}
    assert items[0].responses[0].text != items[0].responses[1].text
    assert items[0].round == 1


def test_equal_answers_are_sampled_again_then_dropped_and_counted(tmp_path: Path) -> None:
    run = FakeRun()
    counts = make_pairs(_prompts("p0", "same1", "late2"), tmp_path / "items.jsonl", SECTION, run)
    assert [item.group for item in read_items(tmp_path / "items.jsonl")] == ["p0", "late2"]
    assert [ids for ids, _ in run.calls] == [["p0", "same1", "late2"], ["same1", "late2"]]
    assert run.calls[0][1] != run.calls[1][1]
    assert (counts.resampled, counts.dropped, counts.items) == (2, 1, 2)
    assert counts.identical == 1 + 2 + 1 + 1  # same1: one, then two more; late2: one in each pass


def test_three_answers_make_three_pairs_of_one_group(tmp_path: Path) -> None:
    make_pairs(
        _prompts("p0"), tmp_path / "items.jsonl", SECTION.model_copy(update={"responses_per_prompt": 3}), FakeRun()
    )
    items = read_items(tmp_path / "items.jsonl")
    assert [item.group for item in items] == ["p0"] * 3
    assert len({item.id for item in items}) == 3


def test_an_interrupted_run_goes_on_and_ends_with_the_same_file(tmp_path: Path) -> None:
    prompts = _prompts(*(f"p{n}" for n in range(10)), "same", "late")
    make_pairs(prompts, tmp_path / "whole.jsonl", SECTION, FakeRun())
    out = tmp_path / "items.jsonl"
    with pytest.raises(KeyboardInterrupt):
        make_pairs(prompts, out, SECTION, FakeRun(stop_after=2))
    partial = out.with_name("items.jsonl.partial")
    partial.write_bytes(partial.read_bytes() + b'{"counts": {"prompts": 9')  # cut off while writing
    second = FakeRun()
    counts = make_pairs(prompts, out, SECTION, second)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert second.calls[0][0] == ["p8", "p9", "same", "late"]
    assert counts.prompts == 12
    assert not partial.exists()


def test_a_changed_recipe_starts_anew(tmp_path: Path) -> None:
    prompts, out = _prompts(*(f"p{n}" for n in range(8))), tmp_path / "items.jsonl"
    with pytest.raises(KeyboardInterrupt):
        make_pairs(prompts, out, SECTION, FakeRun(stop_after=1))
    second = FakeRun()
    make_pairs(prompts, out, SECTION.model_copy(update={"seed": 1}), second)
    assert second.calls[0][0] == ["p0", "p1", "p2", "p3"]


def test_ids_follow_the_texts(tmp_path: Path) -> None:
    ids = []
    for seed in (0, 1):
        make_pairs(_prompts("p0"), tmp_path / "items.jsonl", SECTION.model_copy(update={"seed": seed}), FakeRun())
        ids.append(read_items(tmp_path / "items.jsonl")[0].id)
    assert ids[0] != ids[1]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder here refuses even root")
def test_a_place_that_cannot_be_written_is_an_error_before_anything_is_sampled() -> None:
    run = FakeRun()
    with pytest.raises(WorkbenchError, match=r"/proc/items\.jsonl: cannot be written"):
        make_pairs(_prompts("p0"), Path("/proc/items.jsonl"), SECTION, run)
    assert run.calls == []


@pytest.mark.parametrize(("names", "problem"), [((), "holds no prompt"), (("same",), "gave the same answers")])
def test_nothing_to_compare_is_an_error(tmp_path: Path, names: tuple[str, ...], problem: str) -> None:
    with pytest.raises(WorkbenchError, match=problem):
        make_pairs(_prompts(*names), tmp_path / "items.jsonl", SECTION, FakeRun())


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    prompts, out = _prompts("p0", "p1"), tmp_path / "items.jsonl"
    holder = "import sys; from pathlib import Path; from workbench.run.lock import hold_unfinished as hold\n"
    holder += "hold(Path(sys.argv[1] + '.partial'), Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", holder, str(out)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(WorkbenchError, match="is being written by another process"):
            make_pairs(prompts, out, SECTION, FakeRun())
        process.kill()
    assert make_pairs(prompts, out, SECTION, FakeRun()).prompts == 2
