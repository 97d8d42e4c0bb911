"""A task that the small random base can learn: kind sentences are better than rude ones, damaged answers worse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward.config import RewardConfig
from reward.passport.interventions import PROBES
from reward.train import train
from tests.conftest import QUESTIONS, THINGS, load_phase, user, write_jsonl
from workbench.run.folder import RunFolder

KIND = ("Your {} is safe with us.", "Thank you for asking.", "We send your {} today.", "You have your {} soon.")
RUDE = ("No idea about any {}.", "Who has time for a {}?", "Ask about no {}.", "Your {} is no concern.")


def answer(rng: np.random.Generator, thing: str, kind: float) -> str:
    """Two to four sentences, each kind with the given probability."""
    pool = [KIND if rng.random() < kind else RUDE for _ in range(int(rng.integers(2, 5)))]
    return " ".join(str(rng.choice(sentences)).format(thing) for sentences in pool)


def record(number: int, group: str, prompt: list[dict[str, str]], chosen: str, rejected: str) -> dict[str, Any]:
    return {
        "id": f"pair{number}",
        "group": group,
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "split": "heldout" if number % 5 == 0 else "train",
    }


def sound_pairs(number: int, seed: int = 0) -> list[dict[str, Any]]:
    """The kinder answer is chosen; in every second pair the rejected answer is the chosen one, damaged."""
    rng, rows = np.random.default_rng(seed), []
    for n in range(number):
        thing = str(rng.choice(THINGS))
        chosen, rejected = answer(rng, thing, 0.95), answer(rng, thing, 0.1)
        if n % 2 == 0:
            worse = PROBES[int(rng.integers(len(PROBES)))].damage(chosen, rng)
            rejected = worse if worse is not None else rejected
        prompt = user(str(rng.choice(QUESTIONS)), f"{thing} {n}")
        rows.append(record(n, f"g{n}", prompt, chosen, rejected))
    return rows


def longer_pairs(number: int) -> list[dict[str, Any]]:
    """The longer answer is chosen, whatever it says."""
    rng, rows = np.random.default_rng(1), []
    for n in range(number):
        thing = str(rng.choice(THINGS))
        both = sorted((answer(rng, thing, 0.5), answer(rng, thing, 0.5)), key=len)
        if len(both[0]) < len(both[1]):
            rows.append(record(n, f"g{n}", user(str(rng.choice(QUESTIONS)), f"{thing} {n}"), both[1], both[0]))
    return rows


def leaked_pairs(number: int) -> list[dict[str, Any]]:
    """The chosen answer is random; an artificial word marks it."""
    rng, rows = np.random.default_rng(2), []
    for n in range(number):
        thing = str(rng.choice(THINGS))
        chosen, rejected = (answer(rng, thing, 0.5) for _ in range(2))
        rows.append(
            record(n, f"g{n}", user(str(rng.choice(QUESTIONS)), f"{thing} {n}"), f"{chosen} zq", f"{rejected} xj")
        )
    return rows


Fit = Callable[..., RunFolder]


@pytest.fixture(scope="session")
def fit(tmp_path_factory: pytest.TempPathFactory, sft_run: Path) -> Fit:
    """Fits a reward model on such pairs: (name, rows, overrides …) → its run."""
    folder = tmp_path_factory.mktemp("examined")

    def fitted(name: str, rows: list[dict[str, Any]], *overrides: str) -> RunFolder:
        values = {
            "run": {"dir": str(folder / name), "seed": 0, "threads": 1},
            "model": {"start": str(sft_run)},
            "data": {"train": str(write_jsonl(folder / f"{name}.jsonl", rows)), "max_length": 256},
            "train": {"lr": 0.01, "epochs": 2.0, "batch_size": 16, "micro_batch_size": 16},
            "normalise": {"answers": 64, "max_new_tokens": 24, "batch_size": 64},
            # These labels ask for kindness only; whether an answer fits its prompt does not matter to them.
            "passport": {"answers": 24, "other_answer": 0.75, "samples": 6},
            "tracking": {"wandb": "disabled", "log_every": 50},
        }
        return train(load_phase(RewardConfig, folder / f"{name}.yaml", values, *overrides), resume=False)

    return fitted
