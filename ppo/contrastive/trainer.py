"""A transformers Trainer over preference pairs: one forward pass of both responses, and any loss of `losses.py`.

TRL 1.16's DPOTrainer has neither weights nor margins, ignores label smoothing in its default loss, runs the reference
at each step, and averages metrics over micro-batches of unequal size. Its LM head in tiles, which makes no (B, T, V)
tensor, is used here. Shapes: B = pairs of a micro-batch, T = tokens of a row.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainingArguments
from trl.trainer.utils import add_fused_lm_head

from ppo.config import ContrastiveConfig
from ppo.contrastive.data import Row, column, in_order
from ppo.contrastive.losses import METHODS, WITHOUT_REFERENCE, PairLogprobs, chosen_nll, pair_losses
from workbench.model.masks import pad_rows
from workbench.model.precision import LOGPROB_LIMITS
from workbench.model.roles import PeftModel
from workbench.model.session import Session
from workbench.model.training import RunCallback, keep_adapters_float32, one_device, trainer_arguments
from workbench.run.errors import WorkbenchError

LABELS = ("target", "margin", "weight", "difficulty", "reference_chosen", "reference_rejected")
"""Numbers of a pair."""

METRICS = {
    "loss": "contrastive/loss",
    "learning_rate": "contrastive/learning_rate",
    "grad_norm": "contrastive/grad_norm",
    "accuracy": "contrastive/accuracy",
    "gap": "contrastive/margin",
    "chosen_logprob": "contrastive/chosen_logprob",
    "rejected_logprob": "contrastive/rejected_logprob",
    "difficulty": "contrastive/difficulty",
}
"""What the trainer logs → what we call it."""


@dataclass(frozen=True)
class PairCollator:
    """Pads pairs: the B chosen rows first, then the B rejected ones."""

    pad_token_id: int

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask`, `labels` (2B, T), the labels −100 outside the response; `LABELS` (B,) each."""
        sides = [(row["prompt_ids"], row[f"{side}_ids"]) for side in ("chosen", "rejected") for row in rows]
        ids, mask = pad_rows([[*prompt, *response] for prompt, response in sides], self.pad_token_id)
        steps = torch.arange(ids.shape[1])
        prompt_tokens = torch.tensor([len(prompt) for prompt, _ in sides]).unsqueeze(1)
        labels = ids.masked_fill(~mask | (steps < prompt_tokens), -100)
        numbers = {name: column(rows, name) for name in LABELS}
        return {"input_ids": ids, "attention_mask": mask.long(), "labels": labels, **numbers}


