"""Small reward fits on labels of simulated annotators, judged by the truth: what the benchmarks of labels share.

A fit is kept in its folder and not made again; a benchmark that was stopped goes on where it was.
"""

import functools
import gc
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from annotate.config import ExportSection, PairsSection, QueueSection
from annotate.intake.items import load_items
from annotate.labels.export import preferences
from annotate.labels.resolve import Mode
from annotate.queue.rules import Queue
from annotate.sampling.pairs import make_pairs, sampler_of_run
from annotate.simulate import simulate
from annotate.store.database import Store
from reward.config import RewardConfig
from reward.train import train
from reward.verbs.acquire import Pair, pairs_of
from workbench.data.embedded import resolve_data
from workbench.data.readers import read_items, read_prompts, write_records
from workbench.data.records import Item, Preference, content_id
from workbench.evaluate.metrics import correctness
from workbench.evaluate.role_models import RoleScore
from workbench.evaluate.statistics import Floats, bootstrap_interval
from workbench.model.open import open_runs
from workbench.run.config import load_config
from workbench.run.folder import RunFolder
from workbench.tiny.annotators import SimulatedAnnotator
from workbench.tiny.gold import gold_reward

CONFIG = Path("configs/tiny/reward.yaml")
SHORT_OVERRIDES = ("normalise.answers=64", "tracking.wandb=disabled", "run.threads=1", "passport.at_end=false")
"""What all fits have in common beside the shipped configuration: the scale of the scores decides nothing here."""


def split_items(path: Path, *, heldout: int) -> tuple[list[Item], list[Item]]:
    """Items to label, and about `heldout` items of other prompts."""
    items = read_items(path)
    groups = list(dict.fromkeys(item.group for item in items))
    kept: set[str] = set()
    count = 0
    for group in reversed(groups):
        if count >= heldout:
            break
        kept.add(group)
        count += sum(item.group == group for item in items)
    return [item for item in items if item.group not in kept], [item for item in items if item.group in kept]


def labelled(
    items: Sequence[Item],
    annotators: Sequence[SimulatedAnnotator],
    folder: Path,
    *,
    overlap: int,
    share: float = 1.0,
    mode: Mode,
    seed: int,
) -> list[Preference]:
    """Preferences of simulated annotators through the label store, ties kept.

    Args:
        items: what is compared.
        annotators: who judges.
        folder: of the store.
        overlap: judgements of each of a share of the items; one of the others.
        share: of the items.
        mode: how judgements become one label.
        seed: of the annotators.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"labels-{seed}-{overlap}.sqlite"
    store = Store.open(path, durable=False)
    load_items(store, items, QueueSection(overlap=overlap, overlap_share=share))
    queue = Queue(store, QueueSection(lease_seconds=600, seed=seed))
    simulate(store, queue, annotators=annotators, number=0, seed=seed)
    section = ExportSection(resolve=mode, drop_ties=False, heldout_share=0.0, edits=False)
    records = preferences(store, section).preferences
    store.close()
    return [record.model_copy(update={"split": None}) for record in records]


def sampled_items(start: Path, out: Path, *, first: int, prompts: int, seed: int) -> list[Item]:
    """Pairs of three answers of a run to prompts of the embedded default, as the demo makes them."""
    if not out.is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        chosen = read_prompts(resolve_data("tiny:prompts"))[first : first + prompts]
        section = PairsSection(run=str(start), responses_per_prompt=3, max_new_tokens=64, batch_size=256, seed=seed)
        make_pairs(chosen, out, section, sampler_of_run(str(start)))
    return read_items(out)


def fitted(
    folder: Path,
    start: Path,
    records: Sequence[Preference],
    heldout: Path,
    *,
    seed: int,
    loss: str = "ordinal",
    overrides: Sequence[str] = (),
) -> Path:
    """The folder of a fit on these records."""
    if (folder / "run.json").is_file() and RunFolder(folder).finished:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    data = folder.with_suffix(".jsonl")
    if not data.is_file():
        write_records(data, records)
    values = {
        "run.dir": folder,
        "run.seed": seed,
        "model.start": start,
        "data.train": data,
        "data.heldout": heldout,
        "loss.kind": loss,
    }
    words = [*SHORT_OVERRIDES, *(f"{key}={value}" for key, value in values.items()), *overrides]
    config, _ = load_config(RewardConfig, CONFIG, words)
    train(config, resume=(folder / "run.json").is_file())
    gc.collect()
    return folder


@dataclass(frozen=True)
class Truth:
    """Held-out pairs of answers, as the truth orders them."""

    items: Sequence[Item]

    @functools.cached_property
    def pairs(self) -> list[Pair]:
        """(N,) the two answers of each item."""
        return list(pairs_of(self.items))

    @functools.cached_property
    def signs(self) -> Floats:
        """(N,) −1 the first is better, 0 neither, 1 the second."""
        found = []
        for pair in self.pairs:
            sides = zip((pair.first, pair.second), pair.ended, strict=True)
            first, second = (gold_reward(pair.prompt, text, ended=ended) for text, ended in sides)
            assert first is not None
            assert second is not None
            apart = second.total - first.total
            found.append(0.0 if abs(apart) <= 1e-9 else float(np.sign(apart)))
        return np.array(found)

    @functools.cached_property
    def groups(self) -> list[str]:
        """(N,) prompts."""
        by_id = {item.id: item.group for item in self.items}
        return [by_id[pair.id] for pair in self.pairs]

    def gaps(self, run: Path) -> Floats:
        """(N,) a fit's score of the second answer less that of the first; kept beside the fit."""
        mark = content_id([[pair.id, pair.first, pair.second] for pair in self.pairs])
        kept = run / f"heldout_gaps-{mark}.npy"
        if not kept.is_file():
            roles = open_runs({"reward": run})
            texts = [pair.first for pair in self.pairs] + [pair.second for pair in self.pairs]
            ended = [pair.ended[0] for pair in self.pairs] + [pair.ended[1] for pair in self.pairs]
            scores = RoleScore(roles, ("reward",), 128)([pair.prompt for pair in self.pairs] * 2, texts, ended)
            np.save(kept, scores[len(self.pairs) :] - scores[: len(self.pairs)])
        gaps: Floats = np.load(kept)
        return gaps

    def right(self, run: Path) -> tuple[Floats, list[str]]:
        """(M,) whether a fit orders two answers as the truth does, and their prompts; pairs of equal truth left out."""
        decided = self.signs != 0
        groups = [group for group, kept in zip(self.groups, decided, strict=True) if kept]
        return correctness((self.gaps(run) * self.signs)[decided]), groups


def difference(ours: Mapping[Any, Floats], theirs: Mapping[Any, Floats], groups: Sequence[str]) -> dict[str, Any]:
    """By how much one way is right more often than another, both measured on the same pairs with the same seeds.

    `prompts_95`: bootstrap over prompts of the mean over seeds. `seeds_95`: Student's interval over seeds.
    """
    seeds = sorted(ours)
    apart = np.stack([ours[seed] - theirs[seed] for seed in seeds])
    by_seed = apart.mean(axis=1).tolist()
    estimate = bootstrap_interval(apart.mean(axis=0), list(groups), seed=0)
    found: dict[str, Any] = {
        "mean": estimate.mean,
        "by_seed": by_seed,
        "prompts_95": [estimate.low, estimate.high],
        "pairs": estimate.count,
    }
    if len(seeds) > 1:
        half = stats.t.ppf(0.975, len(seeds) - 1) * statistics.stdev(by_seed) / len(seeds) ** 0.5
        found["seeds_95"] = [estimate.mean - half, estimate.mean + half]
    return found
