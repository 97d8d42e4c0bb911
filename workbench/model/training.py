"""Shared by sft, reward and contrastive training, which each drive a TRL trainer.

TRL computes losses and steps. This file adds float32 adapters, atomic checkpoints under the run folder's names, metrics
through our tracker, and a progress bar.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator
from peft import PeftModel
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import IntervalStrategy

from workbench.model.base import default_device, full_size
from workbench.model.session import PhaseConfig, Session, on_sigterm
from workbench.run.checkpoints import prune_checkpoints, publish_checkpoint, publish_folder
from workbench.run.divergence import BASE, LOWER, diverged, require_finite, tensors_not_finite
from workbench.run.errors import Terminated, WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.progress import progress
from workbench.run.sections import CheckpointSection, OptimizerSection

STAGING = ".trainer"
"""Folder beside the checkpoints into which the trainer writes; complete ones are renamed out of it."""

MUST_BE_FINITE = {"loss", "grad_norm", "eval_loss"}
"""Metrics that are finite in every healthy run; others may be undefined for a batch."""


class TrainedConfig(PhaseConfig, Protocol):
    """The sections of a phase that a TRL trainer trains."""

    @property
    def train(self) -> OptimizerSection:
        """AdamW and its schedule."""

    @property
    def checkpoint(self) -> CheckpointSection:
        """How often to save."""


def trainer_arguments(
    session: Session, config: TrainedConfig, dtype: torch.dtype, *, seed: int | None = None
) -> dict[str, Any]:
    """The arguments that every TRL trainer gets.

    An optimizer step covers `train.batch_size` examples, shared among the processes.

    Args:
        session: the run.
        config: of the phase.
        dtype: of computation.
        seed: used instead of `run.seed` for a member of an ensemble.

    Raises:
        WorkbenchError: the micro-batches of all processes together do not divide the batch.
    """
    optimizer, checkpoint, processes = config.train, config.checkpoint, session.processes
    seed = config.run.seed if seed is None else seed
    size, at_once = optimizer.batch_size, optimizer.micro_batch_size * processes.number
    if size % at_once:
        fits = math.gcd(size // processes.number, optimizer.micro_batch_size) if size % processes.number == 0 else 0
        launched = f" × {processes.number} processes" if processes.number > 1 else ""
        raise WorkbenchError(
            "train.micro_batch_size",
            f"{optimizer.micro_batch_size}{launched} does not divide train.batch_size {size}",
            remedy=f"train.micro_batch_size={fits}" if fits else f"train.batch_size={-(-size // at_once) * at_once}",
        )
    return {
        "output_dir": str(session.folder.checkpoints / STAGING),
        "seed": seed,
        "data_seed": seed,
        "learning_rate": optimizer.lr,
        "lr_scheduler_type": optimizer.schedule,
        "warmup_steps": optimizer.warmup_share,
        "num_train_epochs": optimizer.epochs,
        "max_steps": optimizer.max_steps or -1,
        "per_device_train_batch_size": optimizer.micro_batch_size,
        "per_device_eval_batch_size": optimizer.micro_batch_size,
        "gradient_accumulation_steps": size // at_once,
        "weight_decay": optimizer.weight_decay,
        "max_grad_norm": optimizer.max_grad_norm,
        "adam_beta2": optimizer.adam_beta2,
        "adam_epsilon": optimizer.adam_eps,
        "optim": optimizer.optimizer,
        "logging_strategy": IntervalStrategy.STEPS,
        "logging_steps": config.tracking.log_every,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # it would log a loss of NaN as the mean of the losses before it
        "save_strategy": IntervalStrategy.STEPS if checkpoint.every else IntervalStrategy.NO,
        "save_steps": checkpoint.every or 500,
        "gradient_checkpointing": config.model.activation_checkpointing,
        "bf16": dtype == torch.bfloat16,
        "use_cpu": default_device().type == "cpu",
        "report_to": "none",
        "disable_tqdm": True,
        "include_num_input_tokens_seen": "non_padding",  # part of a checkpoint, unlike TRL's own counter
        "dataloader_num_workers": 0,
    }


def weight_of_batch(micro_batches: Sequence[Any], device: torch.device, accelerator: Accelerator) -> Tensor | None:
    """Sum of the rows' weights over the micro-batches of a step and all processes; None without a micro-batch."""
    if not micro_batches:
        return None
    total = torch.stack([batch["weight"].sum() for batch in micro_batches]).sum().to(device)
    return accelerator.gather(total).sum()


def warmup_steps(share: float, steps: int) -> int:
    """⌈share · steps⌉ of a run's optimizer steps; 0 in a run of one step, which would have a learning rate of 0."""
    return math.ceil(share * steps) if steps > 1 else 0


class WarmUpTrainer(Trainer):
    """A trainer whose `warmup_steps` is a share of the steps also where it is 1, which Trainer takes for one step."""

    def create_scheduler(self, num_training_steps: int, *arguments: Any, **options: Any) -> Any:
        """The schedule of the learning rate, with our own number of warm-up steps."""
        share = self.args.warmup_steps
        self.args.warmup_steps = warmup_steps(share, num_training_steps)
        try:
            return super().create_scheduler(num_training_steps, *arguments, **options)
        finally:
            self.args.warmup_steps = share


ArgumentsT = TypeVar("ArgumentsT", bound=TrainingArguments)


def one_device(arguments: ArgumentsT) -> ArgumentsT:
    """The arguments for one device per process.

    With several visible GPUs and a single process, a Trainer would use `DataParallel` and multiply the micro-batch.
    """
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


