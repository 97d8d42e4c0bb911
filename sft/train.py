"""Supervised tuning: trains a LoRA adapter on demonstrations with TRL's SFTTrainer, loss on response tokens only."""

import math
from typing import Any

from transformers import PreTrainedTokenizerBase, PrinterCallback
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

from sft.config import SftConfig
from sft.data import SftData, load_data, prompts_to_answer
from sft.evaluate import sample_answers, validate
from sft.inputs import check_inputs
from sft.sources import file_names, old_data
from workbench.data.records import Demonstration
from workbench.data.rules import RowRules
from workbench.model.adapters import (
    PeftConfig,
    lora_config,
    lora_plus,
    soft_prompt_config,
    start_training_adapter,
)
from workbench.model.base import Dtype, compute_dtype, default_device, load_base
from workbench.model.roles import PeftModel, Roles
from workbench.model.session import Session, Setup, open_session, prepare
from workbench.model.training import (
    RunCallback,
    WarmUpTrainer,
    count_parameters,
    keep_adapters_float32,
    one_device,
    save_trained_adapter,
    trainer_arguments,
    weigh_last,
)
from workbench.run.card import write_card
from workbench.run.divergence import BASE, LOWER, UNIFORM_MARGIN, diverged, require_finite
from workbench.run.errors import check_all
from workbench.run.folder import RunFolder
from workbench.run.out_of_memory import DOCTOR, SMALLER_STEP, memory_hint

KINDS = {"lora": "LoRA", "prompt": "a soft prompt", "prefix": "a prefix"}
"""For messages."""

METRICS = {
    "loss": "sft/loss",
    "learning_rate": "sft/learning_rate",
    "grad_norm": "sft/grad_norm",
    "entropy": "sft/entropy",
    "mean_token_accuracy": "sft/token_accuracy",
    "num_input_tokens_seen": "sft/tokens",
}
"""SFTTrainer's name of a metric → ours."""


def train(config: SftConfig, *, resume: bool) -> RunFolder:
    """Run the phase: read the data, train, validate, save."""
    check_all(check_inputs, config, resume=resume)
    setup = prepare(config)
    files = setup.files(file_names(config))
    rules = RowRules(config.data.ignore, config.data.bad_rows, mask=config.data.mask_personal)
    old = old_data(config)
    data = load_data(
        setup.tokenizer, config.data, files, seed=config.run.seed, rules=rules, old=old, augment=config.augment
    )
    answered = prompts_to_answer(setup.tokenizer, config.sample, data.validation_records)
    if old is not None:
        rules.masked.extend(old.rules.masked)
        files |= {"replay_train": old.train} | ({"replay_validation": old.validation} if old.validation else {})
    parents = {"start": config.model.start} if config.model.start else {}
    session = open_session(
        setup, config, "sft", resume=resume, parents=parents, files=files, rules=rules, demonstrations=data.counts
    )
    if not session.finished:
        with session.running():
            results = _tune(config, setup, session, data, answered)
        perplexity, tokens = results["validation/perplexity"], results["validation/tokens"]
        session.say(f"validation perplexity {perplexity:.3f} (on {tokens:,.0f} tokens)")
    setup.processes.close()
    return session.folder


@memory_hint("in a training step", f"{SMALLER_STEP}. {DOCTOR}")
def _tune(
    config: SftConfig, setup: Setup, session: Session, data: SftData, answered: list[Demonstration]
) -> dict[str, float]:
    """Train the adapter, measure it before and after, and save it."""
    folder, tokenizer = session.folder, setup.tokenizer
    base = load_base(setup.spec, tokenizer)
    model = start_training_adapter(base, adapter_config(config), setup.start.adapter if setup.start else None)
    trainer = _trainer(config, session, model, tokenizer, data, setup.spec.dtype)
    roles = Roles(model, tokenizer)
    trainable, frozen = count_parameters(model)
    session.say(
        f"base {setup.spec.name}, {frozen:,} parameters; training {trainable:,} of {KINDS[config.adapter]} "
        f"on {len(data.train)} rows"
    )
    session.base_loaded(setup, roles, config.model)
    if session.checkpoint is None:
        _measure(config, session, roles, data, answered, step=0)
    trainer.train(resume_from_checkpoint=session.resume_from)
    results = _measure(config, session, roles, data, answered, step=trainer.state.global_step)
    if session.processes.first:
        chance = math.log(base.config.get_text_config().vocab_size)
        _check_not_worse(folder, results["validation/loss"], chance=chance, fail=config.train.fail_if_worse)
        save_trained_adapter(model, tokenizer, folder.adapter)
        if data.old_validation is not None:
            _record_forgetting(folder, results)
        about = "Supervised tuning on demonstrations, loss on the responses only."
        write_card(folder, about=about, results=results)
    return results


