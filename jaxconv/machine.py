"""What of this machine the process may use, which in a container or a batch job is less than there is."""

import os
from pathlib import Path

import psutil

# Limit and use of a container's memory: control groups of version 2 and 1.
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def usable_cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes that this process can still take: of the machine, of its container, and of its `ulimit -v`."""
    available = [psutil.virtual_memory().available]
    for limit, used in CGROUPS:
        if Path(limit).exists() and (text := Path(limit).read_text().strip()) != "max":
            available.append(int(text) - int(Path(used).read_text()))
    if hasattr(psutil, "RLIMIT_AS"):  # on Linux
        process = psutil.Process()
        limit, _ = process.rlimit(psutil.RLIMIT_AS)
        if limit != psutil.RLIM_INFINITY:
            available.append(limit - process.memory_info().vms)
    return max(0, min(available))
