"""A transformers Trainer for labelled texts: a head's logits, or the LM's answer. Shapes: B = texts, K = labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainingArguments
from trl.trainer.utils import add_fused_lm_head

from sft.classify.config import ClassifyConfig
from workbench.model.base import compute_dtype, default_device
from workbench.model.masks import pad_rows
from workbench.model.roles import PeftModel
from workbench.model.session import Session
from workbench.model.training import (
    RunCallback,
    WarmUpTrainer,
    keep_adapters_float32,
    one_device,
    trainer_arguments,
    weight_of_batch,
)

METRICS = {
    "loss": "classify/loss",
    "learning_rate": "classify/learning_rate",
    "grad_norm": "classify/grad_norm",
    "num_input_tokens_seen": "classify/tokens",
}
"""What the trainer logs → what we call it."""
Row = dict[str, Any]


@dataclass(frozen=True)
class TextCollator:
    """Pads rows of `ids`, `weight` and either `targets` (K numbers) or `answer` (its number of tokens)."""

    pad_token_id: int

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` (B, T); `weight` (B,); `targets` (B, K), or `labels` (B, T), −100 outside."""
        ids, mask = pad_rows([list(row["ids"]) for row in rows], self.pad_token_id)
        batch = {
            "input_ids": ids,
            "attention_mask": mask.long(),
            "weight": torch.tensor([row["weight"] for row in rows], dtype=torch.float32),
        }
        if "targets" in rows[0]:
            return batch | {"targets": torch.tensor([row["targets"] for row in rows], dtype=torch.float32)}
        prompts = torch.tensor([len(row["ids"]) - row["answer"] for row in rows]).unsqueeze(1)
        return batch | {"labels": ids.masked_fill(~mask | (torch.arange(ids.shape[1]) < prompts), -100)}


class LabelTrainer(WarmUpTrainer):
    """Minimises the cross-entropy of labels.

    Args:
        positive_weights: (K,) weight of a label that is present, for multi-label tasks; None: one label per text.
        options: Trainer's.
    """

    loss_is_scaled_for_ga = True  # `compute_loss` divides by the weight of the whole batch

    def __init__(self, *, positive_weights: Tensor | None, **options: Any) -> None:
        self.positive_weights = positive_weights
        super().__init__(**options)
        self.model_accepts_loss_kwargs = True  # what earlier releases of transformers read instead

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        return weight_of_batch(batch_samples, device, self.accelerator)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Σ w · loss / (weight of the whole batch), so that accumulating micro-batches equals one large batch."""
        read = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        if "targets" in inputs:
            logits = model(**read, use_cache=False).logits.float()  # (B, K), of each row's last token, which is EOS
            losses = label_losses(logits, inputs["targets"], self.positive_weights)
        else:
            answers = model(**read, labels=inputs["labels"], fused_lm_head=True).log_probs  # (B, T − 1)
            losses = -answers.float().sum(dim=1)
        whole = inputs["weight"].sum() if num_items_in_batch is None else num_items_in_batch
        # DDP averages gradients over processes; `whole` already counts the weights of all of them.
        loss = (inputs["weight"] * losses).sum() / whole * self.accelerator.num_processes
        return (loss, {}) if return_outputs else loss


def label_losses(logits: Tensor, targets: Tensor, positive_weights: Tensor | None) -> Tensor:
    """Loss of each text in nats (B,): cross-entropy of one label, or the mean binary cross-entropy of several.

    Args:
        logits: (B, K) float32.
        targets: (B, K) float32, 1 for the labels of a text.
        positive_weights: (K,) for a multi-label task; None: exactly one label per text.
    """
    assert logits.shape == targets.shape
    if positive_weights is None:
        return -(targets * log_softmax(logits, dim=1)).sum(dim=1)
    weights = positive_weights.to(logits.device)
    return binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none").mean(dim=1)


def make_trainer(
    config: ClassifyConfig,
    session: Session,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    positive_weights: Tensor | None,
) -> LabelTrainer:
    """The trainer on encoded rows, adapter and head in float32."""
    arguments = trainer_arguments(session, config, compute_dtype(config.model.dtype, default_device()))
    if config.method == "verbalizer":
        causal: Any = model.get_base_model()
        add_fused_lm_head(causal)
    if config.model.activation_checkpointing:
        model.enable_input_require_grads()  # the frozen embeddings would end the graph at the first checkpoint
    with keep_adapters_float32(model):
        trainer = LabelTrainer(
            positive_weights=positive_weights,
            model=model,
            args=one_device(TrainingArguments(**arguments, remove_unused_columns=False)),
            train_dataset=Dataset.from_list(list(rows)),
            data_collator=TextCollator(int(tokenizer.pad_token_id)),
            processing_class=tokenizer,
            callbacks=[RunCallback(session, METRICS, keep_last=config.checkpoint.keep_last, description=config.method)],
        )
    trainer.remove_callback(PrinterCallback)
    return trainer
