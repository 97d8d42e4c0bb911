"""Question: what does classification with a very small real base reach on people's texts, beside the simplest methods?

A head and a verbalizer for every file, base and seed, each seed with its own split by groups of near duplicates; macro
F1 with an interval over groups, next to the majority, TF-IDF with logistic regression, and the untuned base without and
with examples. Controls: labels shuffled; and the same baseline with a split of the rows at random, to see what near
duplicates on both sides are worth.

    python -m benchmarks.classify_real --bases BASE … --texts FILE … [--seeds 0 1 2] [--most 2000]
"""

import argparse
import gc
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from sklearn.metrics import f1_score

from benchmarks.record import RESULTS, write_result
from sft.classify.baselines import tfidf_logistic
from sft.classify.config import ClassifyConfig, TextSection
from sft.classify.split import flags_of, load_split
from sft.classify.train import train
from workbench.data.hashing import unit_hash
from workbench.data.labelled import Columns, read_labelled
from workbench.data.readers import write_records
from workbench.data.records import LabelledText
from workbench.evaluate.classification import ClassifierEvaluation
from workbench.evaluate.evaluation import read_evaluation
from workbench.run.config import load_config
from workbench.run.folder import RunFolder

OUT = RESULTS / "classify_real.json"
CONFIG = Path("configs/tiny/classify.yaml")
COMMON = ("tracking.wandb=disabled", "run.threads=1", "checkpoint.every=0", "data.heldout_share=0.4")
ASKED = {"head": ("verbalizer.shots=0",), "verbalizer": ("verbalizer.shots=4",)}
"""Overrides of each method: the untuned base is measured with examples once."""
SHOWN = ("data.max_length", "train.epochs", "train.batch_size", "train.lr", "verbalizer.shots", "verbalizer.prompt")
"""Settings of the runs that the result names."""
COPIES = 3
"""Near copies of each text in the set that shows the leak."""


def main(argv: list[str] | None = None) -> None:
    """Train on every file and write what is measured; finished runs are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="+", required=True, help="the first one also gets the control")
    parser.add_argument("--texts", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--most", type=int, default=2000, help="texts of a file, drawn by the hash of the text")
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=value", help="overrides of every run")
    parser.add_argument("--finished", action="store_true", help="train nothing: write what the finished runs say")
    parser.add_argument("--runs", type=Path, default=Path("runs/classify_real"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    files = {source.stem: drawn(source, arguments.most, arguments.runs) for source in arguments.texts}
    found: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in files}
    for base, seed, name, method in product(arguments.bases, arguments.seeds, files, ASKED):
        evaluation = classified(arguments, files[name], base, seed, method)
        if evaluation is not None:
            collect(found[name], base, evaluation)
    first = arguments.bases[0]
    for name, file in files.items():
        control = classified(arguments, file, first, arguments.seeds[0], "head", shuffled=True)
        if control is not None:
            found[name][f"{named(first)}, head, shuffled labels"] = [numbers(control, "head")]
    leaks = {
        name: {
            "as found, all texts": leak(source, arguments.seeds),
            f"with {COPIES} near copies of each text": leak(copied(file), arguments.seeds),
        }
        for source, (name, file) in zip(arguments.texts, files.items(), strict=True)
    }
    sets = {name: {method: summary(rows) for method, rows in own.items()} for name, own in found.items()}
    write_result(arguments.out, sets | {"leak_of_a_random_split": leaks, "settings": settings(arguments)})


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the runs have in common."""
    used: dict[str, dict[str, Any]] = {}
    for base, method in product(arguments.bases, ASKED):
        folder = arguments.runs / f"{arguments.texts[0].stem}-{named(base)}-{method}-{arguments.seeds[0]}"
        config = OmegaConf.load(RunFolder(folder).config_path)
        used[f"{named(base)}, {method}"] = {name: OmegaConf.select(config, name) for name in SHOWN}
    return {"seeds": arguments.seeds, "texts_at_most": arguments.most, "runs": used}


def named(base: str) -> str:
    """The name of a base without its folder."""
    return Path(base).name


def drawn(source: Path, most: int, folder: Path) -> Path:
    """A file with at most `most` of the texts."""
    records = read_labelled(source, Columns()).records
    chosen = sorted(records, key=lambda record: unit_hash("drawn", record.text))[:most]
    return written(folder / f"{source.stem}.jsonl", chosen)


