"""Supervised tuning: demonstrations → a LoRA adapter that imitates them. Loss on response tokens only.

Stands on TRL's SFTTrainer.
"""

import math

import torch
from transformers import PreTrainedTokenizerBase, PrinterCallback
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

from sft.config import SftConfig
from sft.data import SftData, load_data
from sft.evaluate import sample_answers, validate
from sft.inputs import check_inputs
from workbench.data.batching import prompts_with_room
from workbench.data.embedded import resolve_data
from workbench.data.records import Demonstration
from workbench.data.rules import RowRules
from workbench.data.template import template_hash
from workbench.model.base import BaseSpec, compute_dtype, default_device, load_base, load_tokenizer
from workbench.model.roles import PeftModel, Roles, lora_config, start_training_adapter
from workbench.model.training import (
    RunCallback,
    count_parameters,
    keep_adapters_float32,
    resume_point,
    save_trained_adapter,
    trainer_arguments,
)
from workbench.run.card import write_card
from workbench.run.checkpoints import full_disk_explained
from workbench.run.errors import check_all
from workbench.run.folder import RunFolder
from workbench.run.tracking import Tracker

METRICS = {
    "loss": "sft/loss",
    "learning_rate": "sft/learning_rate",
    "grad_norm": "sft/grad_norm",
    "entropy": "sft/entropy",
    "mean_token_accuracy": "sft/token_accuracy",
    "num_tokens": "sft/tokens",
}
"""What SFTTrainer logs → what we call it."""


def train(config: SftConfig, *, resume: bool) -> RunFolder:
    """Run the phase: read, tune, validate, save."""
    check_all(check_inputs, config, resume=resume)
    section = config.model
    assert section.base is not None, "checked above"
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    torch.manual_seed(config.run.seed)
    spec = BaseSpec(section.base, section.revision, section.quantise, section.dtype, pad_token=section.pad_token)
    tokenizer = load_tokenizer(spec.name, spec.revision, spec.pad_token)
    data_files = {"train": resolve_data(config.data.train)}
    if config.data.validation is not None:
        data_files["validation"] = resolve_data(config.data.validation)
    rules = RowRules(config.data.ignore, config.data.bad_rows)
    data = load_data(
        tokenizer,
        train=data_files["train"],
        validation=data_files.get("validation"),
        validation_share=config.data.validation_share,
        max_length=config.data.max_length,
        seed=config.run.seed,
        loss_on=config.data.loss_on,
        rules=rules,
    )
    _asked(config, tokenizer, data)  # there are some, before any work
    folder = RunFolder.create(config.run.dir, phase="sft", config=config, overwrite=config.run.overwrite, resume=resume)
    if folder.finished:
        print(f"{folder.path}: this sft run is finished already")
        return folder
    rules.write_left_out(folder.path)
    base = load_base(spec, tokenizer)
    folder.record_lineage(
        parents={},
        data=data_files,
        base=spec.identified().as_record(),
        opened=spec.opened(),
        chat_template=template_hash(tokenizer),
        seed=config.run.seed,
        demonstrations={"train": len(data.train), "validation": len(data.validation), "too_long": data.too_long},
    )
    model = start_training_adapter(base, lora_config(config.lora.r, config.lora.alpha, config.lora.dropout))
    checkpoint = resume_point(folder, resume)
    tracker = Tracker(
        folder, project=config.tracking.project, mode=config.tracking.wandb, config=config.model_dump(mode="json")
    )
    trainer = _trainer(config, folder, tracker, model, tokenizer, data)
    trainable, frozen = count_parameters(model)
    print(f"base {spec.name}: {frozen:,} parameters; training {trainable:,} of LoRA on {len(data.train)} rows")

    roles = Roles(model, tokenizer)
    with full_disk_explained(folder.path), tracker:
        if checkpoint is None:
            _report(config, roles, tracker, data, step=0)
        trainer.train(resume_from_checkpoint=checkpoint)
        results = _report(config, roles, tracker, data, step=trainer.state.global_step)
        save_trained_adapter(model, tokenizer, folder.adapter)
        write_card(folder, about="Supervised tuning on demonstrations, loss on the responses only.", results=results)
    perplexity, tokens = results["validation/perplexity"], results["validation/tokens"]
    print(f"{folder.path}: validation perplexity {perplexity:.3f} (on {tokens:,.0f} tokens)")
    return folder


def _trainer(
    config: SftConfig,
    folder: RunFolder,
    tracker: Tracker,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    data: SftData,
) -> SFTTrainer:
    device = default_device()
    arguments = TrlConfig(
        **trainer_arguments(
            folder,
            config.train,
            config.checkpoint,
            seed=config.run.seed,
            log_every=config.tracking.log_every,
            activation_checkpointing=config.model.activation_checkpointing,
            dtype=compute_dtype(config.model.dtype, device),
        ),
        max_length=config.data.max_length,
        packing=config.data.packing,
        completion_only_loss=True,
        eval_strategy="no",
        dataset_num_proc=None,
    )
    callback = RunCallback(folder, tracker, METRICS, keep_last=config.checkpoint.keep_last, description="sft")
    with keep_adapters_float32(model):
        trainer = SFTTrainer(
            model=model, args=arguments, train_dataset=data.train, processing_class=tokenizer, callbacks=[callback]
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _asked(config: SftConfig, tokenizer: PreTrainedTokenizerBase, data: SftData) -> list[Demonstration]:
    """The held-out prompts that are answered before and after training."""
    if not config.sample.prompts:
        return []
    length, key = config.sample.max_new_tokens, "sample.max_new_tokens"
    return prompts_with_room(tokenizer, data.validation_records, max_new_tokens=length, key=key)[
        : config.sample.prompts
    ]


def _report(config: SftConfig, roles: Roles, tracker: Tracker, data: SftData, *, step: int) -> dict[str, float]:
    """Validate and sample: before the first step and after the last."""
    loss, tokens = validate(roles, "default", data.validation, batch_size=config.train.micro_batch_size)
    results = {"validation/loss": loss, "validation/perplexity": math.exp(min(loss, 50.0)), "validation/tokens": tokens}
    tracker.log(results, step)
    if config.sample.prompts:
        rows = sample_answers(
            roles,
            "default",
            _asked(config, roles.tokenizer, data),
            max_new_tokens=config.sample.max_new_tokens,
            temperature=config.sample.temperature,
            seed=config.run.seed,
        )
        tracker.samples(rows, step)
    return results
