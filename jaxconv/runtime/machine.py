"""Cores and memory this process may use (affinity, cgroups, ulimit), and what it does with memory that it frees."""

import ctypes
import importlib.metadata
import importlib.util
import os
import sys
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


M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let the C library keep the memory that XLA frees, instead of giving it back to the system after every step.

    A training step of the chapter's net takes and frees 300 MB on a CPU. Given back, the memory costs 80,000 page
    faults at the next step, a quarter of its time; kept, up to three times as much memory is held (README, "Speed").

    Call it before the first JAX array: XLA's threads must start after it. It acts on glibc alone, and only where JAX is
    to compute on a CPU, since one pool of memory for all threads would slow the loader beside a GPU.

    Returns:
        Whether freed memory is kept from now on.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    if not _on_cpu():
        return False
    # All three are needed: no mappings of large blocks, no returning of the heap's end, no heaps for single threads.
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1))
    return all([mallopt(parameter, value) == 1 for parameter, value in settings])


def _on_cpu() -> bool:
    """Whether JAX will compute on a CPU, without asking it, which would start its threads."""
    jax = sys.modules.get("jax")
    named = jax.config.jax_platforms if jax else os.environ.get("JAX_PLATFORMS")
    if named:
        return bool(named.split(",")[0] == "cpu")
    plugins = [name for name in ("jax_plugins", "libtpu") if importlib.util.find_spec(name)]
    return not plugins and not importlib.metadata.entry_points(group="jax_plugins")
