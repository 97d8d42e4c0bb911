"""Question: what does a reward model of a very small real base learn from people's preferences about real answers?

A supervised run on instructions, then a reward model on each file of pairs, for every seed with its own split by
prompt; accuracy on the pairs held out, with an interval over prompts, beside the judge who always prefers the longer
answer. Small bases learn little of this: what is shown is that the phase runs to its end on such files, and how far it
is from chance.

    python -m benchmarks.reward_real BASE INSTRUCTIONS PAIRS … [--seeds 0 1 2]
"""

import argparse
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.record import RESULTS, write_result
from reward.config import RewardConfig
from reward.evaluate import score_pairs
from reward.train import train as fit_reward
from sft.config import SftConfig
from sft.train import train as fit_sft
from workbench.data.batching import encode_pairs
from workbench.evaluate.heldout_pairs import own_heldout_pairs
from workbench.evaluate.metrics import correctness, words
from workbench.evaluate.statistics import bootstrap_interval
from workbench.model.open import open_runs
from workbench.run.config import load_config
from workbench.run.folder import RunFolder

OUT = RESULTS / "reward_real.json"
CONFIGS = Path("configs/tiny")
Judged = pd.DataFrame
"""A row a held-out pair: `accuracy`, `longer_wins` (0, ½ or 1), their `difference`, and `group`, the prompt."""
COMMON = ("tracking.wandb=disabled", "run.threads=1")


def main(argv: list[str] | None = None) -> None:
    """Fit on every file and write what is measured; finished runs are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("instructions", type=Path)
    parser.add_argument("pairs", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max-length", type=int, default=512, help="tokens; longer pairs have their prompt cut")
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=value", help="overrides of both phases")
    parser.add_argument("--runs", type=Path, default=Path("runs/reward_real"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    start = supervised(arguments)
    found: dict[str, dict[str, Any]] = {}
    for file in arguments.pairs:
        parts: list[Judged] = []
        of_file = found.setdefault(file.stem, {})
        for seed in arguments.seeds:
            run = fitted(arguments, start, file, seed)
            parts.append(judged(run, arguments.max_length))
            of_file[str(seed)] = intervals(parts[-1]) | {"pairs": run.record()["pairs"]}
            print(file.stem, seed, of_file[str(seed)], flush=True)
        of_file["all seeds"] = intervals(pd.concat(parts))
    write_result(arguments.out, {"base": arguments.base.name, "max_length": arguments.max_length, "files": found})


def supervised(arguments: argparse.Namespace) -> Path:
    """The run that the reward models start from."""
    folder = Path(arguments.runs) / "sft"
    values = [f"run.dir={folder}", f"model.base={arguments.base}", f"data.train={arguments.instructions}"]
    values += ["data.validation=null", "data.validation_share=0.2", f"data.max_length={arguments.max_length}"]
    config, _ = load_config(SftConfig, CONFIGS / "sft.yaml", [*values, *COMMON, *arguments.set])
    if not ((folder / "run.json").is_file() and RunFolder(folder).finished):
        fit_sft(config, resume=(folder / "run.json").is_file())
        gc.collect()
    return folder


def fitted(arguments: argparse.Namespace, start: Path, file: Path, seed: int) -> RunFolder:
    """A reward model on a file; a fifth of its prompts is held out."""
    folder = Path(arguments.runs) / f"{file.stem}-{seed}"
    values = [f"run.dir={folder}", f"run.seed={seed}", f"model.start={start}", f"data.train={file}"]
    values += ["data.heldout_share=0.2", f"data.max_length={arguments.max_length}", "data.truncate_prompt=true"]
    values += ["normalise.answers=64", "normalise.max_new_tokens=32", "passport.at_end=false"]
    config, _ = load_config(RewardConfig, CONFIGS / "reward.yaml", [*values, *COMMON, *arguments.set])
    if not ((folder / "run.json").is_file() and RunFolder(folder).finished):
        fit_reward(config, resume=(folder / "run.json").is_file())
        gc.collect()
    return RunFolder(folder)


def judged(run: RunFolder, max_length: int) -> Judged:
    """What the model and the longer answer say of the pairs held out; long prompts cut as in the fit."""
    roles = open_runs({"reward": run.path})
    pairs = own_heldout_pairs(run)
    encoded = encode_pairs(roles.tokenizer, pairs, max_length=max_length, source=run.path, truncate_prompt=True)
    kept = [pairs[index] for index in encoded.kept]
    chosen, rejected = score_pairs(roles, "reward", encoded.rows, batch_size=16)
    longer = np.array([float(len(words(pair.chosen_text)) - len(words(pair.rejected_text))) for pair in kept])
    found = pd.DataFrame({"accuracy": correctness((chosen - rejected).numpy()), "longer_wins": correctness(longer)})
    return found.assign(difference=found.accuracy - found.longer_wins, group=[pair.group for pair in kept])


def intervals(found: Judged) -> dict[str, Any]:
    """Means with 95 % intervals by a bootstrap over prompts; a prompt's pairs of several seeds stay together."""
    groups = found.group.tolist()
    columns = {name: found[name].to_numpy() for name in ("accuracy", "longer_wins", "difference")}
    estimates = {name: bootstrap_interval(values, groups, seed=0) for name, values in columns.items()}
    return {name: {"mean": e.mean, "prompts_95": [e.low, e.high], "pairs": e.count} for name, e in estimates.items()}


if __name__ == "__main__":
    main()
