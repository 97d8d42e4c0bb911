"""TRL's PPOTrainer on what a run of ours starts from. Started by `ppo_vs_trl` with TRL 1.12 first on the path.

    python -m benchmarks.trl_ppo JOB.json

One NF4 base carries the policy and its reference as adapters; value and reward model are NF4 bases of their own with a
LoRA adapter put in place, since that trainer calls the backbone of each. This is the leanest form it supports.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from peft.utils import load_peft_weights
from torch import Tensor
from transformers import TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from workbench.data.readers import read_prompts
from workbench.data.tokenise import encode_prompt
from workbench.model.base import BaseSpec, keep_cpu_weights_in_place, load_base, load_tokenizer
from workbench.model.heads import load_head


def main(argv: list[str]) -> None:
    """Read the job, train, write iterations' seconds and the last metrics."""
    job = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    if trl.__version__ != job["version"]:
        raise SystemExit(f"trl {trl.__version__} was imported, not {job['version']}: {trl.__file__}")
    torch.set_num_threads(job["threads"])
    results = [run(job, epochs) for epochs in job["epochs"]]
    Path(job["out"]).write_text(json.dumps(results) + "\n", encoding="utf-8")


def run(job: dict[str, Any], epochs: int) -> dict[str, Any]:
    """One training run with so many epochs over each rollout."""
    torch.manual_seed(0)
    spec = BaseSpec(job["base"], None, "nf4", "auto")
    tokenizer = load_tokenizer(spec.name)
    policy = PeftModel.from_pretrained(load_base(spec, tokenizer), job["sft_adapter"], is_trainable=True)
    policy.load_adapter(job["sft_adapter"], "reference")
    keep_cpu_weights_in_place(policy)
    clock = Clock()
    trainer = PPOTrainer(
        args=PPOConfig(
            output_dir=job["folder"],
            per_device_train_batch_size=job["micro_batch"],
            gradient_accumulation_steps=job["rollout"] // job["micro_batch"],
            num_mini_batches=job["minibatches"],
            num_ppo_epochs=epochs,
            total_episodes=job["rollout"] * job["iterations"],
            local_rollout_forward_batch_size=job["rollout_micro_batch"],
            response_length=job["response_tokens"],
            stop_token="eos",
            temperature=1.0,
            learning_rate=job["lr"],
            vf_coef=1.0,
            kl_coef=0.05,
            gamma=1.0,
            lam=0.95,
            adam_beta2=job["adam_beta2"],
            adam_epsilon=job["adam_eps"],
            ref_adapter_name="reference",
            num_sample_generations=0,
            gradient_checkpointing=job["checkpointing"],
            bf16=False,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=0,
        ),
        processing_class=tokenizer,
        model=policy,
        ref_model=None,
        value_model=scorer(job, spec, tokenizer, train=True),
        reward_model=scorer(job, spec, tokenizer, train=False),
        train_dataset=prompts(job, tokenizer),
        eval_dataset=prompts(job, tokenizer),
        callbacks=[clock],
    )
    if job["responses"]:
        ppo_trainer.batch_generation = replay_of(Path(job["responses"]))
    trainer.train()
    logged = [row for row in trainer.state.log_history if "loss/policy_avg" in row]
    return {"ends": clock.ends, "metrics": logged}


class Clock(TrainerCallback):
    """Wall and CPU seconds at which each iteration ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """An iteration ends."""
        self.ends.append((time.monotonic(), time.process_time()))


def scorer(job: dict[str, Any], spec: BaseSpec, tokenizer: Any, *, train: bool) -> Any:
    """A base with the reward run's adapter and head, as value or as reward model."""
    model: Any = load_base(spec, tokenizer, head="score")
    folder = job["reward_adapter"]
    shape = LoraConfig.from_pretrained(folder)
    inject_adapter_in_model(
        LoraConfig(r=shape.r, lora_alpha=shape.lora_alpha, target_modules=shape.target_modules), model
    )
    weights = {
        name.removeprefix("base_model.model.").replace(".weight", ".default.weight"): tensor
        for name, tensor in load_peft_weights(folder, device="cpu").items()
        if "lora_" in name
    }
    mine = {name: parameter for name, parameter in model.named_parameters() if "lora_" in name}
    assert mine.keys() == weights.keys()
    head, _ = load_head(Path(job["head"]))
    model.score = torch.nn.Linear(head.weight.numel(), 1, device=model.device)
    with torch.no_grad():
        for name, parameter in mine.items():
            parameter.copy_(weights[name])
        model.score.weight.copy_((head.gain * head.weight).unsqueeze(0))
        model.score.bias.fill_(float(head.gain * head.bias + head.offset))
    for parameter in [*mine.values(), *model.score.parameters()]:
        parameter.requires_grad_(train)
    keep_cpu_weights_in_place(model)
    return model


def prompts(job: dict[str, Any], tokenizer: Any) -> Dataset:
    """The prompts' token ids."""
    rows = [{"input_ids": encode_prompt(tokenizer, p.prompt)} for p in read_prompts(Path(job["prompts"]))]
    return Dataset.from_list(rows)


def replay_of(path: Path) -> Any:
    """A stand-in for generation that answers each prompt with the response of a file, and scores it by a forward."""
    table = {tuple(prompt): response for prompt, response in json.loads(path.read_text(encoding="utf-8"))}

    @torch.no_grad()
    def replay(model: Any, queries: Tensor, _: int, pad_token_id: int, __: Any) -> tuple[Tensor, Tensor]:
        answers = [table[tuple(token for token in row if token != pad_token_id)] for row in queries.tolist()]
        whole = torch.cat([queries, torch.tensor(answers, device=queries.device)], dim=1)
        logits = ppo_trainer.forward(model, whole, pad_token_id).logits
        return whole, logits[:, queries.shape[1] - 1 : -1]

    return replay


if __name__ == "__main__":
    main(sys.argv[1:])
