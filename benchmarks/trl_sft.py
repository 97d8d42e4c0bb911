"""A plain SFTTrainer of the installed TRL: NF4 base, LoRA, padded rows. Started by `sft_7b`.

python -m benchmarks.trl_sft JOB.json
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer

from workbench.model.base import keep_cpu_weights_in_place
from workbench.run.partial import lines_of


class Clock(TrainerCallback):
    """Seconds at which each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A step ends."""
        self.ends.append(time.monotonic())


def train_here(trainer: SFTTrainer, *, gpu: bool) -> None:
    """Train as TRL does, with what a quantised base needs on a CPU."""
    keep_cpu_weights_in_place(trainer.model)
    if not gpu:  # the trainer casts LoRA to bfloat16, which a float32 base on a CPU cannot add
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    trainer.train()


def main(argv: list[str]) -> None:
    """Train, and write seconds and tokens of each step after the first."""
    job = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu else torch.float32
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=True,
    )
    model = AutoModelForCausalLM.from_pretrained(
        job["base"], dtype=dtype, quantization_config=quantisation, device_map={"": 0 if gpu else "cpu"}
    )
    tokenizer = AutoTokenizer.from_pretrained(job["base"], pad_token="<unk>")
    clock = Clock()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=job["folder"],
            per_device_train_batch_size=job["micro_batch"],
            gradient_accumulation_steps=1,
            max_steps=job["steps"],
            max_length=job["length"],
            gradient_checkpointing=job["checkpointing"],
            learning_rate=1e-4,
            bf16=gpu,
            use_cpu=not gpu,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows(Path(job["demonstrations"]))),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear"),
        callbacks=[clock],
    )
    train_here(trainer, gpu=gpu)
    tokens = [row["num_tokens"] for row in trainer.state.log_history if "num_tokens" in row]
    result = {"seconds": clock.ends[-1] - clock.ends[0], "tokens": tokens[job["steps"] - 1] - tokens[0]}
    Path(job["out"]).write_text(json.dumps(result) + "\n", encoding="utf-8")


def rows(path: Path) -> list[dict[str, str]]:
    """Prompt and completion as text."""
    found = []
    for line in lines_of(path.read_text(encoding="utf-8")):
        record = json.loads(line)
        prompt = f"User: {record['prompt'][0]['content']}\nAssistant:"
        found.append({"prompt": prompt, "completion": f" {record['response']}"})
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
