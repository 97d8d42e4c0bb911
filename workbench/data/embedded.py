"""From the name of a data file or a base to its path. Knows the embedded default's names, not how it is made.

A separate process makes the embedded default (`python -m workbench tiny`), so that no training code can reach the
truth it is measured against.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from workbench.run.errors import WorkbenchError, did_you_mean, nearest

_SOURCES = Path(__file__).parents[1] / "tiny"
TINY_BASE = "tiny"
TINY_DATA = ("demonstrations", "demonstrations_heldout", "prompts", "prompts_heldout", "texts")
WORLDS = {"tiny": TINY_DATA, "rare": TINY_DATA[:-1]}
"""The embedded worlds and their files. Both have the base `tiny`."""


def tiny_folder() -> Path:
    """The cache folder of the embedded default, named after a hash of its sources; it may not exist yet.

    It is in `$WORKBENCH_CACHE` or `~/.cache/alignment-workbench`, and holds `base/` and a JSONL file per name
    in `TINY_DATA`, and a folder per further world.
    """
    digest = hashlib.sha256()
    for source in sorted([*_SOURCES.glob("*.py"), *_SOURCES.glob("pretrained/*")]):
        digest.update(f"{source.name}\0{source.stat().st_size}\0".encode() + source.read_bytes())
    return cache_folder() / f"tiny-{digest.hexdigest()[:12]}"


def cache_folder() -> Path:
    """The folder for files that can be made again: `$WORKBENCH_CACHE` or `~/.cache/alignment-workbench`."""
    return Path(os.environ.get("WORKBENCH_CACHE") or "~/.cache/alignment-workbench").expanduser()


def resolve_data(name: str) -> Path:
    """The path of a data file: `tiny:NAME` or `rare:NAME`, in the embedded default (made if missing), or a path.

    Raises:
        WorkbenchError: no such file in the embedded default, or it could not be made.
    """
    world, colon, short = name.partition(":")
    if not colon or world not in WORLDS:
        return Path(name)
    if short not in WORLDS[world]:
        remedy = did_you_mean(name, [f"{known}:{file}" for known, files in WORLDS.items() for file in files])
        raise WorkbenchError(name, "the embedded default has no such file", remedy=remedy)
    return _made(f"{short}.jsonl" if world == "tiny" else f"{world}/{short}.jsonl")


def resolve_base(name: str) -> str:
    """The name to load a base by. `tiny` becomes its folder, made if missing; folders and hub ids stay as they are.

    Raises:
        WorkbenchError: no such folder, a folder without a model, or a hub id that is not cached while offline.
    """
    if name == TINY_BASE:
        return str(_made("base"))
    path = Path(name).expanduser()
    if path.exists():
        return _model_folder(path)
    if _is_local(name, path):
        raise _no_folder(path)
    return _hub_base(name)


def _made(entry: str) -> Path:
    """A file or folder of the embedded default, which is made if missing."""
    folder = tiny_folder()
    if not (folder / entry).exists():
        _make(folder)
    if not (folder / entry).exists():
        raise WorkbenchError(folder / entry, "the embedded default was made, but this is missing from it")
    return folder / entry


def _make(folder: Path) -> None:
    command = [sys.executable, "-m", "workbench", "tiny"]
    print(f"making the embedded default in {folder} (once): {' '.join(command[1:])}", file=sys.stderr, flush=True)
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    code = subprocess.run(command, env=environment, stdout=2, check=False).returncode
    if code:
        raise WorkbenchError(
            folder,
            f"the embedded default could not be made: `python -m workbench tiny` ended with code {code}",
            remedy="run that command to see why; WORKBENCH_CACHE=FOLDER changes the folder",
        )


def _model_folder(path: Path) -> str:
    if path.is_file():
        raise WorkbenchError(path, "it is a file", expected="a folder with config.json, weights and tokenizer")
    if (path / "config.json").exists():
        return str(path)
    problem, remedy = "it holds an adapter, not a base", "name the base here, and the adapter's run as the run"
    if not (path / "adapter_config.json").exists():
        held = ", ".join(sorted(entry.name for entry in path.iterdir())[:6]) or "nothing"
        within = sorted(entry.parent.name for entry in path.glob("*/config.json"))
        problem = f"it has no config.json; it holds {held}"
        remedy = f"did you mean {str(path / within[0])!r}?" if within else ""
    raise WorkbenchError(path, problem, expected="a folder with config.json, weights and tokenizer", remedy=remedy)


def _is_local(name: str, path: Path) -> bool:
    """Whether a name that does not exist can only mean a local folder; hub ids are `NAME` or `OWNER/NAME`."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or ("/" in name and path.parent.is_dir())


def _no_folder(path: Path) -> WorkbenchError:
    siblings = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    close = nearest(path.name, siblings)
    remedy = f"did you mean {str(path.parent / close)!r}?" if close else "fix the path; `tiny` is the embedded default"
    return WorkbenchError(path, "no such base folder", expected="a folder with config.json", remedy=remedy)


def _hub_base(name: str) -> str:
    """The hub id; while offline, only if its config is in the local cache. Uses no network."""
    if not _offline():
        return name
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        cached = None
    if isinstance(cached, str):
        return name
    close = nearest(name, [TINY_BASE])
    raise WorkbenchError(
        f"base {name}",
        "no such folder, and not in the local hub cache while offline (HF_HUB_OFFLINE)",
        expected="`tiny`, a folder with config.json, or a hub id that is cached or can be reached",
        remedy=f"did you mean {close!r}?"
        if close
        else "model.base=/path/to/folder, model.base=tiny, or go online once",
    )


def _offline() -> bool:
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)
