"""Runs a module as `python -m MODULE …` would, and writes the peak memory of its process.

    python -m workbench.run.peak OUT.json PARENT MODULE [ARGUMENTS …]

It is a separate process because a peak can only be read for a whole process. It ends with the process PARENT, a process
id, which started it, so a killed measurement leaves nothing running. Knows no phase: the module is a name.
"""

import json
import os
import resource
import runpy
import sys
import threading
import time
from pathlib import Path


def main(argv: list[str]) -> None:
    """Run a module as long as the process `argv[1]` lives."""
    out, parent, *words = argv
    # The id is passed on: os.getppid() would name another process if the parent was killed while this one started.
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    measure(Path(out), *words)


def measure(out: Path, module: str, *arguments: str) -> None:
    """Run a module, then write seconds, resident memory and GPU memory, even if the module failed."""
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
        out.write_text(json.dumps(measured) + "\n", encoding="utf-8")


def _end_with(parent: int) -> None:
    """End this process as soon as its parent has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


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
