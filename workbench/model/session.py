"""How a run opens: the steps that sft, reward, contrastive training and PPO share, in one order.

    setup = prepare(config)                        # threads, seed, start run, base, tokenizer
    data = …                                       # the phase reads and encodes its files
    session = open_session(setup, config, "sft", …)  # folder, lineage, tracker
    if not session.finished:
        with session.running(): …                  # train; the end of the body sets the run's status
    setup.processes.close()

With several processes (`accelerate launch`), the first creates and writes the folder; the others wait.
"""

import contextlib
import gc
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedTokenizerBase

from workbench.data.embedded import resolve_data
from workbench.data.rules import RowRules
from workbench.data.template import template_hash
from workbench.lineage.trace import annotators_by_file
from workbench.model.base import BaseSpec, load_tokenizer
from workbench.model.open import base_of
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.privacy.audit import NAME as MASKED
from workbench.run.checkpoints import full_disk_explained, latest_checkpoint
from workbench.run.config import Section
from workbench.run.errors import WorkbenchError, terminate
from workbench.run.folder import RunFolder
from workbench.run.parents import record_lineage
from workbench.run.sections import BaseSection, ModelSection, RunSection, StartSection, TrackingSection
from workbench.run.tracking import NoTracker, Tracker


class PhaseConfig(Protocol):
    """The sections that every phase has."""

    @property
    def run(self) -> RunSection:
        """Folder, seed, threads."""

    @property
    def model(self) -> BaseSection | StartSection:
        """A base, or a run to start from."""

    @property
    def tracking(self) -> TrackingSection:
        """Where metrics are sent."""


@dataclass(frozen=True)
class Setup:
    """Everything that is known before a phase reads its data."""

    processes: Processes
    start: RunFolder | None
    """The run whose adapter is copied; None for a phase that starts from a base."""
    spec: BaseSpec
    tokenizer: PreTrainedTokenizerBase

    def files(self, names: Mapping[str, str | None]) -> dict[str, Path]:
        """Paths of the named data files. The first process writes the files of the embedded default."""
        return self.processes.on_first(
            lambda: {key: resolve_data(name) for key, name in names.items() if name is not None}
        )


@dataclass(frozen=True)
class Session:
    """An open run."""

    folder: RunFolder
    processes: Processes
    tracker: Tracker | NoTracker
    checkpoint: Path | None = None
    """The checkpoint that a resumed run continues from; None for a new run."""

    @property
    def finished(self) -> bool:
        """Whether the run finished earlier, so that nothing is left to do."""
        return self.folder.finished

    @property
    def resume_from(self) -> str | None:
        """The checkpoint as TRL's trainers take it."""
        return str(self.checkpoint) if self.checkpoint else None

    def say(self, text: str) -> None:
        """Print a line about the run, once."""
        if self.processes.first:
            print(f"{self.folder.path}: {text}", flush=True)

    def base_loaded(self, setup: Setup, roles: Roles, section: ModelSection) -> None:
        """Print and record which kernels train, and what the base is (a base from the hub is on disk only now).

        Raises:
            WorkbenchError: `model.kernels=cpu`, and they do not apply.
        """
        reason = roles.reason_for_modules(activation_checkpointing=section.activation_checkpointing)
        if section.kernels == "cpu" and reason is not None:
            raise WorkbenchError(
                "model.kernels",
                f"the CPU kernels do not apply to this run: {reason}",
                expected="a Llama in float32 on a CPU, without dropout and activation checkpointing",
                remedy="model.kernels=auto",
            )
        self.say("kernels: cpu" if reason is None else f"kernels: modules ({reason})")
        if self.processes.first:
            spec = setup.spec if setup.spec.fingerprint else setup.spec.identified()
            opened = spec.opened() | {"kernels": "cpu" if reason is None else "modules"}
            self.folder.update_record(base=spec.as_record(), opened=opened)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Train in the body. How the body ends sets the run's status; SIGTERM stops it as Ctrl-C does."""
        with on_sigterm(terminate), full_disk_explained(self.folder.path), self.tracker:
            yield
        self.processes.wait()


