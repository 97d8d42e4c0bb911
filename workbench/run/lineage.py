"""What a run was made from: fingerprints of files and bases, versions, the git commit. Loads no model."""

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


def data_fingerprint(path: Path) -> dict[str, Any]:
    """Of a file, or of every file of a folder together."""
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
    """Tells bases apart without reading gigabytes: names, sizes, first and last MiB of the weight files.

    Two fine-tunes of one architecture differ in it, two copies of one base do not.
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
    """Installed versions of what training depends on, and Python's."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def git_commit() -> str | None:
    """The commit of the checkout (with `+` if it has changes), or None if the workbench does not run from one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed from a wheel: a repository around it is somebody else's
        return None
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changes else "")