def _check_not_worse(folder: RunFolder, loss: float, *, chance: float, fail: bool) -> None:
    """Compare the validation loss with that before training.

    A loss that rose is a warning in the terminal, in run.json and in the model card.

    Args:
        folder: of the run.
        loss: after training, in nats per token.
        chance: the loss of a uniform guess over the vocabulary, ln V.
        fail: a loss that rose is an error.

    Raises:
        WorkbenchError: the loss rose, and `fail` is set or it is no better than chance: the model has collapsed.
    """
    before = next((row["validation/loss"] for row in folder.read_metrics() if "validation/loss" in row), None)
    if before is None or loss <= before:
        return
    found = f"the validation loss is {loss:.3f} nats per token, worse than {before:.3f} before training"
    if loss > chance - UNIFORM_MARGIN:
        raise diverged(folder, "at its end", f"{found} and no better than a uniform guess ({chance:.3f})")
    if fail:
        raise diverged(folder, "at its end", f"{found} (train.fail_if_worse)")
    folder.warn("worse", f"{found}. Try {LOWER}.")


def adapter_config(config: SftConfig) -> PeftConfig:
    """The shape of the adapter that is trained."""
    if config.adapter != "lora":
        return soft_prompt_config(config.adapter, config.soft_prompt.tokens)
    return lora_config(config.lora.r, config.lora.alpha, config.lora.dropout, variant=config.lora.variant)


def _record_forgetting(folder: RunFolder, results: dict[str, float]) -> None:
    """Note in run.json the loss on the start run's validation set before and after training, in nats per token."""
    before = next(row["old_validation/loss"] for row in folder.read_metrics() if "old_validation/loss" in row)
    after = results["old_validation/loss"]
    folder.update_record(forgetting={"before": before, "after": after, "tokens": results["old_validation/tokens"]})


class TokenTrainer(WarmUpTrainer, SFTTrainer):
    """SFTTrainer that averages token accuracy and entropy over response tokens instead of micro-batch means.

    `b_lr_ratio` is LoRA+'s: the learning rate of B as a multiple of that of A.
    """

    def __init__(self, *, b_lr_ratio: float = 1.0, **options: Any) -> None:
        self._tokens: dict[str, float] = {}
        self._b_lr_ratio = b_lr_ratio
        super().__init__(**options)

    def create_optimizer(self, model: Any = None) -> Any:
        """The trainer's optimizer, or LoRA+'s groups of it."""
        if self.optimizer is None and self._b_lr_ratio != 1.0:
            trained: Any = self.model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, trained)
            self.optimizer = lora_plus(trained, kind, self._b_lr_ratio, self.args.weight_decay, options)
        return super().create_optimizer(model)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        """TRL's loss; the metrics it adds are weighted by their number of tokens."""
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
    dtype: Dtype = "auto",
) -> SFTTrainer:
    device = default_device()
    arguments = TrlConfig(
        **trainer_arguments(session, config, compute_dtype(dtype, device)),
        max_length=config.data.max_length,
        neftune_noise_alpha=config.train.neftune_alpha or None,
        packing=config.data.packing,
        completion_only_loss=True,
        eval_strategy="no",
        dataset_num_proc=None,
    )
    callback = RunCallback(session, METRICS, keep_last=config.checkpoint.keep_last, description="sft")
    with keep_adapters_float32(model):
        trainer = TokenTrainer(
            b_lr_ratio=config.lora.b_lr_ratio if config.adapter == "lora" else 1.0,
            model=model,
            args=one_device(arguments),
            train_dataset=data.train,
            processing_class=tokenizer,
            callbacks=[callback],
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _measure(
    config: SftConfig, session: Session, roles: Roles, data: SftData, answered: list[Demonstration], *, step: int
) -> dict[str, float]:
    """Validate and sample, before the first step and after the last.

    Raises:
        WorkbenchError: the validation loss is not finite.
    """
    loss, tokens = validate(roles, "default", data.validation, batch_size=config.train.micro_batch_size)
    results = {"validation/loss": loss, "validation/perplexity": math.exp(min(loss, 50.0)), "validation/tokens": tokens}
    if data.old_validation is not None:
        loss, tokens = validate(roles, "default", data.old_validation, batch_size=config.train.micro_batch_size)
        results |= {"old_validation/loss": loss, "old_validation/tokens": tokens}
    session.tracker.log(results, step)
    moment, remedy = (f"in step {step}", LOWER) if step else ("before its first step", BASE)
    require_finite(session.folder, moment, {"validation/loss": results["validation/loss"]}, remedy=remedy)
    if answered:
        session.tracker.samples(sample_answers(roles, "default", answered, config.sample, seed=config.run.seed), step)
    return results