@contextlib.contextmanager
def on_sigterm(handler: Callable[..., object]) -> Iterator[None]:
    """Handle SIGTERM, which clusters send before they kill, in the body."""
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def prepare(config: PhaseConfig, *, seed: int | None = None) -> Setup:
    """Set threads and seed, open the start run, name its base and load the tokenizer.

    Args:
        config: the phase's configuration.
        seed: used instead of `run.seed` for a member of an ensemble.

    Raises:
        WorkbenchError: no base is named; the start run is missing, unfinished, or its base has changed.
    """
    if not gc.get_freeze_count():
        gc.freeze()  # a trainer collects garbage three times; looking at all modules took it a second each
    processes = Processes()
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    torch.manual_seed(config.run.seed if seed is None else seed)
    start = None
    section, start_run = config.model, getattr(config.model, "start", None)  # sft starts from a base or from a run
    if start_run is not None:
        start = RunFolder.open(start_run, phase=("sft", "ppo")).require_finished()
        spec = replace(base_of(start, section.base), kernels=section.kernels)
    elif section.base is None:
        raise WorkbenchError("model.base", "has no value", expected="`tiny`, a local folder, or a hub id")
    else:
        assert not isinstance(section, StartSection)
        spec = BaseSpec(
            section.base,
            section.revision,
            section.quantise,
            section.dtype,
            pad_token=section.pad_token,
            kernels=section.kernels,
        )
    if torch.cuda.device_count() > 1 and processes.number == 1:
        print(
            f"{torch.cuda.device_count()} GPUs are visible, but only one is used; `accelerate launch` uses all (README)"
        )
    return Setup(processes, start, spec, load_tokenizer(spec.name, spec.revision, spec.pad_token))


def open_session(
    setup: Setup,
    config: PhaseConfig,
    phase: str,
    *,
    resume: bool,
    parents: Mapping[str, str],
    files: Mapping[str, Path],
    rules: RowRules,
    last_row: Callable[[int], int] = lambda step: step,
    **record: Any,
) -> Session:
    """Create or reopen the run folder, record the run's parents and data, and start the tracker.

    Args:
        setup: from `prepare`.
        config: the phase's configuration, written to the folder.
        phase: sft, reward or ppo.
        resume: continue the run that the folder holds.
        parents: role → run folder.
        files: name → data file.
        rules: holds the rows that were left out, which are listed in the folder.
        last_row: step of a checkpoint → step of the last row of metrics that was logged before it; later rows are
            dropped on a resume, since the run logs them again.
        record: further fields of run.json.

    Raises:
        WorkbenchError: the folder holds another run, another configuration, or a run and no `resume`.
    """
    assert isinstance(config, Section)
    values, processes = config, setup.processes
    folder = processes.on_first(
        lambda: RunFolder.create(
            config.run.dir, phase=phase, config=values, overwrite=config.run.overwrite, resume=resume
        )
    )
    checkpoint = latest_checkpoint(folder.checkpoints) if resume else None
    session = Session(folder, processes, NoTracker(), checkpoint)
    if session.finished:
        session.say(f"this {record.get('method', phase)} run is finished already")
    if session.finished or not processes.first:
        return session
    rules.write_left_out(folder.path)
    rules.write_masked(folder.path / MASKED)
    spec = setup.spec if setup.spec.fingerprint else setup.spec.identified()
    record_lineage(
        folder,
        parents=parents,
        data=files,
        annotators=annotators_by_file(files),
        base=spec.as_record(),
        opened=spec.opened(),
        chat_template=template_hash(setup.tokenizer),
        processes=processes.number,
        **{"seed": config.run.seed, **record},
    )
    if resume:  # before the tracker opens the files
        folder.rewind_rows(last_row(int(checkpoint.name.removeprefix("step-"))) if checkpoint else -1)
    tracking = config.tracking
    tracker = Tracker(folder, project=tracking.project, mode=tracking.wandb, config=values.model_dump(mode="json"))
    return Session(folder, processes, tracker, checkpoint)
