"""TRL's RewardTrainer, given whole prompt groups, and a loss that reads strengths, ties and weights.

One element of a batch is a prompt with all its answers and the comparisons between them (Ouyang et al. 2022,
arXiv:2203.02155, section 3.5): each answer is read once however many pairs it is in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers.tokenization_utils_base import BatchEncoding
from trl import RewardTrainer

from reward.data import LABELS
from reward.head import ScoreHead
from reward.loss import bradley_terry_log_likelihood, ordinal_log_likelihood, smoothed
from workbench.model.masks import pad_rows
from workbench.model.training import weigh_last

THRESHOLD_LR = 0.01
"""Learning rate of the thresholds, about logits a step: they start from how often each level occurs."""


SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class Comparisons:
    """Collates prompt groups: the rows of all their answers, and which were compared."""

    pad_token_id: int

    def __call__(self, groups: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` (answers, T); `chosen`, `rejected` (N,) rows; (N,) each of the other labels."""
        rows: list[list[int]] = []
        pairs: dict[str, list[float]] = {name: [] for name in LABELS}
        for group in groups:
            for name in LABELS:
                first = len(rows) if name in SIDES else 0
                pairs[name] += [first + value for value in group[name]]
            rows += group["ids"]
        ids, mask = pad_rows(rows, self.pad_token_id)
        index = {side: torch.tensor(pairs[side], dtype=torch.int64) for side in SIDES}
        values = {name: torch.tensor(pairs[name], dtype=torch.float32) for name in LABELS if name not in SIDES}
        return {"input_ids": ids, "attention_mask": mask.long(), **index, **values}


class ComparisonTrainer(RewardTrainer):
    """RewardTrainer over prompt groups.

    Args:
        loss: `ordinal` or `bradley_terry`.
        margin: of the Bradley-Terry loss, in logits for each level of strength.
        label_smoothing: assumed share of labels that name the wrong side.
        center_coef: weight of (r_chosen + r_rejected)², which keeps raw scores near 0 (Eisenstein et al. 2023,
            arXiv:2312.09244).
        options: RewardTrainer's.
    """

    loss_is_scaled_for_ga = True  # `compute_loss` divides by the weight of the whole batch

    def __init__(self, *, loss: str, margin: float, label_smoothing: float, center_coef: float, **options: Any) -> None:
        self.loss, self.margin, self.label_smoothing, self.center_coef = loss, margin, label_smoothing, center_coef
        self._items: dict[str, float] = {}
        super().__init__(**options)
        self.model_accepts_loss_kwargs = True  # what earlier releases of transformers read instead

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
        raw.requires_grad_(False)
        optimizer = super().create_optimizer(model)
        raw.requires_grad_(True)
        if self.loss == "ordinal" and raw.numel():
            optimizer.add_param_group({"params": [raw], "lr": THRESHOLD_LR, "weight_decay": 0.0})
        return optimizer

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        if not batch_samples:
            return None
        total = torch.stack([batch["weight"].sum() for batch in batch_samples]).sum().to(device)
        return self.accelerator.gather(total).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor] | BatchEncoding,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Σ w · loss / (weight of the whole batch), so that accumulating micro-batches equals one large batch."""
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        scores = outputs.logits.squeeze(-1)
        chosen, rejected = scores[inputs["chosen"]], scores[inputs["rejected"]]
        gaps, level, weight = (chosen - rejected).float(), inputs["level"], inputs["weight"]
        targets = smoothed(inputs["probability"], self.label_smoothing)
        if self.loss == "ordinal":
            losses = -ordinal_log_likelihood(gaps, level, self.head.thresholds, targets=targets)
        else:
            losses = -bradley_terry_log_likelihood(gaps, margins=self.margin * level, targets=targets)
        if self.center_coef:
            losses = losses + self.center_coef * (chosen + rejected) ** 2
        self._note(inputs, gaps.detach(), scores.detach())
        whole = weight.sum() if num_items_in_batch is None else num_items_in_batch
        loss = (weight * losses).sum() / whole * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _note(self, inputs: dict[str, Tensor] | BatchEncoding, gaps: Tensor, scores: Tensor) -> None:
        """TRL's running metrics between two rows of the log: means over pairs, or answers, of all processes."""
        metrics = self._metrics["train" if self._trained.training else "eval"]
        decided = gaps[inputs["level"] > 0]
        here = torch.stack(
            (
                (decided > 0).float().sum(),
                decided.sum(),
                gaps.new_tensor(len(decided)),
                scores.float().sum(),
                gaps.new_tensor(len(scores)),
            )
        )
        right, margins, pairs, raw, answers = self.accelerator.gather(here).view(-1, 5).sum(dim=0).tolist()
        found = {"mean_reward": (raw, answers)}
        if pairs:
            found |= {"accuracy": (right, pairs), "margin": (margins, pairs)}
        for name, (total, count) in found.items():
            metrics[name].append(total / count)
        weigh_last(metrics, self._items, {name: count for name, (_, count) in found.items()})
        if self.loss == "ordinal":
            metrics["first_threshold"] = [float(self.head.thresholds[0].detach())]
