"""Question: what do supervised tuning, each kind of adapter, and replay reach with a small real base on people's texts?

Instructions: each adapter is trained on the same rows of a file of instructions; held-out loss before and after.
Retraining: a run on stories goes on with the instructions, with several shares of replay. Measured: the loss on
held-out instructions, the loss on the held-out stories of the start run, and the perplexity of plain story text.

    python -m benchmarks.sft_real --base BASE --instructions FILE --stories FILE.txt [--seeds 0 1 2]
"""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from scipy.stats import t

from benchmarks.record import RESULTS, write_result
from sft.config import SftConfig
from sft.train import train
from workbench.data.hashing import unit_hash
from workbench.model.adapters import lora_config, start_training_adapter
from workbench.model.base import BaseSpec, load_base, load_tokenizer
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.model.score import response_nll
from workbench.run.command_line import run_main
from workbench.run.config import load_config
from workbench.run.folder import RunFolder

OUT = RESULTS / "sft_real.json"
COMMON = (
    *("tracking.wandb=disabled", "tracking.log_every=1000", "run.threads=1", "checkpoint.every=0", "sample.prompts=0"),
    *("data.max_length=384", "data.validation_share=0.2", "train.batch_size=16", "train.micro_batch_size=16"),
    *("data.bad_rows=skip", "run.overwrite=true"),
)
ADAPTERS = {
    "lora": ("train.lr=2e-3",),
    "rslora": ("train.lr=2e-3", "lora.variant=rslora"),
    "dora": ("train.lr=2e-3", "lora.variant=dora"),
    "lora+ (ratio 4)": ("train.lr=2e-3", "lora.b_lr_ratio=4"),
    "neftune (alpha 5)": ("train.lr=2e-3", "train.neftune_alpha=5"),
    "prompt (20 tokens)": ("train.lr=3e-2", "adapter=prompt"),
    "prefix (20 tokens)": ("train.lr=3e-2", "adapter=prefix"),
}
WINDOW = 256
"""Tokens of a piece of plain text."""


def main(argv: list[str]) -> int:
    """Train everything, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--instructions", type=Path, required=True)
    parser.add_argument("--stories", type=Path, required=True, help="plain text, paragraphs apart by blank lines")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps of each run")
    parser.add_argument(
        "--shares", type=float, nargs="*", default=[0.0, 0.2, 0.5], help="of replay; none: no retraining"
    )
    parser.add_argument("--adapters", nargs="*", default=list(ADAPTERS), choices=list(ADAPTERS), metavar="NAME")
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=value", help="overrides of every run")
    parser.add_argument("--runs", type=Path, default=Path("runs/sft_real"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    stories = arguments.runs / "stories.jsonl"
    paragraphs = arguments.stories.read_text(encoding="utf-8").split("\n\n")
    write_stories(stories, paragraphs[: len(paragraphs) // 2])
    text = "\n\n".join(paragraphs[len(paragraphs) // 2 :])
    adapters, retrained = {}, []
    for seed in arguments.seeds:
        for name in arguments.adapters:
            folder = run(arguments, f"adapter-{name.split()[0]}", seed, arguments.instructions, *ADAPTERS[name])
            found = losses(folder)
            adapters.setdefault(name, []).append(found)
        if arguments.shares:
            retrained.append(retrain(arguments, seed, stories, text))
    content = {
        "base": Path(arguments.base).name,
        "seeds": arguments.seeds,
        "steps": arguments.steps,
        "overrides": arguments.set,
        "adapters": {name: means(rows) for name, rows in adapters.items()},
        "retraining": {name: means([row[name] for row in retrained]) for name in (retrained or [{}])[0]},
    }
    write_result(arguments.out, content)
    return 0


def write_stories(path: Path, paragraphs: Sequence[str], number: int = 800) -> None:
    """Demonstrations from plain text: continue a paragraph with the next one."""
    pairs = list(pairwise(paragraphs))
    drawn = sorted(pairs, key=lambda pair: unit_hash(*pair))[:number]
    rows = [{"prompt": f"Continue this story.\n{first}", "response": second} for first, second in drawn]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["response"].strip()), encoding="utf-8")


def run(arguments: argparse.Namespace, name: str, seed: int, data: Path, *overrides: str) -> RunFolder:
    """Train one run; `overrides` may name a start run instead of the base."""
    base = () if any(one.startswith("model.start=") for one in overrides) else (f"model.base={arguments.base}",)
    own = (f"run.dir={arguments.runs / f'{name}-{seed}'}", f"run.seed={seed}", f"data.train={data}")
    steps = f"train.max_steps={arguments.steps}"
    config, _ = load_config(SftConfig, None, [*own, *base, *COMMON, steps, *overrides, *arguments.set])
    return train(config, resume=False)


def losses(folder: RunFolder) -> dict[str, float]:
    """Validation loss in nats per token, before and after training."""
    rows = [row["validation/loss"] for row in folder.read_metrics() if "validation/loss" in row]
    return {"loss_before": rows[0], "loss_after": rows[-1]}


def retrain(arguments: argparse.Namespace, seed: int, stories: Path, text: str) -> dict[str, dict[str, float]]:
    """A run on stories, then one on instructions per share of replay."""
    start = run(arguments, "stories", seed, stories, "train.lr=2e-3")
    found = {
        "base": {"text_perplexity": text_perplexity(None, arguments.base, text)},
        "stories": {**losses(start), "text_perplexity": text_perplexity(start, arguments.base, text)},
    }
    for share in arguments.shares:
        overrides = (f"model.start={start.path}", f"data.replay={share}", "train.lr=2e-3")
        folder = run(arguments, f"retrained-{share:g}", seed, arguments.instructions, *overrides)
        forgetting = folder.record()["forgetting"]
        found[f"instructions, replay {share:g}"] = {
            **losses(folder),
            "stories_before": forgetting["before"],
            "stories_after": forgetting["after"],
            "text_perplexity": text_perplexity(folder, arguments.base, text),
        }
    return found


def text_perplexity(folder: RunFolder | None, base: str, text: str) -> float:
    """Perplexity per token of plain text in pieces of WINDOW tokens, each after BOS."""
    if folder is None:
        tokenizer = load_tokenizer(base)
        torch.manual_seed(0)
        model = load_base(BaseSpec(base, None, "nf4", "auto"), tokenizer)
        roles, role = Roles(start_training_adapter(model, lora_config(1, 1, 0.0)), tokenizer), "default"  # adds nothing
    else:
        roles, role = open_runs({"policy": folder.path}), "policy"
    ids = roles.tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = [ids[start : start + WINDOW] for start in range(0, min(len(ids), 100 * WINDOW), WINDOW)]
    nats, tokens = response_nll(roles, role, [[roles.tokenizer.bos_token_id]] * len(pieces), pieces, batch_size=16)
    return math.exp(float(nats.sum() / tokens.sum()))


def means(rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Mean of each number over seeds, its values, and with several seeds the 95 % interval of the mean (t)."""
    values = {name: [row[name] for row in rows] for name in rows[0]}
    if "stories_after" in values:
        before, after = values["stories_before"], values["stories_after"]
        values["forgotten"] = [end - start for start, end in zip(before, after, strict=True)]
    return {name: {"mean": statistics.mean(own), "seeds": own, **interval(own)} for name, own in values.items()}


def interval(values: Sequence[float]) -> dict[str, list[float]]:
    """The 95 % interval of the mean of a normal sample; nothing for a single value."""
    if len(values) < 2:
        return {}
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.mean(values)
    return {"interval": [mean - half, mean + half]}


if __name__ == "__main__":
    run_main(main)
