"""Question: does augmentation help a small classifier on people's texts?

A head on each base for every seed, each seed with its own split by groups of near duplicates: without augmentation;
without it and with as many steps (the control); and with one changed copy of each training text. Macro F1 on the
held-out texts, and its difference to the control's in the same split.

    python -m benchmarks.augment --base BASE --texts FILE [--seeds 0 1 2] [--most 800]
"""

import argparse
import gc
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.classify_real import CONFIG, drawn
from benchmarks.record import RESULTS, write_result
from benchmarks.sft_real import interval
from sft.classify.config import ClassifyConfig
from sft.classify.train import train
from workbench.evaluate.evaluation import read_evaluation
from workbench.run.config import load_config
from workbench.run.folder import RunFolder

OUT = RESULTS / "augment.json"
EPOCHS = 3
COMMON = (
    *("tracking.wandb=disabled", "run.threads=1", "checkpoint.every=0", "data.heldout_share=0.4", "method=head"),
    "verbalizer.shots=0",
)
TRANSFORMS = "[typos,casing,punctuation,paraphrase]"
CONTROL = "none, as many steps"
ARMS = {
    CONTROL: (f"train.epochs={2 * EPOCHS}",),
    "none": (f"train.epochs={EPOCHS}",),
    "typos": (f"train.epochs={EPOCHS}", "augment.transforms=[typos]"),
    "all": (f"train.epochs={EPOCHS}", f"augment.transforms={TRANSFORMS}"),
}


def main(argv: list[str] | None = None) -> None:
    """Train every arm with every seed and write what is measured; finished runs are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--most", type=int, default=800, help="texts, drawn by the hash of the text")
    parser.add_argument("--runs", type=Path, default=Path("runs/augment"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    file = drawn(arguments.texts, arguments.most, arguments.runs)
    arms: dict[str, dict[str, Any]] = {}
    for arm, overrides in ARMS.items():
        found = [macro_f1(arguments, file, arm, seed, overrides) for seed in arguments.seeds]
        arms[arm] = {"macro_f1": found, "mean": float(np.mean(found)), "std": float(np.std(found, ddof=1))}
        more = np.subtract(found, arms[CONTROL]["macro_f1"]).tolist()
        arms[arm]["more_than_control"] = {"mean": float(np.mean(more)), "seeds": more, **interval(more)}
    settings = {"base": Path(arguments.base).name, "texts": arguments.texts.stem, "texts_at_most": arguments.most}
    write_result(arguments.out, {"arms": arms, "settings": settings | {"seeds": arguments.seeds, "epochs": EPOCHS}})


def macro_f1(arguments: argparse.Namespace, file: Path, arm: str, seed: int, overrides: tuple[str, ...]) -> float:
    """Train one classifier, unless that was done before; returns macro F1 of the head on the held-out texts."""
    folder = arguments.runs / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"
    if not (folder / "run.json").is_file() or not RunFolder(folder).finished:
        values = (f"run.dir={folder}", f"run.seed={seed}", f"model.base={arguments.base}", f"data.train={file}")
        config, _ = load_config(ClassifyConfig, CONFIG, [*values, *COMMON, *overrides, "run.overwrite=true"])
        train(config, resume=False)
        gc.collect()
    found = read_evaluation(folder).classifier
    assert found is not None
    return float(found.methods["head"].macro_f1.mean)


if __name__ == "__main__":
    main()
