"""Fingerprints of files, runs and bases, package versions and the git commit, for run.json. Loads no model."""

import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "bitsandbytes",
    "datasets",
    "accelerate",
    "gradio",
    "wandb",
)


def file_fingerprint(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a data file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def run_fingerprint(run: Path) -> str | None:
    """SHA-256 of a run's adapter (of all adapters, for an ensemble); None if there is none in that folder."""
    adapter = "adapter/adapter_model.safetensors"
    if (run / adapter).is_file():
        return str(file_fingerprint(run / adapter)["sha256"])
    members = [str(file_fingerprint(path)["sha256"]) for path in sorted(run.glob(f"members/*/{adapter}"))]
    return hashlib.sha256("".join(members).encode()).hexdigest() if members else None


def data_fingerprint(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, or of all files of a folder together."""
    if path.is_file():
        return file_fingerprint(path)
    parts = [file_fingerprint(p) for p in sorted(path.rglob("*")) if p.is_file()]
    joined = "".join(part["sha256"] for part in parts)
    return {
        "path": str(path),
        "bytes": sum(part["bytes"] for part in parts),
        "sha256": hashlib.sha256(joined.encode()).hexdigest(),
    }


def base_fingerprint(folder: Path) -> str:
    """Hash of names, sizes, and first and last MiB of the weight files, so that gigabytes need not be read.

    Two fine-tunes of one architecture have different fingerprints, two copies of one base have the same.
    """
    digest = hashlib.sha256()
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    for path in weights:
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
    return digest.hexdigest()[:16]


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that training depends on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def git_commit() -> str | None:
    """The commit of the checkout, with `+` if it has changes; None if the workbench was installed from a wheel."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # a wheel: a repository around the installed package is another project's
        return None
    try:
        changes = _git(root, "status", "--porcelain", "--untracked-files=no")
        return _git(root, "rev-parse", "HEAD") + ("+" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
