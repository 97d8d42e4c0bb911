"""Claim: on the same rows, `python -m sft` trains at least 1.3 times as many tokens per second as a plain SFTTrainer.

Both train LoRA on the same NF4 base, with the same rows in the same order, the same seed, learning rate and batch; all
else is the default of each. TRL's defaults include activation checkpointing, so it is also measured without. The sides
take turns in one process. The loss of each step is compared too.

    python -m benchmarks.sft_vs_trl --base BASE --data FILE [--steps 40] [--repeats 3]
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

from benchmarks.record import RESULTS, spread, write_result
from benchmarks.trl_sft import Clock, train_here
from sft.config import SftConfig
from sft.data import load_data
from sft.train import train
from workbench.data.rules import RowRules
from workbench.model.base import load_tokenizer
from workbench.run.command_line import run_main
from workbench.run.config import load_config

OUT = RESULTS / "sft_vs_trl.json"
WARM = 2
"""Steps of each turn that are not counted."""


@dataclass(frozen=True)
class Turn:
    """One training run."""

    tokens_per_second: float
    losses: list[float]
    """Per step, nats per token."""


def main(argv: list[str]) -> int:
    """Take turns, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8, help="rows per step (default: that of the SFTTrainer)")
    parser.add_argument("--length", type=int, default=384, help="tokens of a row; longer ones are left out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    turns: dict[str, list[Turn]] = {"ours": [], "trl": [], "trl_without_checkpointing": []}
    with tempfile.TemporaryDirectory(prefix="sft-vs-trl-") as name:
        for number in range(arguments.repeats):
            config = our_config(arguments, Path(name) / f"ours-{number}")
            turns["ours"].append(our_turn(config))
            turns["trl"].append(trl_turn(config, Path(name) / "trl"))
            without = trl_turn(config, Path(name) / "trl", gradient_checkpointing=False)
            turns["trl_without_checkpointing"].append(without)
    speeds = {side: [turn.tokens_per_second for turn in own] for side, own in turns.items()}
    ratios = {side: spread([a / b for a, b in zip(speeds["ours"], speeds[side], strict=True)]) for side in speeds}
    content = {
        "ratio_tokens_per_second": ratios["trl"]["median"],
        "largest_loss_difference": largest_difference(turns["ours"][0].losses, turns["trl"][0].losses),
        "ratio_spread": ratios["trl"],
        "ratio_without_checkpointing": ratios["trl_without_checkpointing"],
        "tokens_per_second": {side: spread(values) for side, values in speeds.items()},
        "losses": {side: own[0].losses for side, own in turns.items()},
        "settings": {name: Path(str(value)).name for name, value in vars(arguments).items() if name != "out"},
    }
    write_result(arguments.out, content)
    return 0


def largest_difference(ours: list[float], theirs: list[float]) -> float:
    """Largest absolute difference of the losses of one step."""
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))


def our_config(arguments: argparse.Namespace, folder: Path) -> SftConfig:
    """The configuration of our side; the other side reads its values from it."""
    overrides = [
        *(f"run.dir={folder}", "run.threads=1", f"model.base={arguments.base}", f"data.train={arguments.data}"),
        *(f"data.max_length={arguments.length}", "data.bad_rows=skip", "data.validation_share=0.02"),
        *(f"train.max_steps={arguments.steps}", f"train.batch_size={arguments.batch}", "train.lr=1e-3"),
        *(f"train.micro_batch_size={arguments.batch}", "train.warmup_share=0", "sample.prompts=0"),
        *("tracking.wandb=disabled", "tracking.log_every=1"),
    ]
    return load_config(SftConfig, None, overrides)[0]


def our_turn(config: SftConfig) -> Turn:
    """`python -m sft`; seconds and tokens from its metrics."""
    rows = [row for row in train(config, resume=False).read_metrics() if "sft/loss" in row]
    seconds, tokens = (rows[-1][name] - rows[WARM - 1][name] for name in ("seconds", "sft/tokens"))
    return Turn(tokens / seconds, [row["sft/loss"] for row in rows])


def trl_turn(config: SftConfig, folder: Path, **changed: Any) -> Turn:
    """A plain SFTTrainer on the same rows; `changed` are its arguments that are not the defaults."""
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu else torch.float32
    assert config.model.base is not None
    tokenizer = load_tokenizer(config.model.base)
    rules = RowRules(bad_rows="skip")
    data = load_data(tokenizer, config.data, {"train": Path(config.data.train)}, seed=config.run.seed, rules=rules)
    torch.manual_seed(config.run.seed)
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, bnb_4bit_use_double_quant=True
    )
    model = AutoModelForCausalLM.from_pretrained(
        config.model.base, dtype=dtype, quantization_config=quantisation, device_map={"": 0 if gpu else "cpu"}
    )
    clock = Clock()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(folder),
            seed=config.run.seed,
            data_seed=config.run.seed,
            per_device_train_batch_size=config.train.batch_size,
            max_steps=config.train.max_steps,
            learning_rate=config.train.lr,
            completion_only_loss=True,  # the default for prompts and completions as text
            use_cpu=not gpu,
            bf16=gpu,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **changed,
        ),
        train_dataset=Dataset.from_list(list(data.train)),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=config.lora.r, lora_alpha=config.lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[clock],
    )
    train_here(trainer, gpu=gpu)
    logged = [row for row in trainer.state.log_history if "num_tokens" in row and "loss" in row]
    tokens = logged[-1]["num_tokens"] - logged[WARM - 1]["num_tokens"]
    return Turn(tokens / (clock.ends[-1] - clock.ends[WARM - 1]), [row["loss"] for row in logged])


if __name__ == "__main__":
    run_main(main)
