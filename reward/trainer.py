"""TRL's RewardTrainer over whole prompt groups, with a loss that reads strengths, ties and weights.

One element of a batch is a prompt with all its answers and the comparisons between them (Ouyang et al. 2022,
arXiv:2203.02155, section 3.5), so each answer has one forward pass, however many pairs it is in.

Shapes: A = answers of a batch, T = tokens of the longest row, N = comparisons of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers.tokenization_utils_base import BatchEncoding
from trl import RewardTrainer

from reward.config import LossSection
from reward.data import LABELS
from reward.head import ScoreHead
from reward.loss import bradley_terry_log_likelihood, ordinal_log_likelihood
from workbench.model.masks import pad_rows
from workbench.model.training import WarmUpTrainer, weigh_last, weight_of_batch

THRESHOLD_LR = 0.01
"""Learning rate of the thresholds: about 0.01 logits per step, from a start that explains how often levels occur."""
SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class Comparisons:
    """Collates prompt groups: the rows of all their answers, and which of them were compared."""

    pad_token_id: int

    def __call__(self, groups: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` (A, T); `chosen`, `rejected` (N,) indices of rows; the other labels (N,)."""
        rows: list[list[int]] = []
        pairs: dict[str, list[float]] = {name: [] for name in LABELS}
        for group in groups:
            for name in LABELS:
                first = len(rows) if name in SIDES else 0  # indices within a group become indices of the batch's rows
                pairs[name] += [first + value for value in group[name]]
            rows += group["ids"]
        ids, mask = pad_rows(rows, self.pad_token_id)
        index = {side: torch.tensor(pairs[side], dtype=torch.int64) for side in SIDES}
        values = {name: torch.tensor(pairs[name], dtype=torch.float32) for name in LABELS if name not in SIDES}
        return {"input_ids": ids, "attention_mask": mask.long(), **index, **values}


class ComparisonTrainer(WarmUpTrainer, RewardTrainer):
    """RewardTrainer over prompt groups.

    Args:
        loss: which likelihood is maximised, and the weight of centring (Eisenstein et al. 2023, arXiv:2312.09244).
        options: RewardTrainer's.
    """

    loss_is_scaled_for_ga = True  # `compute_loss` divides by the weight of the whole batch

    def __init__(self, *, loss: LossSection, **options: Any) -> None:
        self.loss = loss
        self._items: dict[str, float] = {}
        super().__init__(**options)
        self.model_accepts_loss_kwargs = True  # earlier releases of transformers read this attribute instead

    @property
    def _trained(self) -> nn.Module:
        assert isinstance(self.model, nn.Module)
        return self.model

    @property
    def head(self) -> ScoreHead:
        """The head being trained."""
        (head,) = (
            module
            for name, module in self._trained.named_modules()
            if isinstance(module, ScoreHead) and "original_module" not in name
        )
        return head

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns: Any = ["ids", *LABELS]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Give the thresholds a learning rate of their own."""
        raw = self.head.raw_thresholds
        raw.requires_grad_(False)  # RewardTrainer puts every trainable parameter into its own groups
        optimizer = super().create_optimizer(model)
        raw.requires_grad_(True)
        if self.loss.kind == "ordinal" and raw.numel():
            optimizer.add_param_group({"params": [raw], "lr": THRESHOLD_LR, "weight_decay": 0.0})
        return optimizer

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        return weight_of_batch(batch_samples, device, self.accelerator)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor] | BatchEncoding,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Σ w · loss / (weight of the whole batch), so that accumulating micro-batches equals one large batch."""
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        scores = outputs.logits.squeeze(-1)  # (A, 1) → (A,)
        chosen, rejected = scores[inputs["chosen"]], scores[inputs["rejected"]]  # (N,) each
        gaps, weight, targets = (chosen - rejected).float(), inputs["weight"], inputs["probability"]  # (N,) each
        if self.loss.kind == "ordinal":
            thresholds = self.head.thresholds  # (S,)
            losses = -ordinal_log_likelihood(gaps, inputs["level"], thresholds, targets=targets)  # (N,)
        else:
            losses = -bradley_terry_log_likelihood(gaps, targets=targets)
        if self.loss.center_coef:
            losses = losses + self.loss.center_coef * (chosen + rejected) ** 2
        self._note(inputs, gaps.detach(), scores.detach())
        total = weight.sum() if num_items_in_batch is None else num_items_in_batch
        # DDP averages gradients over processes; `total` already counts the weights of all of them.
        loss = (weight * losses).sum() / total * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _note(self, inputs: dict[str, Tensor] | BatchEncoding, gaps: Tensor, scores: Tensor) -> None:
        """Add this batch to TRL's running metrics: means over the pairs or answers of all processes."""
        metrics = self._metrics["train" if self._trained.training else "eval"]
        decided = gaps[inputs["level"] > 0]  # a tie has no right order
        sums = torch.stack(
            (
                (decided > 0).float().sum(),
                decided.sum(),
                gaps.new_tensor(len(decided)),
                scores.float().sum(),
                gaps.new_tensor(len(scores)),
            )
        )
        right, margins, pairs, raw, answers = self.accelerator.gather(sums).view(-1, 5).sum(dim=0).tolist()
        totals = {"mean_reward": (raw, answers)}
        if pairs:
            totals |= {"accuracy": (right, pairs), "margin": (margins, pairs)}
        for name, (total, count) in totals.items():
            metrics[name].append(total / count)
        weigh_last(metrics, self._items, {name: count for name, (_, count) in totals.items()})
        if self.loss.kind == "ordinal":
            metrics["first_threshold"] = [float(self.head.thresholds[0].detach())]