@contextlib.contextmanager
def keep_adapters_float32(model: torch.nn.Module) -> Iterator[None]:
    """Construct a trainer in the body: trainers cast a 4-bit model's adapters to bfloat16, and this undoes it exactly.

    A bfloat16 LoRA weight rounds most of an update away at usual learning rates; resuming casts back to float32, so
    that a resumed run would differ; and a DPO policy rounded once no longer equals its reference.
    """
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    yield
    for name, parameter in model.named_parameters():
        if name in before:
            parameter.data = before[name]


def weigh_last(lists: dict[str, list[float]], totals: dict[str, float], weights: Mapping[str, float]) -> None:
    """Fold the last micro-batch's metrics into a mean over items. TRL's trainers take the mean of micro-batch means.

    Args:
        lists: metric → what the trainer has collected since the last row of the log: the mean so far, and the last
            micro-batch's value appended. Each becomes a single mean.
        totals: metric → items that its mean so far rests on; kept by the caller.
        weights: metric → items of the last micro-batch; metrics that it did not add to are not named.
    """
    for name, weight in weights.items():
        values = lists[name]
        if len(values) > 1:
            mean, last = values
            total = totals[name] + weight
            values[:] = [(mean * totals[name] + last * weight) / total if total else last]
            totals[name] = total
        else:
            totals[name] = weight


class RunCallback(TrainerCallback):
    """Publishes checkpoints atomically, sends metrics to the tracker, and shows the progress.

    Args:
        session: the run; only its first process writes and prints.
        names: trainer's name → ours, such as `loss` → `sft/loss`; other metrics are dropped.
        keep_last: checkpoints to keep.
        description: of the progress bar.
    """

    def __init__(self, session: Session, names: dict[str, str], *, keep_last: int, description: str) -> None:
        self.session, self.names, self.keep_last = session, names, keep_last
        self.description = description
        self._bar: Any = None
        self._terminated = False
        self._handlers = contextlib.ExitStack()

    def _finish_step_first(self, *_: object) -> None:
        """First SIGTERM: finish the step and save it. Second one: stop at once."""
        if self._terminated:
            raise Terminated
        self._terminated = True

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the bar at the step that the run continues from."""
        if (
            self.session.processes.number == 1
        ):  # several processes would stop at different steps and wait for each other
            self._handlers.enter_context(on_sigterm(self._finish_step_first))
        self._bar = progress(
            total=state.max_steps,
            initial=state.global_step,
            description=self.description,
            unit="step",
            quiet=not self.session.processes.first,
        )

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **found: Any
    ) -> None:
        """Stop before weights are changed by a gradient that is not finite."""
        gradients = [p.grad for p in found["model"].parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if not math.isfinite(norm):
            moment = f"in step {state.global_step + 1}"
            remedy = LOWER if state.global_step else f"{BASE}; or {LOWER}"
            raise diverged(self.session.folder, moment, f"the norm of the gradient is {norm}", remedy=remedy)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Advance the bar; save after this step if SIGTERM has arrived."""
        self._bar.update(state.global_step - self._bar.n)
        control.should_save = control.should_save or self._terminated

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        self._handlers.close()
        self._bar.close()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Send the metrics that `names` lists, and stop a run whose metrics are not finite."""
        if "train_loss" in (logs or {}):  # the summary at the end repeats the token count
            return
        metrics = {self.names[k]: v for k, v in (logs or {}).items() if k in self.names and v is not None}
        if metrics:
            self.session.tracker.log(metrics, state.global_step)
            figures = {
                self.names[k]: float(v) for k, v in (logs or {}).items() if k in MUST_BE_FINITE & self.names.keys()
            }
            require_finite(self.session.folder, f"in step {state.global_step}", figures)
            if self._bar is not None and "loss" in (logs or {}):
                self._bar.set_postfix_str(f"loss {float((logs or {})['loss']):.3f}")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Give the finished checkpoint its name, once every process has written its part of it."""
        step, folder = state.global_step, self.session.folder.checkpoints
        written = Path(str(args.output_dir)) / f"checkpoint-{step}"
        self.session.processes.wait()
        if self.session.processes.first:
            publish_checkpoint(written, folder, step)
            prune_checkpoints(folder, self.keep_last)
        if self._terminated:
            self._handlers.close()
            raise Terminated


def save_trained_adapter(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, without: str | None = None
) -> None:
    """Write the adapter that a trainer trained, in plain peft format with the tokenizer, atomically.

    Args:
        model: with the adapter `default`.
        tokenizer: saved beside it.
        folder: where to.
        without: substring of the names of weights that only training needs.

    Raises:
        WorkbenchError: the weights are not finite.
    """

    def write(hidden: Path) -> None:
        model.save_pretrained(str(hidden), selected_adapters=["default"])
        if without is not None:
            file = hidden / SAFETENSORS_WEIGHTS_NAME
            save_file({name: weight for name, weight in load_file(file).items() if without not in name}, file)
        if bad := tensors_not_finite(hidden / SAFETENSORS_WEIGHTS_NAME):
            raise diverged(RunFolder(folder.parent), "at its end", f"{len(bad)} weights are not finite")
        tokenizer.save_pretrained(str(hidden))

    publish_folder(folder, write)


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Trainable parameters, and frozen ones (of an NF4 weight: the number before quantisation)."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trainable, sum(full_size(p) for p in model.parameters() if not p.requires_grad)
