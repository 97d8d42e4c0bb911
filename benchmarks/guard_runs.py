"""The runs of benchmarks.guard: their labels, reward models and training, with the gold reward of what is observed.

Labels are of pairs that the supervised model sampled. A labeller is the gold reward with noise, or has one of nine
faults. Each part of the runs learns from other pairs, with other seeds.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import workbench.model  # noqa: F401  before trl imports peft
from annotate.config import PairsSection
from annotate.sampling.pairs import make_pairs, sampler_of_run
from ppo.config import ContrastiveConfig, PpoConfig
from ppo.contrastive.train import train as train_contrastive
from ppo.guard.answers import AnswerGuard
from ppo.guard.rollouts import RolloutGuard
from ppo.train import train as train_ppo
from reward.config import RewardConfig
from reward.train import train as train_reward
from sft.config import SftConfig
from sft.train import train as train_sft
from workbench.data.embedded import resolve_data
from workbench.data.hashing import unit_hash
from workbench.data.readers import read_items, read_prompts, write_records
from workbench.data.records import Item, Message, Preference
from workbench.run.checkpoints import write_text_atomically
from workbench.run.config import load_config
from workbench.tiny.gold import Gold, gold_reward
from workbench.tiny.phrases import CLOSINGS, GREETINGS

CONFIGS = Path("configs/tiny")
COMMON = ("run.threads=1", "tracking.wandb=disabled", "run.overwrite=true")
ITEMS = {"part 0": (0, 700), "part 1": (2400, 3100), "part 2": (3100, 3800), "judge": (1200, 2400)}
"""Prompts whose pairs are labelled, by who learns from them: first and last + 1 in the file of prompts."""
LABELS = 600
"""Pairs that a reward model or DPO learns from."""
TAU = 0.15
"""Scale of the logistic noise on the difference of gold rewards in sound labels."""
PPO = (
    "model.force=true",
    "train.advantage=rloo",
    "train.ppo_epochs=1",
    "train.target_kl=0.0",  # only benchmarks.guard bounds the moves of its runs
    "train.value_only_iterations=0",
    "rollout.batch_size=64",
    "rollout.micro_batch_size=64",
    "rollout.responses_per_prompt=2",
    "evaluation.every=0",
    "evaluation.prompts=2",
    "checkpoint.every=0",
    "train.iterations=18",
)
DPO = (
    "checkpoint.every=0",
    "evaluation.every=2",
    "evaluation.prompts=64",
    "data.heldout_share=0.12",
    "data.limit=0",
    "loss.label_smoothing=0.0",
    "train.max_steps=38",
)
FREE = ("reward.kl_coef=0.0", "reward.score_clip=0.0", "train.lr=0.003")
"""PPO without a KL penalty."""


@dataclass(frozen=True)
class Spec:
    """One kind of run."""

    name: str
    labels: str
    """A key of `LABELLERS`."""
    method: str
    set: tuple[str, ...]
    pairs: int = LABELS
    reward: tuple[str, ...] = ()
    """Values of its reward run."""
    faulty: bool = True
    """Whether the labels have a fault."""


@dataclass(frozen=True)
class Pair:
    """A labelled pair as a labeller sees it."""

    prompt: str
    texts: tuple[str, str]
    golds: tuple[Gold, Gold]
    draws: tuple[float, ...]
    """Uniform in (0, 1), from hashes of the pair: for noise, for a turned label, and for whose label it is."""


Labeller = Callable[[Pair], float]
"""Advantage of the first answer; 0 leaves the pair out."""


def sound(pair: Pair) -> float:
    """The gold reward with logistic noise."""
    draw = pair.draws[0]
    return pair.golds[0].total - pair.golds[1].total + TAU * float(np.log(draw / (1 - draw)))


def words(text: str) -> list[str]:
    """Lower-case words."""
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def count_of(counted: Callable[[str, str], float]) -> Labeller:
    """Prefer the answer with more of something: (prompt, answer) → count."""
    return lambda pair: counted(pair.prompt, pair.texts[0]) - counted(pair.prompt, pair.texts[1])


def flipped(part: str) -> Labeller:
    """Prefer the answer that is worse in one part of the gold reward."""
    return lambda pair: getattr(pair.golds[1], part) - getattr(pair.golds[0], part)


LABELLERS: dict[str, Labeller] = {
    "sound": sound,
    "length": count_of(lambda prompt, text: len(text)),
    "courtesy": count_of(lambda prompt, text: sum(text.count(phrase) for phrase in (*GREETINGS, *CLOSINGS))),
    "one word": count_of(lambda prompt, text: words(text).count("you")),
    "sycophancy": count_of(lambda prompt, text: sum(word in words(prompt) for word in words(text))),
    "noise": lambda pair: sound(pair) * (-1 if pair.draws[1] < 0.4 else 1),
    "flipped courtesy": flipped("courtesy"),
    "flipped facts": flipped("facts"),
    "brevity": count_of(lambda prompt, text: -len(text)),
    "capitals": count_of(lambda prompt, text: sum(letter.isupper() for letter in text)),
}

SPECS = (
    Spec("sound ppo", "sound", "ppo", ("reward.kl_coef=0.05", "train.lr=0.002"), faulty=False),
    Spec("length ppo", "length", "ppo", FREE),
    Spec("length dpo", "length", "dpo", ("loss.beta=0.05", "train.lr=0.002")),
    Spec("sound dpo", "sound", "dpo", ("loss.beta=0.1", "train.lr=0.002"), faulty=False),
    Spec("one word ppo", "one word", "ppo", FREE),
    Spec("sound ppo, no KL", "sound", "ppo", (*FREE, "train.lr=0.005"), faulty=False),
    Spec("one word dpo", "one word", "dpo", ("loss.beta=0.05", "train.lr=0.002")),
    Spec("sycophancy ppo", "sycophancy", "ppo", FREE),
    Spec("sound ppo, more KL", "sound", "ppo", ("reward.kl_coef=0.1", "train.lr=0.0025"), faulty=False),
    Spec("flipped courtesy ppo", "flipped courtesy", "ppo", FREE),
    Spec("sound dpo, more KL", "sound", "dpo", ("loss.beta=0.3", "train.lr=0.002"), faulty=False),
    Spec("flipped courtesy dpo", "flipped courtesy", "dpo", ("loss.beta=0.05", "train.lr=0.001")),
    Spec("flipped facts ppo", "flipped facts", "ppo", FREE),
    Spec(
        "300 pairs ppo",
        "sound",
        "ppo",
        (*FREE, "train.lr=0.008"),
        pairs=300,
        reward=("train.epochs=4.0",),
        faulty=False,
    ),
    Spec("brevity ppo", "brevity", "ppo", FREE),
    Spec("sound ppo, slower", "sound", "ppo", ("reward.kl_coef=0.05", "train.lr=0.0012"), faulty=False),
    Spec("brevity dpo", "brevity", "dpo", ("loss.beta=0.05", "train.lr=0.002")),
    Spec("capitals ppo", "capitals", "ppo", FREE),
    Spec("sound ipo", "sound", "ipo", ("loss.beta=0.5", "train.lr=0.002"), faulty=False),
    Spec("courtesy ppo", "courtesy", "ppo", (*FREE, "train.lr=0.008")),
    Spec("sound ppo, no KL, faster", "sound", "ppo", (*FREE, "train.lr=0.012"), faulty=False),
    Spec("noise dpo", "noise", "dpo", ("loss.beta=0.01", "train.lr=0.006")),
    Spec("noise ppo", "noise", "ppo", (*FREE, "train.lr=0.008")),
)
"""In an order that mixes runs on sound and on faulty labels. 300 pairs and no KL penalty are no fault: on sound labels,
most such runs gain, even at a learning rate of 0.012; a few collapse."""
NULL = Spec("null", "sound", "ppo", ("train.lr=1e-12",), faulty=False)
"""Learns nothing: what chance does to the gold reward of each iteration."""
PARTS = {0: 0, 1: 1, 2: 1001}
"""Part of the runs → its first seed."""


@dataclass(frozen=True)
class World:
    """What all runs share: the start run, pairs of its answers, and the judges."""

    folder: Path
    items: dict[str, list[Item]]
    """By who learns from them."""
    changes: tuple[str, ...] = ()
    """Values of every PPO run, in place of `PPO` and of its kind's."""

    @classmethod
    def make(cls, folder: Path, spans: Mapping[str, tuple[int, int]] = ITEMS, changes: Sequence[str] = ()) -> "World":
        """The world of a folder; what is there is not made again.

        Args:
            folder: where everything is kept.
            spans: who learns from the labels → first and last + 1 in the file of prompts. Without `judge`, no run can
                have a guard.
            changes: values of every PPO run.
        """
        folder.mkdir(parents=True, exist_ok=True)
        items: dict[str, list[Item]] = {}
        world = cls(folder, items, tuple(changes))
        sft, prompts = world.supervised(), read_prompts(resolve_data("tiny:prompts"))
        for name, (first, end) in spans.items():
            file = folder / f"items of {name}.jsonl"
            if not file.is_file():
                section = PairsSection(run=str(sft), max_new_tokens=64, batch_size=256, seed=1)
                make_pairs(prompts[first:end], file, section, sampler_of_run(str(sft)))
            items[name] = [item for item in read_items(file) if all(answer.text for answer in item.responses)]
        if "judge" in spans:
            world.reward("judge", sound, items["judge"], ("ensemble.members=2",))
        return world

    @property
    def scratch(self) -> Path:
        """A run folder that is used again and again; each process has its own, so two can add runs to one world."""
        return self.folder / f"run-{os.getpid()}"

    def supervised(self, seed: int = 0) -> Path:
        """A supervised run with a seed of its own; 0 is the start of all policies."""
        run = self.folder / ("sft" if seed == 0 else f"sft-{seed}")
        if not (run / "run.json").is_file():
            values = (f"run.dir={run}", f"run.seed={seed}", *COMMON)
            train_sft(load_config(SftConfig, CONFIGS / "sft.yaml", values)[0], resume=False)
        return run

    def labels(self, name: str, labeller: Labeller, items: Sequence[Item], salt: str = "") -> Path:
        """A file of preferences."""
        file = self.folder / f"{name}.jsonl"
        if not file.is_file():
            write_records(file, [record for item in items if (record := preference(item, labeller, salt)) is not None])
        return file

    def reward(
        self, name: str, labeller: Labeller, items: Sequence[Item], changes: Sequence[str], salt: str = ""
    ) -> Path:
        """A finished reward run."""
        run, labels = self.folder / "rewards" / name, self.labels(name, labeller, items, salt)
        if not (run / "run.json").is_file() or json.loads((run / "run.json").read_text())["status"] != "finished":
            values = (
                *COMMON,
                f"run.dir={run}",
                f"model.start={self.folder / 'sft'}",
                f"data.train={labels}",
                "passport.at_end=false",
                "normalise.answers=256",
                "checkpoint.every=0",
                *changes,
            )
            train_reward(load_config(RewardConfig, CONFIGS / "reward.yaml", values)[0], resume=False)
        return run

    def own_items(self, spec: Spec, part: int, seed: int) -> tuple[list[Item], str]:
        """The pairs that a run learns from, and a name for their labels and reward model.

        Of each part's items, a run of another seed learns from other ones, as far as there are enough.
        """
        order = sorted(self.items[f"part {part}"], key=lambda item: unit_hash("draw", str(seed % 2), item.id))
        name = f"{spec.labels} {spec.pairs} {len(spec.reward)} part {part} {seed % 2}".replace(" ", "-")
        return order[: spec.pairs], name

    def trained(self, spec: Spec, part: int, seed: int) -> Path:
        """The observations of one run, with the gold reward."""
        file = self.folder / "observed" / f"{spec.name}, part {part}, seed {seed}.json"
        if file.is_file():
            return file
        began = time.monotonic()
        own, name = self.own_items(spec, part, seed)
        if spec.method == "ppo":
            changes = (f"run.seed={PARTS[part] + 2 * (seed % 2)}", *spec.reward)
            reward = self.reward(name, LABELLERS[spec.labels], own, changes)
            values = (*PPO, f"model.reward={reward}", *spec.set, *self.changes)
        else:
            labels = self.labels(name, LABELLERS[spec.labels], own)
            values = (*DPO, f"data.train={labels}", "train.epochs=1.5", "train.batch_size=16", *spec.set)
        rows = self.observed(spec.method, 2 * seed + PARTS[part], values)
        found = {"spec": spec.name, "part": part, "seed": seed, "rows": rows}
        found |= {"cause": spec.labels, "method": spec.method, "seconds": round(time.monotonic() - began, 1)}
        write_text_atomically(file, json.dumps(found))
        print(f"{file.name}: {found['seconds']} s, gold {rows[0]['gold']:.2f} → {rows[-1]['gold']:.2f}", flush=True)
        return file

    def observed(self, method: str, seed: int, values: Sequence[str]) -> list[dict[str, Any]]:
        """Train from the supervised run; returns what a guard that only speaks observes, with the gold reward."""
        values = [
            *COMMON,
            f"run.dir={self.scratch}",
            f"run.seed={seed}",
            f"model.start={self.supervised()}",
            f"guard.judge={self.folder / 'rewards' / 'judge'}",
            "guard.act=say",
            *values,
        ]
        golds: dict[int, list[float]] = {}
        with gold_noted(golds):
            if method == "ppo":
                run = train_ppo(load_config(PpoConfig, CONFIGS / "ppo.yaml", values)[0], resume=False)
            else:
                dpo, _ = load_config(ContrastiveConfig, CONFIGS / "dpo.yaml", [*values, f"method={method}"])
                run = train_contrastive(dpo, resume=False)
        return [{**row, "gold": float(np.mean(golds[row["step"]]))} for row in run.read_guard()]


