"""Supervised tuning: demonstrations → a LoRA adapter that imitates them. Loss on response tokens only.

Stands on TRL's SFTTrainer.
"""

import math
from typing import Any

from transformers import PreTrainedTokenizerBase, PrinterCallback
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

from sft.config import SftConfig
from sft.data import SftData, load_data
from sft.evaluate import sample_answers, validate
from sft.inputs import check_inputs
from workbench.data.batching import prompts_with_room
from workbench.data.records import Demonstration
from workbench.data.rules import RowRules
from workbench.model.base import compute_dtype, default_device, load_base
from workbench.model.roles import PeftModel, Roles, lora_config, start_training_adapter
from workbench.model.session import Session, Setup, open_session, prepare
from workbench.model.training import (
    RunCallback,
    count_parameters,
    keep_adapters_float32,
    one_device,
    save_trained_adapter,
    trainer_arguments,
    weigh_last,
)
from workbench.run.card import write_card
from workbench.run.divergence import BASE, LOWER, diverged, require_finite
from workbench.run.errors import check_all
from workbench.run.folder import RunFolder

METRICS = {
    "loss": "sft/loss",
    "learning_rate": "sft/learning_rate",
    "grad_norm": "sft/grad_norm",
    "entropy": "sft/entropy",
    "mean_token_accuracy": "sft/token_accuracy",
    "num_input_tokens_seen": "sft/tokens",
}
"""What SFTTrainer logs → what we call it."""


def train(config: SftConfig, *, resume: bool) -> RunFolder:
    """Run the phase: read, tune, validate, save."""
    check_all(check_inputs, config, resume=resume)
    setup = prepare(config)
    files = setup.files({"train": config.data.train, "validation": config.data.validation})
    rules = RowRules(config.data.ignore, config.data.bad_rows)
    data = load_data(
        setup.tokenizer,
        train=files["train"],
        validation=files.get("validation"),
        validation_share=config.data.validation_share,
        max_length=config.data.max_length,
        seed=config.run.seed,
        loss_on=config.data.loss_on,
        rules=rules,
    )
    _asked(config, setup.tokenizer, data)  # there are some, before any work
    counts = {"train": len(data.train), "validation": len(data.validation), "too_long": data.too_long}
    session = open_session(
        setup, config, "sft", resume=resume, parents={}, files=files, rules=rules, demonstrations=counts
    )
    if not session.finished:
        with session.running():
            results = _tune(config, setup, session, data)
        perplexity, tokens = results["validation/perplexity"], results["validation/tokens"]
        session.say(f"validation perplexity {perplexity:.3f} (on {tokens:,.0f} tokens)")
    setup.processes.close()
    return session.folder


def _tune(config: SftConfig, setup: Setup, session: Session, data: SftData) -> dict[str, float]:
    """Train, measure before and after, and save."""
    folder, tokenizer = session.folder, setup.tokenizer
    base = load_base(setup.spec, tokenizer)
    if session.processes.first:  # a hub id is on this machine only now
        folder.update_record(base=setup.spec.identified().as_record(), opened=setup.spec.opened())
    model = start_training_adapter(base, lora_config(config.lora.r, config.lora.alpha, config.lora.dropout))
    trainer = _trainer(config, session, model, tokenizer, data)
    roles = Roles(model, tokenizer)
    trainable, frozen = count_parameters(model)
    session.say(
        f"base {setup.spec.name}, {frozen:,} parameters; training {trainable:,} of LoRA on {len(data.train)} rows"
    )
    if session.checkpoint is None:
        _report(config, session, roles, data, step=0)
    trainer.train(resume_from_checkpoint=session.resume_from)
    results = _report(config, session, roles, data, step=trainer.state.global_step)
    if session.processes.first:
        about = "Supervised tuning on demonstrations, loss on the responses only."
        _check_not_worse(folder, results["validation/loss"], fail=config.train.fail_if_worse)
        save_trained_adapter(model, tokenizer, folder.adapter)
        write_card(folder, about=about, results=results)
    return results


def _check_not_worse(folder: RunFolder, loss: float, *, fail: bool) -> None:
    """Warn, in the terminal, run.json and the card, if the validation loss rose.

    Raises:
        WorkbenchError: it rose, and `fail` is set.
    """
    before = next((row["validation/loss"] for row in folder.read_metrics() if "validation/loss" in row), None)
    if before is None or loss <= before:
        return
    found = f"the validation loss is {loss:.3f} nats per token, worse than {before:.3f} before training"
    if fail:
        raise diverged(folder, "at its end", f"{found} (train.fail_if_worse)")
    folder.warn("worse", f"{found}. Try {LOWER}.")


class TokenTrainer(SFTTrainer):
    """SFTTrainer whose token accuracy and entropy are means over response tokens, not of micro-batch means."""

    def __init__(self, **options: Any) -> None:
        self._tokens: dict[str, float] = {}
        super().__init__(**options)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        """TRL's loss."""
        tokens = int((inputs["labels"][:, 1:] != -100).sum())
        result = super().compute_loss(model, inputs, *arguments, **options)
        metrics = self._metrics["train" if model.training else "eval"]
        weigh_last(metrics, self._tokens, dict.fromkeys(metrics, tokens))
        return result


def _trainer(
    config: SftConfig,
    session: Session,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    data: SftData,
) -> SFTTrainer:
    device = default_device()
    arguments = TrlConfig(
        **trainer_arguments(
            session.folder,
            config.train,
            config.checkpoint,
            session.processes,
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
    callback = RunCallback(session, METRICS, keep_last=config.checkpoint.keep_last, description="sft")
    with keep_adapters_float32(model):
        trainer = TokenTrainer(
            model=model,
            args=one_device(arguments),
            train_dataset=data.train,
            processing_class=tokenizer,
            callbacks=[callback],
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


def _report(config: SftConfig, session: Session, roles: Roles, data: SftData, *, step: int) -> dict[str, float]:
    """Validate and sample: before the first step and after the last.

    Raises:
        WorkbenchError: the validation loss is not finite.
    """
    loss, tokens = validate(roles, "default", data.validation, batch_size=config.train.micro_batch_size)
    results = {"validation/loss": loss, "validation/perplexity": math.exp(min(loss, 50.0)), "validation/tokens": tokens}
    session.tracker.log(results, step)
    moment, remedy = (f"in step {step}", LOWER) if step else ("before its first step", BASE)
    require_finite(session.folder, moment, {"validation/loss": loss}, remedy=remedy)
    if config.sample.prompts:
        rows = sample_answers(
            roles,
            "default",
            _asked(config, roles.tokenizer, data),
            max_new_tokens=config.sample.max_new_tokens,
            temperature=config.sample.temperature,
            seed=config.run.seed,
        )
        session.tracker.samples(rows, step)
    return results