class PairTrainer(Trainer):
    """Trains the adapter `default` on pairs with one of `losses.METHODS`.

    Args:
        config: of the phase; its `method` and `loss` are read.
        options: Trainer's.
    """

    loss_is_scaled_for_ga = True  # `compute_loss` divides by the pairs of the whole batch

    def __init__(self, config: ContrastiveConfig, model: PeftModel, **options: Any) -> None:
        self.method, self.section = config.method, config.loss
        self.ordered = config.curriculum.schedule != "mixed"
        self._sums: Counter[str] = Counter()
        super().__init__(model=model, **options)
        self.model_accepts_loss_kwargs = True  # what earlier releases of transformers read instead
        causal: Any = model.get_base_model()
        add_fused_lm_head(causal)
        self._dtype: torch.dtype = causal.get_input_embeddings().weight.dtype

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        pairs = torch.tensor(sum(len(batch["weight"]) for batch in batch_samples), device=device)
        return self.accelerator.gather(pairs).sum() if batch_samples else None

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return SequentialSampler(rows) if self.ordered else super()._get_train_sampler(rows)

    def logprobs(self, model: nn.Module, inputs: Any) -> PairLogprobs:
        """One forward pass over both responses of each pair."""
        labels = inputs["labels"]
        read = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        of_tokens = model(**read, labels=labels, fused_lm_head=True).log_probs  # (2B, T − 1), 0 outside the responses
        chosen, rejected = of_tokens.float().sum(dim=1).chunk(2)
        chosen_tokens, rejected_tokens = (labels != -100).sum(dim=1).float().chunk(2)
        reference = (inputs["reference_chosen"], inputs["reference_rejected"])
        return PairLogprobs(chosen, rejected, *reference, chosen_tokens, rejected_tokens)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Σ w · loss / (pairs of the whole batch), so that accumulating micro-batches equals one large batch."""
        pairs, section = self.logprobs(model, inputs), self.section
        if self.state.global_step == 0 and self.method not in WITHOUT_REFERENCE:
            self._check_start(pairs)
        losses = pair_losses(
            self.method,
            pairs,
            beta=section.beta,
            targets=inputs["target"],
            margins=inputs["margin"],
            length_coef=section.length_coef,
        )
        if section.sft_coef:
            losses = losses + section.sft_coef * chosen_nll(pairs)
        self._note(pairs, inputs["difficulty"])
        whole = len(losses) if num_items_in_batch is None else num_items_in_batch
        loss = (inputs["weight"] * losses).sum() / whole * self.accelerator.num_processes
        return (loss, {}) if return_outputs else loss

    def _check_start(self, pairs: PairLogprobs) -> None:
        """Before the first step the policy is the reference: implicit rewards are 0 up to rounding.

        Raises:
            WorkbenchError: they are not.
        """
        tokens = torch.cat([pairs.chosen_tokens, pairs.rejected_tokens])
        apart = torch.cat([pairs.chosen_logratio, pairs.rejected_logratio]).detach().abs() / tokens
        limit = LOGPROB_LIMITS[self._dtype].mean
        if not float(apart.mean()) <= limit:
            raise WorkbenchError(
                "self-check policy = reference",
                f"before the first step they differ by {float(apart.mean()):.3g} nats per token on average",
                expected=f"rounding, at most {limit:.3g}: both are the start adapter",
                remedy="look for a dropout in the base's configuration; or try model.dtype=float32",
            )

    def _note(self, pairs: PairLogprobs, difficulty: Tensor) -> None:
        """Add this micro-batch of all processes to the sums between two rows of the log."""
        gaps = METHODS[self.method][0](pairs, self.section.beta).detach()
        sums = {
            "pairs": torch.tensor(float(len(gaps)), device=gaps.device),
            "accuracy": (gaps > 0).float().sum(),
            "gap": gaps.sum(),
            "chosen_logprob": pairs.chosen.detach().sum(),
            "rejected_logprob": pairs.rejected.detach().sum(),
            "difficulty": difficulty.sum(),
        }
        here = self.accelerator.gather(torch.stack(list(sums.values()))).view(-1, len(sums)).sum(dim=0)
        self._sums.update(dict(zip(sums, here.tolist(), strict=True)))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With the means over all pairs since the last row."""
        if pairs := self._sums.pop("pairs", 0):
            logs |= {name: total / pairs for name, total in self._sums.items()}
            self._sums.clear()
        super().log(logs, start_time)


def make_trainer(
    config: ContrastiveConfig,
    session: Session,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
) -> PairTrainer:
    """The trainer on rows with their reference, its adapter in float32."""
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
    if config.curriculum.schedule != "mixed":
        rows = in_order(list(rows), config)
        arguments["num_train_epochs"] = 1  # the rows are all draws of the run
    if config.model.activation_checkpointing:
        model.enable_input_require_grads()  # the frozen embeddings would end the graph at the first checkpoint
    callback = RunCallback(session, METRICS, keep_last=config.checkpoint.keep_last, description=config.method)
    with keep_adapters_float32(model):
        trainer = PairTrainer(
            config,
            model,
            args=one_device(TrainingArguments(**arguments, remove_unused_columns=False)),
            train_dataset=Dataset.from_list(list(rows)),
            data_collator=PairCollator(tokenizer.pad_token_id),
            processing_class=tokenizer,
            callbacks=[callback],
        )
    trainer.remove_callback(PrinterCallback)
    return trainer
