"""A benchmark's result as a JSON file: the numbers, with commit, hardware and versions beside them."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from workbench.run.checkpoints import write_text_atomically
from workbench.run.lineage import git_commit, package_versions

RESULTS = Path("benchmarks/results")


def hardware() -> dict[str, Any]:
    """What it was measured on, and how busy the machine was."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def write_result(path: Path, content: dict[str, Any]) -> None:
    """Write and print a result."""
    whole = {"commit": git_commit(), "hardware": hardware(), "versions": package_versions(), **content}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(whole, indent=1) + "\n")
    print(json.dumps(content, indent=1))


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, smallest and largest of repeats, and the repeats themselves."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "repeats": list(values),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
