"""Where answers come from: a finished run, an adapter or checkpoint inside one. Knows folders, opens no model."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from workbench.run.checkpoints import latest_checkpoint
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

ADAPTER = "adapter_model.safetensors"
STATE = "state.pt"
"""What a checkpoint of ppo holds: the adapters of policy and value, among other things."""


@dataclass(frozen=True)
class Source:
    """Weights of one policy."""

    run: RunFolder
    """Whose base, and whose shape of adapter."""
    weights: Path
    """A peft adapter file, or the state of a ppo checkpoint."""

    @property
    def name(self) -> str:
        """The run, or the folder of the weights within it."""
        finished = self.weights.parent == self.run.adapter
        return str(self.run.path if finished else self.weights.parent)

    @property
    def mark(self) -> str:
        """Changes when other weights take the place of these."""
        found = self.weights.stat()
        seen = f"{self.weights}\x1f{found.st_mtime_ns}\x1f{found.st_size}\x1f{found.st_ino}"
        return hashlib.sha256(seen.encode()).hexdigest()[:16]


def locate(place: str | Path) -> Source:
    """The policy of a finished run, or of an adapter folder or checkpoint inside a run.

    Raises:
        WorkbenchError: nothing is there, or it lies in no run (then its base is not known).
    """
    path = Path(place)
    if (path / "run.json").is_file():
        run = RunFolder.open(path).require_finished()
        return Source(run, _weights(run.adapter))
    run_path = next((parent for parent in path.absolute().parents if (parent / "run.json").is_file()), None)
    if run_path is None:
        raise WorkbenchError(
            path,
            "is no run, and lies in no run folder",
            expected="a run folder (with run.json), or an adapter or checkpoint folder inside one",
            remedy="give the folder that sft or ppo wrote",
        )
    return Source(RunFolder.open(run_path), _weights(path))


def newest(place: str | Path) -> Source | None:
    """The newest weights of a run that may still be training: its adapter, else its newest checkpoint, else None.

    Raises:
        WorkbenchError: there is no run.
    """
    run = RunFolder.open(place)
    if run.finished:
        return Source(run, _weights(run.adapter))
    checkpoint = latest_checkpoint(run.checkpoints)
    return None if checkpoint is None else Source(run, _weights(checkpoint))


def _weights(folder: Path) -> Path:
    for name in (ADAPTER, STATE):
        if (folder / name).is_file():
            return folder / name
    raise WorkbenchError(
        folder,
        f"holds no adapter ({ADAPTER}) and no checkpoint of ppo ({STATE})",
        expected="the adapter/ folder of a run, or one of its checkpoints",
    )
