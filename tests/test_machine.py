import os
import subprocess
import sys

import psutil
import pytest

from jaxconv import machine


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux keeps a process to some cores")
def test_only_cores_that_may_be_used_count():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from jaxconv import machine; "
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
from jaxconv import machine
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
