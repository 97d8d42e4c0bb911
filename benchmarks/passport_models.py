"""The reward models of benchmarks.passport_predicts: how each is made, examined, and optimised against by PPO."""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.guard_runs import COMMON, CONFIGS, LABELLERS, PPO, Labeller, Pair, World, gold_of, sound
from ppo.config import PpoConfig
from ppo.train import train as train_ppo
from reward.config import RewardConfig
from reward.passport.issue import issue_passport
from reward.passport.samples import ANSWERS
from workbench.data.embedded import resolve_data
from workbench.data.hashing import unit_hash
from workbench.data.readers import read_prompts
from workbench.data.records import Item, Prompt
from workbench.evaluate.policy import Sampling
from workbench.evaluate.role_models import RolePolicy, RoleScore
from workbench.model.generate import Sampled
from workbench.model.open import open_runs
from workbench.run.checkpoints import write_text_atomically
from workbench.run.config import load_config
from workbench.run.folder import RunFolder

HALVES = (0, 1)
SPANS = {"half 0": (0, 1500), "half 1": (2400, 3900), "judge": (1500, 2400)}
"""Prompts whose pairs are labelled, by who learns from them."""
BIASES = tuple(name for name in LABELLERS if name not in ("sound", "noise"))
TRAINING = (
    *PPO,
    "reward.kl_coef=0.0",
    "reward.score_clip=0.0",
    "train.lr=0.004",
    "train.iterations=8",
    "train.ppo_epochs=2",
)
POOL = 32
"""Held-out prompts that the start run answers 16 times each, the same answers for every model."""


@dataclass(frozen=True)
class Spec:
    """How one reward model is made."""

    number: int
    half: int
    pairs: int
    turned: float
    """Share of the labels that are turned round."""
    bias: str
    """A key of `LABELLERS`; `sound` for none."""
    biased: float
    """Share of the labels that the biased labeller gives; the others are sound."""
    rank: int
    epochs: float

    @property
    def name(self) -> str:
        """Of its files."""
        return f"model {self.number:03d}"


def spec_of(number: int) -> Spec:
    """The model of a number; halves alternate, one model in four has no bias."""
    rng = np.random.default_rng([20261129, number])
    bias = "sound" if number // 2 % 4 == 0 else str(rng.choice(BIASES))
    return Spec(
        number=number,
        half=HALVES[number % 2],
        pairs=round(math.exp(rng.uniform(math.log(150), math.log(1200)))),
        turned=round(float(rng.uniform(0, 0.4)), 2),
        bias=bias,
        biased=0.0 if bias == "sound" else round(float(rng.uniform(0.2, 1.0)), 2),
        rank=int(rng.choice([2, 4, 8, 16, 32])),
        epochs=float(rng.choice([1.0, 2.0])),
    )


def labeller_of(spec: Spec) -> Labeller:
    """Labels of this model's training pairs."""

    def label(pair: Pair) -> float:
        _, turned, whose = pair.draws
        advantage = (LABELLERS[spec.bias] if whose < spec.biased else sound)(pair)
        return -advantage if turned < spec.turned else advantage

    return label


