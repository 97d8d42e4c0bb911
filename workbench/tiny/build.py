"""Builds the embedded default in one folder: a copy of the pretrained base, and the data files.

    base/                            tokenizer and model, a regular Hugging Face folder
    demonstrations.jsonl             for supervised tuning; answers of mixed quality
    demonstrations_heldout.jsonl     the same, for held-out prompts
    prompts.jsonl                    for sampling and for training on rewards
    prompts_heldout.jsonl            for evaluation only
    texts.jsonl                      answers labelled `rude` or `civil`, for classification
    rare/                            demonstrations and prompts of the world `rare` (workbench/tiny/rare.py)

Files are written to a temporary folder that is renamed at the end, so the folder is either complete or absent. A lock
file makes a second builder wait.
"""

import fcntl
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workbench.data.readers import write_records
from workbench.data.records import Demonstration, Message, Prompt
from workbench.run.checkpoints import write_text_atomically
from workbench.tiny import rare
from workbench.tiny.facts import FACTS, lowered, statement
from workbench.tiny.grammar import PromptSpec, demonstrate, render_prompt, sample_prompts
from workbench.tiny.phrases import RUDE

LOWEST_QUALITY = 0.3
"""The quality of demonstrations is uniform between this and 1: mostly helpful, far from perfect."""
PRETRAINED = Path(__file__).parent / "pretrained"
"""The shipped base, made by `pretrain`."""
RARE = ("demonstrations", "demonstrations_heldout", "prompts", "prompts_heldout")
FILES = (*RARE, "texts", *(f"rare/{name}" for name in RARE))


@dataclass(frozen=True)
class Sizes:
    """Number of records per file."""

    demonstrations: int = 3000
    demonstrations_heldout: int = 300
    prompts: int = 4000
    prompts_heldout: int = 400
    texts: int = 1200
    rare_demonstrations: int = 1500
    rare_prompts: int = 2000
    rare_heldout: int = 400


def _messages(spec: PromptSpec) -> tuple[Message, ...]:
    return (Message(role="user", content=render_prompt(spec)),)


def _demonstrations(specs: Sequence[PromptSpec], name: str, rng: random.Random) -> list[Demonstration]:
    return [
        Demonstration(
            id=f"{name}-{index:05d}",
            prompt=_messages(spec),
            response=demonstrate(spec, rng.uniform(LOWEST_QUALITY, 1), rng),
        )
        for index, spec in enumerate(specs)
    ]


def _prompts(specs: Sequence[PromptSpec], name: str) -> list[Prompt]:
    return [Prompt(id=f"{name}-{index:05d}", prompt=_messages(spec)) for index, spec in enumerate(specs)]


def _texts(specs: Sequence[PromptSpec], rng: random.Random) -> list[dict[str, str]]:
    """Answers of any quality, labelled `rude` if one of their sentences is."""
    rows = []
    for index, spec in enumerate(specs):
        answer = demonstrate(spec, rng.random(), rng)
        label = "rude" if any(phrase in answer for phrase in RUDE) else "civil"
        rows.append({"id": f"text-{index:05d}", "text": answer, "label": label})
    return rows


def write_data(folder: Path, sizes: Sizes | None = None, *, seed: int = 7) -> None:
    """Write the data files. The same seed gives the same bytes; no prompt is in two files."""
    sizes = sizes or Sizes()
    rng = random.Random(seed)
    train = sample_prompts(rng, sizes.demonstrations + sizes.prompts, heldout=False)
    held = sample_prompts(rng, sizes.demonstrations_heldout + sizes.prompts_heldout, heldout=True)
    demonstrated, plain = train[: sizes.demonstrations], train[sizes.demonstrations :]
    held_demonstrated, held_plain = held[: sizes.demonstrations_heldout], held[sizes.demonstrations_heldout :]
    write_records(folder / "demonstrations.jsonl", _demonstrations(demonstrated, "demonstration", rng))
    write_records(
        folder / "demonstrations_heldout.jsonl",
        _demonstrations(held_demonstrated, "heldout-demonstration", rng),
    )
    write_records(folder / "prompts.jsonl", _prompts(plain, "prompt"))
    write_records(folder / "prompts_heldout.jsonl", _prompts(held_plain, "heldout-prompt"))
    labelled = random.Random(f"{seed} texts")
    write_records(folder / "texts.jsonl", _texts(sample_prompts(labelled, sizes.texts, heldout=False), labelled))


def write_rare(folder: Path, sizes: Sizes | None = None, *, seed: int = 7) -> None:
    """Write the files of the world `rare`. The same seed gives the same bytes; no prompt is in two files."""
    sizes = sizes or Sizes()
    rng = random.Random(f"{seed} rare")
    train = rare.sample_prompts(rng, sizes.rare_demonstrations + sizes.rare_prompts, heldout=False)
    held = rare.sample_prompts(rng, sizes.rare_heldout, heldout=True)
    demonstrated = len(held) // 4
    sides = {"demonstrations": train[: sizes.rare_demonstrations], "demonstrations_heldout": held[:demonstrated]}
    for name, specs in sides.items():
        rows = [
            Demonstration(id=f"rare-{name}-{index:05d}", prompt=_messages(spec), response=rare.demonstrate(spec, rng))
            for index, spec in enumerate(specs)
        ]
        write_records(folder / f"{name}.jsonl", rows)
    write_records(folder / "prompts.jsonl", _prompts(train[sizes.rare_demonstrations :], "rare-prompt"))
    write_records(folder / "prompts_heldout.jsonl", _prompts(held[demonstrated:], "rare-heldout-prompt"))


def write_facts(out: Path) -> int:
    """Write right and wrong statements of the help desk, for the examination of a reward model (`passport.facts`).

    Nothing is trained on them. Returns the number of rows.
    """
    rows = []
    for fact in FACTS:
        for form in (0, 1):
            right, wrong = (statement(fact, value, form) for value in (fact.right, fact.wrong[form]))
            rows += [{"right": right, "wrong": wrong}, {"right": lowered(right), "wrong": lowered(wrong)}]
    write_text_atomically(out, "".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)


def is_complete(folder: Path) -> bool:
    """Whether the folder holds the complete embedded default."""
    names = ["base/model.safetensors", *(f"{name}.jsonl" for name in FILES)]
    return all((folder / name).exists() for name in names)


@contextmanager
def _only_builder(folder: Path) -> Iterator[None]:
    """Wait for other builders of the folder, then make others wait. The lock of a killed builder is released."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def pretrain(folder: Path = PRETRAINED) -> float:
    """Pretrain the base again: the same torch on the same processor gives the same bits. Takes about half an hour.

    Returns:
        loss: the final training loss in nats per token.
    """
    from workbench.tiny.base import build_base  # torch: nothing else here needs it

    partial = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    loss = build_base(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return loss


def build_tiny(folder: Path, sizes: Sizes | None = None) -> Path:
    """Build the embedded default in `folder` unless it is there already; returns the folder."""
    folder = Path(folder)
    if is_complete(folder):
        return folder
    with _only_builder(folder):
        if is_complete(folder):
            return folder
        partial = folder.parent / f".{folder.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        write_data(partial, sizes)
        write_rare(partial / "rare", sizes)
        shutil.copytree(PRETRAINED, partial / "base")
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    return folder
