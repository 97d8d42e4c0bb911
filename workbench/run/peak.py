"""Runs a module as `python -m MODULE …` would, and writes the peak memory of its process.

    python -m workbench.run.peak OUT.json MODULE [ARGUMENTS …]

It is a separate process because a peak can only be read for a whole process. Knows no phase: the module is a name.
"""

import json
import resource
import runpy
import sys
import time
from pathlib import Path


def main(argv: list[str]) -> None:
    """Run the module, then write seconds, resident memory and GPU memory, even if the module failed."""
    out, module, *arguments = argv
    sys.argv = [module, *arguments]
    started = time.monotonic()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        measured = {
            "seconds": time.monotonic() - started,
            "peak_rss_bytes": peak_resident_bytes(),
            "peak_gpu_bytes": peak_gpu_bytes(),
        }
        Path(out).write_text(json.dumps(measured) + "\n", encoding="utf-8")


def peak_resident_bytes() -> int:
    """Peak resident memory of this process.

    On Linux, `ru_maxrss` includes the memory of the process that started this one; `VmHWM` does not.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_gpu_bytes() -> int | None:
    """Peak memory that torch allocated on the GPU; None if torch or a GPU is not in use."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated())


if __name__ == "__main__":
    main(sys.argv[1:])
