"""A random Llama made in a second, and small finished runs on it by the real phases. Tests share them.

`tiny_base` is a folder of random weights with a byte-level BPE; `demonstration_file`, `preference_file` and
`prompt_file` are records about it; `sft_run` and `reward_run` are finished runs.
"""

import gc
import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: sums in one order, whatever the machine

import pytest
import yaml

THINGS = ("order", "parcel", "invoice", "account", "refund", "ticket", "password", "booking")
QUESTIONS = ("Where is my {}?", "How do I change my {}?", "Can you cancel my {}?")
UNSEEN = ("Who has my {}?", "Please send my {}.")
GOOD = "Your {} is safe with us, thank you for asking."
BAD = "No idea about any {}."


def pytest_configure(config: pytest.Config) -> None:
    """The libraries warn about their own use of one another; the same filter as in workbench/__init__.py."""
    config.addinivalue_line("filterwarnings", r"ignore::FutureWarning:(transformers|trl|peft|accelerate)\.")


LONGEST = ("tests/test_mutants.py", "tests/ppo/test_gold.py", "tests/benchmarks/test_worlds.py", "tests/test_wheel.py")
"""Files that take minutes, first: a worker that got one of them last would work on alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the others keep their order."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def pytest_collection_finish() -> None:
    """Every training run collects garbage three times; two seconds each if it looks at all modules and tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Bit-identical sums; a run that was configured with more threads does not change the next test."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_hub() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


def skip_or_fail(missing: str) -> None:
    """Skip a test for want of a program; under CI, which installs all of them, fail it.

    A skip that nobody reads would hide that a whole part is no longer tested.
    """
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


@pytest.fixture(params=["auto", pytest.param("modules", marks=pytest.mark.slow)])
def kernels(request: pytest.FixtureRequest) -> str:
    """An override that chooses the forward pass: the one of this machine, and the one of a GPU (slow)."""
    return f"model.kernels={request.param}"


def user(question: str, thing: str) -> list[dict[str, str]]:
    """A prompt: one user message."""
    return [{"role": "user", "content": question.format(thing)}]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Records, one JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def load_phase(config_class: Any, path: Path, values: dict[str, Any], *overrides: str) -> Any:
    """A phase's configuration, read from a YAML file as its command line reads it."""
    from workbench.run.config import load_config

    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return load_config(config_class, path, overrides)[0]


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ordinary Hugging Face folder: Llama of 2 layers, 2 heads, 64 hidden, tied embeddings, random weights.

    Byte-level BPE with `<unk>` 0, `<s>` 1, `</s>` 2 and about 300 tokens; no chat template, no pad token.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-base")
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    texts = [text.format(thing) for text in (*QUESTIONS, *UNSEEN, GOOD, BAD) for thing in THINGS]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(["User: x\nAssistant: y", *texts], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=None
    )
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=256,
                tie_word_embeddings=True,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def demonstration_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 demonstrations of one form of answer."""
    rows = [
        {"id": f"d{number}", "prompt": user(question, thing), "response": GOOD.format(thing)}
        for number, (question, thing) in enumerate(itertools.product(QUESTIONS, THINGS))
    ]
    return write_jsonl(tmp_path_factory.mktemp("records") / "demonstrations.jsonl", rows)


@pytest.fixture(scope="session")
def prompt_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 prompts that no demonstration has."""
    rows = [
        {"id": f"p{number}", "prompt": user(question, thing)}
        for number, (question, thing) in enumerate(itertools.product(UNSEEN, THINGS))
    ]
    return write_jsonl(tmp_path_factory.mktemp("records") / "prompts.jsonl", rows)


@pytest.fixture(scope="session")
def preference_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pairs, the last 8 marked as held out; the chosen answer is always of the demonstrated form."""
    rows = [
        {
            "id": f"pair{number}",
            "group": f"g{number}",
            "prompt": user(question, thing),
            "chosen": [{"role": "assistant", "content": GOOD.format(thing)}],
            "rejected": [{"role": "assistant", "content": BAD.format(thing)}],
            "split": "heldout" if number >= 16 else "train",
        }
        for number, (question, thing) in enumerate(itertools.product(QUESTIONS, THINGS))
    ]
    return write_jsonl(tmp_path_factory.mktemp("records") / "preferences.jsonl", rows)


def sft_values(run: Path, base: Path, demonstrations: Path) -> dict[str, Any]:
    """Configuration of a small sft run."""
    return {
        "run": {"dir": str(run), "seed": 0, "threads": 1},
        "model": {"base": str(base)},
        "lora": {"r": 4, "alpha": 8},
        "data": {"train": str(demonstrations), "validation_share": 0.2, "max_length": 128},
        "train": {"lr": 0.01, "max_steps": 8, "batch_size": 8, "micro_batch_size": 8},
        "sample": {"prompts": 2, "max_new_tokens": 8},
        "tracking": {"wandb": "disabled", "log_every": 1},
    }


def reward_values(run: Path, start: Path, preferences: Path) -> dict[str, Any]:
    """Configuration of a small reward run."""
    return {
        "run": {"dir": str(run), "seed": 0, "threads": 1},
        "model": {"start": str(start)},
        "data": {"train": str(preferences), "max_length": 128},
        "train": {"lr": 0.01, "max_steps": 4, "epochs": 4.0, "batch_size": 8, "micro_batch_size": 8},
        "normalise": {"answers": 32, "max_new_tokens": 8, "batch_size": 32},
        "passport": {"at_end": False},
        "tracking": {"wandb": "disabled", "log_every": 1},
    }


@pytest.fixture(scope="session")
def sft_run(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, demonstration_file: Path) -> Path:
    """The folder of a finished sft run on `tiny_base`, NF4, LoRA r=4."""
    from sft.config import SftConfig
    from sft.train import train

    folder = tmp_path_factory.mktemp("runs")
    values = sft_values(folder / "sft", tiny_base, demonstration_file)
    return train(load_phase(SftConfig, folder / "sft.yaml", values), resume=False).path


@pytest.fixture(scope="session")
def reward_run(tmp_path_factory: pytest.TempPathFactory, sft_run: Path, preference_file: Path) -> Path:
    """The folder of a finished reward run that starts from `sft_run`."""
    from reward.config import RewardConfig
    from reward.train import train

    folder = tmp_path_factory.mktemp("runs")
    values = reward_values(folder / "reward", sft_run, preference_file)
    return train(load_phase(RewardConfig, folder / "reward.yaml", values), resume=False).path