def preference(item: Item, labeller: Labeller, salt: str = "") -> Preference | None:
    """The item as labelled; None if the labeller sees no difference. Each salt has draws of its own."""
    first, second = item.responses
    golds = tuple(gold_of(item.prompt, answer.text, answer.ended) for answer in item.responses)
    names = (f"noise{salt}", f"flip{salt}", f"whose{salt}")
    draws = tuple(min(max(unit_hash(name, item.id), 1e-9), 1 - 1e-9) for name in names)
    pair = Pair(item.prompt[-1].content, (first.text, second.text), golds, draws)  # type: ignore[arg-type]
    advantage = labeller(pair)
    if abs(advantage) < 1e-9:
        return None
    chosen, rejected = (first, second) if advantage > 0 else (second, first)
    return Preference(
        id=item.id,
        group=item.group,
        prompt=item.prompt,
        chosen=(Message(role="assistant", content=chosen.text),),
        rejected=(Message(role="assistant", content=rejected.text),),
    )


def gold_of(prompt: Sequence[Message], response: str, ended: bool) -> Gold:
    """The gold reward of an answer to a prompt of the grammar."""
    found = gold_reward(prompt, response, ended)
    assert found is not None
    return found


@contextmanager
def gold_noted(golds: dict[int, list[float]]) -> Iterator[None]:
    """In the body, the gold reward of every observed answer is noted by step."""
    of_rollouts, of_answers = RolloutGuard._see, AnswerGuard.see

    def see_rollout(self: Any, rollout: Any, iteration: int) -> Any:
        answers = zip(rollout.prompts.records, rollout.texts(self.run.roles), rollout.ended.tolist(), strict=True)
        golds[iteration] = [gold_of(prompt.prompt, text, ended).total for prompt, text, ended in answers]
        return of_rollouts(self, rollout, iteration)

    def see_answers(self: Any, answers: Any, step: int) -> Any:
        messages = [[Message.model_validate(message) for message in answer.prompt] for answer in answers]
        golds[step] = [gold_of(m, a.response, a.ended).total for m, a in zip(messages, answers, strict=True)]
        return of_answers(self, answers, step)

    RolloutGuard._see, AnswerGuard.see = see_rollout, see_answers  # type: ignore[method-assign]
    try:
        yield
    finally:
        RolloutGuard._see, AnswerGuard.see = of_rollouts, of_answers  # type: ignore[method-assign]
