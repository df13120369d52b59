import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

import jaxconv
from jaxconv.runtime import machine


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux keeps a process to some cores")
def test_only_cores_that_may_be_used_count():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from jaxconv.runtime import machine; "
    found = subprocess.run(
        [sys.executable, "-c", code + "print(machine.usable_cores())"], capture_output=True, check=True
    )
    assert found.stdout == b"1\n"


def test_what_is_free_on_the_machine(monkeypatch):
    monkeypatch.setattr(machine, "CGROUPS", ())
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    assert machine.available_memory() == 1000


@pytest.mark.parametrize("limit, expected", [("700\n", 640), ("50\n", 0), ("max\n", 1000)])
def test_what_is_free_in_a_container(limit, expected, monkeypatch, tmp_path):
    """100 bytes are used, of which 40 are pages of files that can be dropped."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("100\n")
    (tmp_path / "memory.stat").write_text("anon 60\ninactive_file 40\n")
    here = (tmp_path / "memory.max", tmp_path / "memory.current", "inactive_file")
    monkeypatch.setattr(machine, "CGROUPS", [here, (tmp_path / "none", tmp_path / "none", "none")])
    assert machine.available_memory() == expected


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="only Linux limits a process's memory")
def test_what_a_limited_process_may_take():
    code = """
import psutil
import jaxconv
from jaxconv.runtime import machine
process = psutil.Process()
process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + 10_000_000, psutil.RLIM_INFINITY))
print(machine.available_memory())
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert 8_000_000 < int(found.stdout) <= 10_000_000


def test_xla_s_threads_are_those_of_the_environment_or_one_a_core(monkeypatch):
    """`NPROC` is XLA's own; that it makes runs equal on any cores is tested in test_whole_runs."""
    monkeypatch.setenv("NPROC", "5")
    assert machine.xla_threads() == 5
    for unset in ("", "two"):
        monkeypatch.setenv("NPROC", unset)
        assert machine.xla_threads() == machine.usable_cores()
    monkeypatch.delenv("NPROC")
    assert machine.xla_threads() == machine.usable_cores()


# Page faults of twenty calls that each take and free 64 MB, after ten in which the heap finds its size.
FAULTS = """
import resource, sys
import jaxconv
kept = "keep" in sys.argv and jaxconv.keep_freed_memory()
import jax, jax.numpy as jnp
call = jax.jit(lambda x: 2 * x)
x = jnp.ones((4096, 4096))
for _ in range(10):
    call(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    call(x).block_until_ready()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not glibc(), reason="only glibc has these settings")
def test_kept_memory_costs_no_page_faults():
    found = {}
    for name in ("keep", "return"):
        done = subprocess.run([sys.executable, "-c", FAULTS, name], capture_output=True, text=True, check=True)
        kept, faults = done.stdout.split()
        found[name] = int(faults)
        assert kept == str(name == "keep")
    assert found["keep"] < found["return"] / 3


@pytest.mark.parametrize(
    "environment, plugins, expected",
    [("cpu", ["cuda12"], True), ("cuda,cpu", [], False), ("", [], True), ("", ["cuda12"], False)],
)
def test_memory_is_kept_only_where_jax_computes_on_a_cpu(environment, plugins, expected, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: plugins)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "jax", SimpleNamespace(config=SimpleNamespace(jax_platforms=environment)))
        assert machine._on_cpu() is expected
    monkeypatch.delitem(sys.modules, "jax")  # a command has not imported it yet
    monkeypatch.setenv("JAX_PLATFORMS", environment)
    assert machine._on_cpu() is expected


def test_where_there_is_no_glibc_nothing_is_kept(monkeypatch):
    class OtherLibrary:
        def __init__(self, name):
            pass

    monkeypatch.setattr(ctypes, "CDLL", OtherLibrary)
    assert jaxconv.keep_freed_memory() is False  # that of machine is replaced for all tests
