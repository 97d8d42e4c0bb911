"""Labelled texts that a random base can tell apart, and small finished classification runs."""

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import load_phase, write_jsonl

PRAISE = ("lovely", "great", "splendid")
BLAME = ("awful", "broken", "useless")
OBJECTS = ("order", "parcel", "invoice", "account", "refund", "ticket", "password", "booking", "chair", "lamp")
FORMS = ("My {} is {}, honestly.", "What a {1} {0}.", "The {} you sent was {}, I must say.")


def labelled_rows(labels: tuple[str, str] = ("good", "bad")) -> list[dict[str, Any]]:
    """180 texts; a word of praise makes the label."""
    rows = [
        {"text": form.format(thing, word), "label": labels[word in BLAME]}
        for form, thing, word in itertools.product(FORMS, OBJECTS, (*PRAISE, *BLAME))
    ]
    random.Random(0).shuffle(rows)
    return rows


def classify_values(run: Path, base: Path, texts: Path) -> dict[str, Any]:
    """Configuration of a small classification run."""
    return {
        "method": "head",
        "run": {"dir": str(run), "seed": 0, "threads": 1},
        "model": {"base": str(base)},
        "lora": {"r": 4, "alpha": 8},
        "data": {"train": str(texts), "heldout_share": 0.3, "max_length": 96},
        "verbalizer": {"prompt": "{text} {labels}?", "shots": 2},
        "train": {"lr": 0.005, "max_steps": 20, "epochs": 9.0, "batch_size": 16, "micro_batch_size": 16},
        "tracking": {"wandb": "disabled", "log_every": 5},
    }


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The binary set."""
    return write_jsonl(tmp_path_factory.mktemp("texts") / "texts.jsonl", labelled_rows())


@pytest.fixture(scope="session")
def head_run(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, text_file: Path) -> Path:
    """The folder of a finished run of the method `head`."""
    from sft.classify.config import ClassifyConfig
    from sft.classify.train import train

    folder = tmp_path_factory.mktemp("runs")
    values = classify_values(folder / "head", tiny_base, text_file)
    return train(load_phase(ClassifyConfig, folder / "head.yaml", values), resume=False).path


@pytest.fixture
def configure(tmp_path: Path, tiny_base: Path, text_file: Path) -> Any:
    """A configuration of a run of its own, with overrides."""
    from sft.classify.config import ClassifyConfig

    number = itertools.count()

    def _configure(*overrides: str, texts: Path = text_file) -> Any:
        n = next(number)
        values = classify_values(tmp_path / f"run-{n}", tiny_base, texts)
        return load_phase(ClassifyConfig, tmp_path / f"{n}.yaml", values, *overrides)

    return _configure
