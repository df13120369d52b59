"""The cores and the memory that this process may use (affinity, cgroups, ulimit), and its use of freed memory."""

import ctypes
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

import psutil

# A container's memory in control groups of version 2 and 1: limit, use, and the line of memory.stat that can be freed.
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def usable_cores() -> int:
    """The number of cores that this process may run on. A quota of their time is ignored."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """The bytes that this process can still allocate, by machine, container and `ulimit -v`."""
    available = [psutil.virtual_memory().available]
    for limit, used, cached in CGROUPS:
        if Path(limit).exists() and (text := Path(limit).read_text().strip()) != "max":
            stat = dict(line.split() for line in Path(limit).with_name("memory.stat").read_text().splitlines())
            # Files that were read count as used, but their pages are dropped when memory is needed.
            available.append(int(text) - int(Path(used).read_text()) + int(stat.get(cached, 0)))
    if hasattr(psutil, "RLIMIT_AS"):  # on Linux
        process = psutil.Process()
        most, _ = process.rlimit(psutil.RLIMIT_AS)
        if most != psutil.RLIM_INFINITY:
            available.append(most - process.memory_info().vms)
    return max(0, min(available))


def xla_threads() -> int:
    """The number of XLA's threads on a CPU: NPROC of the environment, or the cores that the process may run on.

    Sums are divided among the threads, so another number rounds differently.
    """
    named = os.environ.get("NPROC", "")
    return (int(named) if named.isdigit() else 0) or usable_cores()


M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let the C library keep the memory that XLA frees, instead of returning it to the operating system.

    On a CPU, a training step of the chapter's net allocates and frees 300 MB. Returning the memory costs 80,000 page
    faults in the next step, a quarter of its time. Keeping it can need three times as much memory (README, "Speed").

    Call this before the first JAX array, because XLA's threads must start later. It has an effect only with glibc, and
    only if JAX will compute on a CPU: one memory pool for all threads would slow the loader beside a GPU.

    Returns:
        True if freed memory is kept from now on.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    if not _on_cpu():
        return False
    # All three are needed: no mappings of large blocks, no trimming of the heap, no heaps of single threads.
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1))
    return all([mallopt(parameter, value) == 1 for parameter, value in settings])


def _on_cpu() -> bool:
    """Whether JAX will compute on a CPU. Asking JAX would start its threads."""
    jax = sys.modules.get("jax")
    named = jax.config.jax_platforms if jax else os.environ.get("JAX_PLATFORMS")
    if named:
        return bool(named.split(",")[0] == "cpu")
    plugins = [name for name in ("jax_plugins", "libtpu") if importlib.util.find_spec(name)]
    return not plugins and not importlib.metadata.entry_points(group="jax_plugins")
