"""What of this machine the process may use, which in a container or under a limit is less than there is."""

import os
from pathlib import Path

import psutil

# A container's memory in control groups of version 2 and 1: limit, use, and which line of memory.stat can be let go of.
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def usable_cores() -> int:
    """The number of cores that this process may run on; a quota of their time is not looked at."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes that this process can still take: of the machine, of its container, and of its `ulimit -v`."""
    available = [psutil.virtual_memory().available]
    for limit, used, cached in CGROUPS:
        if Path(limit).exists() and (text := Path(limit).read_text().strip()) != "max":
            stat = dict(line.split() for line in Path(limit).with_name("memory.stat").read_text().splitlines())
            # Files that were read count as used, but their pages are dropped for whoever needs memory.
            available.append(int(text) - int(Path(used).read_text()) + int(stat.get(cached, 0)))
    if hasattr(psutil, "RLIMIT_AS"):  # on Linux
        process = psutil.Process()
        most, _ = process.rlimit(psutil.RLIMIT_AS)
        if most != psutil.RLIM_INFINITY:
            available.append(most - process.memory_info().vms)
    return max(0, min(available))


def xla_threads() -> int:
    """How many threads XLA computes with on a CPU: the environment's NPROC, or the cores that the process may run on.

    Sums are divided among them, so that another number is another rounding.
    """
    named = os.environ.get("NPROC", "")
    return (int(named) if named.isdigit() else 0) or usable_cores()
