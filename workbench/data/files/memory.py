"""The memory that this process may still allocate."""

import resource
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Bytes: the least that the machine, the container's limit or the shell's limit leaves."""
    import psutil

    free = [int(psutil.virtual_memory().available)]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        free.append(limit - int(psutil.Process().memory_info().vms))
    limits = [_CGROUP / "memory.max", _CGROUP / "memory.current"]
    if all(path.is_file() for path in limits):
        most, now = (path.read_text().strip() for path in limits)
        free += [int(most) - int(now)] if most.isdigit() and now.isdigit() else []
    return max(0, min(free))
