"""Contrastive post-training: preference pairs → a policy, without a reward model.

Stands on TRL's DPOTrainer (the reference is a frozen copy of the start adapter, made by the trainer) and, for SLiC-HF,
on its CPOTrainer with the hinge loss (no reference). Both are given token rows, so that a response means the same token
ids in every phase.
"""

from functools import partial
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase, PrinterCallback
from trl import DPOConfig, DPOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer

from ppo.config import ContrastiveConfig, LossSection
from ppo.contrastive.evaluate import evaluate_pairs
from ppo.inputs import check_contrastive_inputs
from workbench.data.batching import encode_pairs
from workbench.data.rules import RowRules
from workbench.data.splits import load_pairs
from workbench.model.base import load_base
from workbench.model.roles import PeftModel, Roles, lora_config, start_training_adapter
from workbench.model.session import Session, Setup, open_session, prepare
from workbench.model.training import (
    RunCallback,
    keep_adapters_float32,
    one_device,
    save_trained_adapter,
    trainer_arguments,
    weigh_last,
)
from workbench.run.card import write_card
from workbench.run.divergence import require_finite
from workbench.run.errors import check_all
from workbench.run.folder import RunFolder

METRICS = {
    "loss": "contrastive/loss",
    "learning_rate": "contrastive/learning_rate",
    "grad_norm": "contrastive/grad_norm",
    "rewards/accuracies": "contrastive/accuracy",
    "rewards/margins": "contrastive/margin",
    "logps/chosen": "contrastive/chosen_logprob",
    "logps/rejected": "contrastive/rejected_logprob",
}
"""What the trainers log → what we call it."""


def train(config: ContrastiveConfig, *, resume: bool) -> RunFolder:
    """Run the phase: read, train, measure on held-out pairs, save."""
    check_all(check_contrastive_inputs, config, resume=resume)
    setup = prepare(config)
    files = setup.files({"train": config.data.train, "heldout": config.data.heldout})
    rules = RowRules(config.data.ignore, config.data.bad_rows)
    pairs, heldout, groups, counts = _rows(config, setup.tokenizer, files, rules)
    session = open_session(
        setup,
        config,
        "ppo",
        resume=resume,
        parents={"start": config.model.start},
        files=files,
        rules=rules,
        method=config.method,
        pairs=counts,
    )
    if not session.finished:
        with session.running():
            results = _train(config, setup, session, pairs, heldout, groups)
        session.say(
            f"held-out accuracy {results['heldout/accuracy']:.3f} of implicit rewards (95 % "
            f"{results['heldout/accuracy_low']:.3f} to {results['heldout/accuracy_high']:.3f}, {len(heldout)} pairs)"
        )
    setup.processes.close()
    return session.folder


def _train(
    config: ContrastiveConfig,
    setup: Setup,
    session: Session,
    pairs: Dataset,
    heldout: list[dict[str, Any]],
    groups: list[str],
) -> dict[str, float]:
    """Train, measure and save."""
    assert setup.start is not None
    model = start_training_adapter(load_base(setup.spec, setup.tokenizer), lora_config(1, 1, 0.0), setup.start.adapter)
    trainer = make_trainer(config, session, model, setup.tokenizer, pairs)
    trainer.train(resume_from_checkpoint=session.resume_from)
    results = evaluate_pairs(
        Roles(model, setup.tokenizer),
        heldout,
        groups,
        method=config.method,
        beta=config.loss.beta,
        label_smoothing=config.loss.label_smoothing,
        sft_coef=config.loss.sft_coef,
        batch_size=config.train.micro_batch_size,
    )
    session.tracker.log(results, trainer.state.global_step)
    require_finite(session.folder, "at its end", {name: results[name] for name in ("heldout/loss", "heldout/margin")})
    if session.processes.first:
        save_trained_adapter(model, setup.tokenizer, session.folder.adapter)
        about = f"{config.method.upper()} on preference pairs, from a supervised adapter."
        write_card(session.folder, about=about, results=results)
    return results