@dataclass(frozen=True)
class Bench:
    """Where the models are made and examined."""

    world: World
    changes: tuple[str, ...]
    """Values of the PPO runs."""

    @property
    def folder(self) -> Path:
        """Of the world."""
        return self.world.folder

    def file(self, spec: Spec) -> Path:
        """What was found out about a model."""
        return self.folder / "found" / f"{spec.name}.json"

    def start(self) -> dict[str, Any]:
        """Gold reward of the start run's answers, and the pool of answers that every model scores."""
        file = self.folder / "start.json"
        if not file.is_file():
            gold = gold_of_run(self.folder / "sft")
            answers = sampled(self.folder / "sft", pool_prompts(), ANSWERS, seed=5)
            pool = [[dataclasses.asdict(answer) for answer in each] for each in answers]
            write_text_atomically(file, json.dumps({**gold, "pool": pool, "pool_gold": golds(pool_prompts(), answers)}))
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def add(self, spec: Spec) -> None:
        """Fit, examine and train one model."""
        began = time.monotonic()
        run, judge = self.fitted(spec), self.folder / "rewards" / "judge"
        fitted = time.monotonic()
        values = [
            f"passport.judge={judge}",
            "passport.swap_gap=1.0",
            "passport.answers=128",
        ]  # as configs/tiny/reward.yaml
        passport = issue_passport(load_config(RewardConfig, run / "config.yaml", values)[0], RunFolder(run))
        examined = time.monotonic()
        policy = self.trained(spec, run)
        trained = time.monotonic()
        samples = passport.findings.samples
        assert samples is not None
        assert samples.judge_slope is not None
        found = {
            **dataclasses.asdict(spec),
            "accuracy": dataclasses.asdict(passport.findings.accuracy),
            "teaches": dataclasses.asdict(samples.teaches),
            "best_of_slope": dataclasses.asdict(samples.judge_slope),
            "own_slope": samples.own_slope.mean,
            "outcome": passport.outcome,
            "checks": [dataclasses.asdict(check) for check in passport.checks],
            "pool_scores": self.scored(run),
            **gold_of_run(policy),
            "seconds": {
                "fit": round(fitted - began, 1),
                "passport": round(examined - fitted, 1),
                "ppo": round(trained - examined, 1),
                "gold": round(time.monotonic() - trained, 1),
            },
        }
        self.file(spec).parent.mkdir(exist_ok=True)
        write_text_atomically(self.file(spec), json.dumps(found))
        shutil.rmtree(run)
        shutil.rmtree(policy)
        print(
            f"{spec}: {found['outcome']}, accuracy {found['accuracy']['mean']:.2f}, teaches "
            f"{found['teaches']['mean']:.2f}, slope {found['best_of_slope']['mean']:.2f}, gold {found['gold']:.3f}; "
            f"{found['seconds']}",
            flush=True,
        )

    def fitted(self, spec: Spec) -> Path:
        """The reward run."""
        items: list[Item] = self.world.items[f"half {spec.half}"]
        own = sorted(items, key=lambda item: unit_hash("draw", spec.name, item.id))[: spec.pairs]
        changes = (
            f"run.seed={spec.number}",
            "data.heldout_share=0.2",
            f"lora.r={spec.rank}",
            f"lora.alpha={2 * spec.rank}",
            f"train.epochs={spec.epochs}",
        )
        return self.world.reward(spec.name.replace(" ", "-"), labeller_of(spec), own, changes, salt=spec.name)

    def trained(self, spec: Spec, reward: Path) -> Path:
        """The PPO run."""
        values = [
            *COMMON,
            *TRAINING,
            *self.changes,
            f"run.dir={self.world.scratch}",
            f"run.seed={spec.number}",
            f"model.start={self.folder / 'sft'}",
            f"model.reward={reward}",
        ]
        return train_ppo(load_config(PpoConfig, CONFIGS / "ppo.yaml", values)[0], resume=False).path

    def scored(self, run: Path) -> list[list[float]]:
        """(POOL, ANSWERS) scores of the pool."""
        pool = [[Sampled(**answer) for answer in each] for each in self.start()["pool"]]
        roles = open_runs({"reward": run})
        prompts = [prompt.prompt for prompt in pool_prompts() for _ in range(ANSWERS)]
        answers = [answer for each in pool for answer in each]
        scores = RoleScore(roles, ["reward"], 128)(
            prompts, [a.text for a in answers], [a.ended for a in answers], [a.ids for a in answers]
        )
        rows: list[list[float]] = scores.round(4).reshape(-1, ANSWERS).tolist()
        return rows


def pool_prompts() -> list[Prompt]:
    """The prompts of the pool."""
    return read_prompts(resolve_data("tiny:prompts_heldout"))[:POOL]


def sampled(run: Path, prompts: Sequence[Prompt], each: int, *, seed: int) -> list[list[Sampled]]:
    """Answers of a run to each prompt."""
    roles = open_runs({"policy": run})
    return RolePolicy(roles, "policy", None, Sampling(each, 1.0, 64, 256, seed)).sample(prompts)


def golds(prompts: Sequence[Prompt], answers: Sequence[Sequence[Sampled]]) -> list[list[float]]:
    """Gold reward of each answer to each prompt."""
    return [
        [gold_of(prompt.prompt, answer.text, answer.ended).total for answer in each]
        for prompt, each in zip(prompts, answers, strict=True)
    ]


def gold_of_run(run: Path) -> dict[str, float]:
    """Mean gold reward of two answers to each of the 400 held-out prompts, the same draws for every run."""
    prompts = read_prompts(resolve_data("tiny:prompts_heldout"))
    means = np.array(golds(prompts, sampled(run, prompts, 2, seed=3))).mean(axis=1)
    return {"gold": float(means.mean()), "gold_error": float(means.std(ddof=1)) / math.sqrt(len(means))}