def written(path: Path, records: Sequence[LabelledText]) -> Path:
    """The records as a file with one label per text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, [{"text": record.text, "label": record.labels[0]} for record in records])
    return path


def classified(
    arguments: argparse.Namespace, file: Path, base: str, seed: int, method: str, *, shuffled: bool = False
) -> ClassifierEvaluation | None:
    """Train one classifier, unless that was done before; returns its evaluation, None if there is none."""
    folder = arguments.runs / f"{file.stem}-{named(base)}-{method}-{seed}{'-shuffled' * shuffled}"
    overrides = (
        *(f"run.dir={folder}", f"run.seed={seed}", f"model.base={base}", f"data.train={file}", f"method={method}"),
        *(f"data.shuffle_labels={str(shuffled).lower()}", *COMMON, *ASKED[method], *arguments.set),
    )
    if not (folder / "run.json").is_file() or not RunFolder(folder).finished:
        if arguments.finished:
            return None
        config, _ = load_config(ClassifyConfig, CONFIG, [*overrides, "run.overwrite=true"])
        train(config, resume=False)
        gc.collect()
    found = read_evaluation(folder).classifier
    assert found is not None
    return found


def collect(found: dict[str, list[dict[str, Any]]], base: str, evaluation: ClassifierEvaluation) -> None:
    """Add the numbers of each method; the baselines without a base are the same in every run of a seed."""
    for name in evaluation.methods:
        general = name in ("majority", "tfidf_logistic")
        rows = found.setdefault(name if general else f"{named(base)}, {name}", [])
        new = numbers(evaluation, name)
        if new not in rows:
            rows.append(new)


def numbers(evaluation: ClassifierEvaluation, name: str) -> dict[str, Any]:
    """The main numbers of a method in one run."""
    scores = evaluation.methods[name]
    f1 = scores.macro_f1
    return {
        "macro_f1": f1.mean,
        "macro_f1_ci": [f1.low, f1.high],
        "accuracy": scores.accuracy.mean,
        "ece": scores.ece,
        "texts": evaluation.texts,
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds; the interval has the mean ends of the seeds' intervals, so it is that of one held-out set."""
    ends = np.mean([row["macro_f1_ci"] for row in rows], axis=0)
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("macro_f1", "accuracy", "ece")}
    return means | {"macro_f1_ci": ends.tolist(), "seeds": list(rows)}


def copied(file: Path) -> Path:
    """A file in which each text occurs `COPIES` times, with small edits."""
    records = read_labelled(file, Columns()).records
    edits = ("{}", "{} !", "RT {}")
    rows = [record.model_copy(update={"text": edit.format(record.text)}) for record in records for edit in edits]
    return written(file.with_name(f"{file.stem}-copies.jsonl"), rows)


def leak(file: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Macro F1 of TF-IDF with logistic regression on a split of the rows at random and on one by groups."""
    section = TextSection(train=str(file), heldout_share=0.4)
    by_rows, by_groups, shares = [], [], []
    for seed in seeds:
        split = load_split(file, None, section, seed=seed)
        shares.append(split.random_leak)
        by_groups.append(baseline(split.train, split.heldout, split.labels))
        records = read_labelled(file, Columns()).records
        out = [unit_hash("row", seed, index) < section.heldout_share for index in range(len(records))]
        sides = [[record for record, held in zip(records, out, strict=True) if held == side] for side in (False, True)]
        by_rows.append(baseline(sides[0], sides[1], split.labels))
    return {
        "share_of_heldout_texts_with_a_near_duplicate_in_training": float(np.mean(shares)),
        "macro_f1_split_by_rows": float(np.mean(by_rows)),
        "macro_f1_split_by_groups": float(np.mean(by_groups)),
        "seeds": {"by_rows": by_rows, "by_groups": by_groups},
    }


def baseline(learned: Sequence[LabelledText], held: Sequence[LabelledText], labels: Sequence[str]) -> float:
    """Macro F1 of TF-IDF with logistic regression."""
    truth = flags_of(learned, labels)
    texts = ([record.text for record in learned], [record.text for record in held])
    table = tfidf_logistic(texts[0], truth, texts[1], multi_label=False)
    right = flags_of(held, labels).argmax(axis=1)
    return float(f1_score(right, table.argmax(axis=1), average="macro"))


if __name__ == "__main__":
    main()
