"""Where answers come from: a finished run, or an adapter or checkpoint inside one. Opens no model."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.run.checkpoints import latest_checkpoint
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True)
class Source:
    """Weights of one policy."""

    run: RunFolder
    """The run that they belong to; it names the base."""
    adapter: Path
    """A folder in peft's format."""

    @property
    def weights(self) -> Path:
        """The file of the adapter's weights."""
        return self.adapter / ADAPTER

    @property
    def name(self) -> str:
        """The run or the checkpoint."""
        return str(self.adapter.parent if self.adapter.name == "adapter" else self.adapter)

    @property
    def mark(self) -> str:
        """A hash that changes when the weights are replaced."""
        found = self.weights.stat()
        seen = f"{self.weights}\x1f{found.st_mtime_ns}\x1f{found.st_size}\x1f{found.st_ino}"
        return hashlib.sha256(seen.encode()).hexdigest()[:16]


def locate(folder: str | Path) -> Source:
    """The policy of a finished run, or of an adapter folder or checkpoint inside a run.

    Raises:
        WorkbenchError: there is no adapter, or the folder is not inside a run, so that the base is unknown.
    """
    path = Path(folder)
    if (path / "run.json").is_file():
        run = RunFolder.open(path).require_finished()
        return Source(run, _adapter_in(run.adapter))
    run_path = next((parent for parent in path.absolute().parents if (parent / "run.json").is_file()), None)
    if run_path is None:
        raise WorkbenchError(
            path,
            "is not a run folder, nor inside one",
            expected="a run folder (with run.json), or an adapter or checkpoint folder inside one",
            remedy="give the folder that sft or ppo wrote",
        )
    return Source(RunFolder.open(run_path), _adapter_in(path))


def check_one_base(sources: Sequence[Source], *, remedy: str | None = None) -> None:
    """Check that runs share one base; `remedy`: what to do with a run on another one.

    Raises:
        WorkbenchError: names the first run on another base.
    """
    bases = [source.run.record()["base"] for source in sources]
    for source, base in zip(sources, bases, strict=True):
        if any(base.get(field) != bases[0].get(field) for field in ("fingerprint", "quantise")):
            raise WorkbenchError(
                source.name,
                f"its base is {base['name']} ({base['quantise']}), that of {sources[0].name} is {bases[0]['name']} "
                f"({bases[0]['quantise']})",
                expected="runs on one base: adapters share it",
                remedy=remedy,
            )


def newest(run_folder: str | Path) -> Source | None:
    """The newest weights of a run that may still be training: its adapter, or else its newest checkpoint, if any.

    Raises:
        WorkbenchError: there is no run.
    """
    run = RunFolder.open(run_folder)
    if run.finished:
        return Source(run, _adapter_in(run.adapter))
    checkpoint = latest_checkpoint(run.checkpoints)
    return None if checkpoint is None else Source(run, _adapter_in(checkpoint))


def _adapter_in(folder: Path) -> Path:
    """The adapter folder: the folder itself (sft writes its checkpoints so), or `adapter/` in it (ppo does)."""
    for adapter in (folder, folder / "adapter"):
        if (adapter / ADAPTER).is_file():
            return adapter
    raise WorkbenchError(
        folder,
        f"holds no adapter ({ADAPTER}), nor does its folder adapter/",
        expected="the adapter/ folder of a run, or one of its checkpoints",
    )
