"""The GPU's benchmark on a CPU and tiny pictures, a step an epoch: the work is the same, the figures mean nothing."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxconv.models import CatsDogsConvNet
from tools import bench, bench_gpu, turns
from tools.gpu_contestants import JaxconvOnDevice


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "device", lambda: "none, a test")
    monkeypatch.setattr(bench_gpu, "GPU", bench_gpu.GPU._replace(ours=["jaxconv"]))
    monkeypatch.setattr(bench_gpu, "EPOCHS", 2)
    monkeypatch.setattr(bench_gpu, "STEPS", 1)
    parts = {name: part._replace(repeats=min(1, part.repeats)) for name, part in turns.PARTS.items()}
    monkeypatch.setattr(turns, "PARTS", parts)


@pytest.mark.usefixtures("on_cpu")
def test_parts_are_measured_and_written_down(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "figures.json"
    options = ["--only", "floors", "augmented", "--rounds", "1", "--against", "--json", str(file)]
    bench.main(["--gpu", "--data", str(photos), *options])
    written = json.loads(file.read_text())
    assert written["machine"]["gpu"] == "none, a test"
    assert [*written["figures"]] == ["flop-rate", "byte-rate", "arithmetic", "bytes", "augmented"]
    assert all(value > 0 for found in written["figures"].values() for (value,) in found.values())
    flops, moved = written["figures"]["arithmetic"], written["figures"]["flop-rate"]
    assert flops["jaxconv"][0] * moved["jaxconv"][0] == pytest.approx(0.0440, rel=0.02)  # TFLOP
    assert "| an epoch: 100 augmented steps of 32, and validation | jaxconv |" in capsys.readouterr().out


@pytest.mark.usefixtures("on_cpu")
def test_the_whole_run_is_timed_from_outside(photos: Path, tmp_path: Path) -> None:
    assert 0 < bench_gpu.run(photos, []) < 60
    with pytest.raises(bench_gpu.InputError, match=r"the run failed \(error: --data .*\): leave it out"):
        bench_gpu.run(tmp_path / "nowhere", [])


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed (extra: bench)")
@pytest.mark.usefixtures("on_cpu")
def test_pytorch_does_the_same_work(photos: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["--gpu", "--data", str(photos), "--only", "net", "augmented", "--rounds", "1", "--against", "pytorch"]
    bench.main(command)
    assert capsys.readouterr().out.count("| pytorch |") == 2


def test_the_arithmetic_of_a_step_is_xla_s_count(photos: Path) -> None:
    """XLA counts every operation; the products are all but a few of them."""
    contestant = object.__new__(JaxconvOnDevice)
    contestant.model = CatsDogsConvNet()
    images = jax.ShapeDtypeStruct((32, 150, 150, 3), jnp.float32)
    params = jax.eval_shape(lambda x: CatsDogsConvNet().init(jax.random.key(0), x, train=False), images)

    def plain(*arguments, cpu, default):
        return default(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jax.lax, "platform_dependent", plain)
        loss = jax.jit(jax.grad(lambda p, x: CatsDogsConvNet().apply(p, x, train=False).sum()))
        counted = loss.lower(params, images).cost_analysis()["flops"]
    assert contestant.step_flops() == pytest.approx(counted, rel=0.03)


def test_without_a_gpu_it_says_so(photos: Path) -> None:
    command = [sys.executable, "-m", "tools.bench", "--gpu", "--data", str(photos)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "error: --gpu: JAX finds no GPU here, but cpu: take a machine with one, and install '.[cuda12]'\n"
    )


def test_other_parts_and_peers_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(bench_gpu, "device", lambda: "none, a test")
    for flag, wrong, known in (
        ("--only", "step", "floors, net, augmented, seeds, start, run"),
        ("--against", "keras-tensorflow", "keras-jax, pytorch, pytorch-bfloat16"),
    ):
        with pytest.raises(SystemExit) as stop:
            bench.main(["--gpu", flag, wrong])
        assert stop.value.code == 2
        assert capsys.readouterr().err == f"error: {flag} {wrong}: give some of {known}\n"