class RowDPOTrainer(DPOTrainer):
    """DPOTrainer that takes rows of token ids as they are; 1.16 would tokenise them again."""

    def __init__(self, **options: Any) -> None:
        self._pairs: dict[str, float] = {}
        super().__init__(**options)

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def compute_loss(self, model: Any, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        """TRL's loss; its metrics become means over pairs."""
        result = super().compute_loss(model, inputs, *arguments, **options)
        metrics = self._metrics["train" if model.training else "eval"]
        weigh_last(metrics, self._pairs, dict.fromkeys(metrics, len(inputs["input_ids"]) / 2))
        return result


class RowCPOTrainer(CPOTrainer):
    """CPOTrainer that takes rows of token ids as they are; 1.16 would tokenise texts, with a boundary of its own."""

    def __init__(self, **options: Any) -> None:
        self._pairs: dict[str, float] = {}
        super().__init__(**options)

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        """The columns that its collator pads, from prompt_ids, chosen_ids and rejected_ids."""
        prompt = feature["prompt_ids"]
        row: dict[str, Any] = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
        for side in ("chosen", "rejected"):
            response = feature[f"{side}_ids"]
            row[f"{side}_input_ids"] = prompt + response
            row[f"{side}_attention_mask"] = [1] * (len(prompt) + len(response))
            row[f"{side}_labels"] = [-100] * len(prompt) + response
        return row

    def compute_loss(self, model: Any, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        """TRL's loss; its metrics become means over pairs."""
        result = super().compute_loss(model, inputs, *arguments, **options)
        metrics = self._stored_metrics["train"]
        weigh_last(metrics, self._pairs, dict.fromkeys(metrics, len(inputs["chosen_labels"])))
        return result


def make_trainer(
    config: ContrastiveConfig,
    session: Session,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Dataset,
) -> DPOTrainer | CPOTrainer:
    """The trainer of the configured method, with float32 adapters."""
    arguments = trainer_arguments(
        session.folder,
        config.train,
        config.checkpoint,
        session.processes,
        seed=config.run.seed,
        log_every=config.tracking.log_every,
        activation_checkpointing=config.model.activation_checkpointing,
        dtype=model.get_input_embeddings().weight.dtype,
    )
    common: dict[str, Any] = {
        "model": model,
        "train_dataset": pairs,
        "processing_class": tokenizer,
        "callbacks": [RunCallback(session, METRICS, keep_last=config.checkpoint.keep_last, description=config.method)],
    }
    trainer: DPOTrainer | CPOTrainer
    if config.method == "dpo":
        losses = dpo_losses(config.loss)
        dpo = DPOConfig(
            **arguments,
            beta=config.loss.beta,
            label_smoothing=config.loss.label_smoothing,
            loss_type=list(losses),
            loss_weights=list(losses.values()),
            max_length=config.data.max_length,
        )
        with keep_adapters_float32(model):
            trainer = RowDPOTrainer(args=one_device(dpo), **common)
    else:
        slic = CPOConfig(
            **arguments,
            beta=config.loss.beta,
            loss_type="hinge",
            cpo_alpha=config.loss.sft_coef,
            max_length=config.data.max_length,
            remove_unused_columns=False,
        )
        with keep_adapters_float32(model):
            trainer = RowCPOTrainer(args=one_device(slic), **common)
    trainer.remove_callback(PrinterCallback)
    return trainer


def dpo_losses(section: LossSection) -> dict[str, float]:
    r"""TRL's losses with the weights in which they add up to ours.

        (1 − ε) ℓ(h) + ε ℓ(−h) = 2 (1 − ε) sigmoid − (1 − 2 ε) robust,   ℓ(h) = −log σ(h)

    TRL 1.16 reads ε, the label smoothing, in `robust` = ((1 − ε) ℓ(h) − ε ℓ(−h)) / (1 − 2 ε), and silently not in
    `sigmoid` = ℓ(h).

    Source: Mitchell 2023, "A note on DPO with noisy preferences" (cDPO), eq. 3; Pang et al. 2024, arXiv:2404.19733,
    eq. 1.
    """
    smoothing = section.label_smoothing
    smoothed = {"sigmoid": 2 * (1 - smoothing), "robust": 2 * smoothing - 1} if smoothing > 0 else {"sigmoid": 1.0}
    return smoothed | ({"sft": section.sft_coef} if section.sft_coef > 0 else {})


def _rows(
    config: ContrastiveConfig, tokenizer: PreTrainedTokenizerBase, files: dict[str, Any], rules: RowRules
) -> tuple[Dataset, list[dict[str, Any]], list[str], dict[str, int]]:
    """Training pairs; held-out pairs and their groups; counts."""
    split = load_pairs(
        files["train"],
        files.get("heldout"),
        heldout_share=config.data.heldout_share,
        seed=config.run.seed,
        limit=config.data.limit,
        rules=rules,
    )
    encode = partial(encode_pairs, tokenizer, max_length=config.data.max_length, prompt_apart=True, rules=rules)
    rows = encode(split.train, source=files["train"])
    kept_out = encode(split.heldout, source=files.get("heldout", files["train"]))
    counts = {
        "train": len(rows.rows),
        "heldout": len(kept_out.rows),
        "ties": split.ties,
        "too_long": rows.dropped + kept_out.dropped,
    }
    groups = [split.heldout[place].group for place in kept_out.kept]
    return Dataset.from_list(rows.rows), kept_out.rows, groups, counts
