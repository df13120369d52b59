"""The command on small runs and pictures, and every message it can end with."""

import csv
import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxconv.analysis.predictor import Predictor
from jaxconv.models import CatsDogsConvNet, DenseNet
from tests import commands
from tests.made_runs import write_run
from tools import predict

fails = functools.partial(commands.fails, predict.main)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    write_run(workdir, CatsDogsConvNet(), (46, 50, 3), ["cats", "dogs"])
    return workdir


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Three in two folders, beside hidden ones; named from where the command runs."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("b.png", "a/2.png", "a/1.png", ".hidden.png", ".hidden/3.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (60, 70, 3), dtype=np.uint8)).save(path)
    return ["pictures/b.png", "pictures/a/1.png", "pictures/a/2.png"]


def ends(capsys, *arguments):
    """The exit code of the command, its output, and its text on standard error."""
    try:
        predict.main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def expected(run, pictures, best=None):
    net = Predictor(run, best=best)
    return net.probabilities(np.stack([net.decode(Path(path).read_bytes()) for path in pictures]))


@pytest.mark.parametrize("flags, best", [([], True), (["--epoch", "best"], True), (["--epoch", "last"], False)])
def test_there_is_one_line_per_file_in_sorted_order_without_hidden_files(run, pictures, capsys, flags, best):
    code, out, err = ends(capsys, run, "pictures", *flags)
    assert (code, err) == (0, "")
    rows = expected(run, pictures, best)
    assert [line.split("\t") for line in out.splitlines()] == [
        [path, ["cats", "dogs"][row.argmax()], f"{row.max():.4f}"] for path, row in zip(pictures, rows, strict=True)
    ]


def test_files_and_folders_come_in_the_order_in_which_they_are_named(run, pictures, capsys):
    _, out, _ = ends(capsys, run, "pictures/a/2.png", "pictures", "pictures/.hidden.png")
    named = [line.split("\t")[0] for line in out.splitlines()]
    assert named == ["pictures/a/2.png", *pictures, "pictures/.hidden.png"]


def test_the_net_sees_the_negatives_of_pictures_on_request(pictures, tmp_path, capsys):
    """A net of MNIST says what it knows."""
    write_run(tmp_path / "digits", DenseNet(), (28, 28, 1), list("0123456789"), kind="MNIST", interpolation="nearest")
    for path in pictures:
        with Image.open(path) as picture:  # grey, because the negative of a colour is rounded to another grey
            picture.convert("L").save(path)
    note = "this net knows white digits on black: give --invert for dark digits on a light ground\n"
    code, plain, err = ends(capsys, tmp_path / "digits", *pictures)
    assert (code, err) == (0, note)
    for path in pictures:
        with Image.open(path) as picture:
            ImageOps.invert(picture).save(path)
    code, inverted, err = ends(capsys, tmp_path / "digits", *pictures, "--invert")
    assert (code, inverted, err) == (0, plain, "")


def test_a_table_has_the_probability_of_every_class(pictures, tmp_path, capsys):
    write_run(tmp_path / "run", DenseNet(), (28, 28, 1), list("0123456789"))
    for _ in range(2):  # the table of the first time, which lies among the pictures, is none
        code, out, err = ends(capsys, "run", "pictures", "--csv", "pictures/table.csv")
        assert (code, out) == (0, "3 pictures in pictures/table.csv, by epoch 1 of run\n")
        assert err in ("", "passed over 1 other file (1 .csv)\n")
    with open("pictures/table.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "class", "probability", *"0123456789"]
    assert [row[0] for row in rows[1:]] == pictures
    for row, wanted in zip(rows[1:], expected(tmp_path / "run", pictures), strict=True):
        found = np.array(row[3:], float)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
        assert (row[1], float(row[2])) == (str(found.argmax()), found.max())


def test_more_pictures_than_are_decoded_ahead_stay_with_their_names(run, pictures, capsys, monkeypatch):
    monkeypatch.setattr("jaxconv.analysis.predictor.AHEAD", 2)
    ordered = [pictures[i] for i in np.random.default_rng(0).integers(0, 3, 70)]
    _, out, _ = ends(capsys, run, *ordered)
    alone = dict(zip(pictures, expected(run, pictures), strict=True))
    lines = [line.split("\t") for line in out.splitlines()]
    assert [path for path, *_ in lines] == ordered
    for path, _, probability in lines:
        assert float(probability) == pytest.approx(alone[path].max(), abs=1e-4)


def test_files_that_cannot_be_read_are_named_and_skipped(run, pictures, tmp_path, capsys):
    (tmp_path / "pictures/a/1.png").write_bytes(b"no picture")
    (tmp_path / "pictures/a/line\nend.png").write_bytes(b"")
    code, out, err = ends(capsys, run, "pictures", "nowhere.png")
    assert code == 1
    assert [line.split("\t")[0] for line in out.splitlines()] == ["pictures/b.png", "pictures/a/2.png"]
    assert err.splitlines() == [
        "pictures/a/1.png: skipped (no header of AVIF, BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP)",
        "pictures/a/line\\nend.png: skipped (no header of AVIF, BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP)",
        "nowhere.png: skipped (No such file or directory)",
    ]
    code, out, _ = ends(capsys, run, "pictures", "--csv", "table.csv")
    assert (code, out) == (1, f"2 pictures in table.csv, by epoch 1 of {run}\n")


def test_nothing_to_predict_is_named(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("of before")
    for more in ((), ("--csv", tmp_path / "table.csv")):
        error = fails(capsys, run, tmp_path / "empty", *more)
        assert error == f"error: {tmp_path / 'empty'} holds no pictures: name pictures, or folders of them\n"
    assert (tmp_path / "table.csv").read_text() == "of before"


def test_a_table_that_cannot_be_written_is_named(run, pictures, capsys):
    error = fails(capsys, run, "pictures", "--csv", "nowhere/table.csv")
    assert error == "error: --csv nowhere/table.csv cannot be written (No such file or directory): name another file\n"


def test_a_directory_that_is_no_run_is_named(run, tmp_path, capsys):
    error = fails(capsys, tmp_path, "picture.png")
    assert f"error: {tmp_path} is not a run directory (no config.json): use one" in error
    (tmp_path / "seed3").symlink_to(run)
    error = fails(capsys, tmp_path, "picture.png")
    assert f"is not a run directory (no config.json): use one of its seeds, such as {tmp_path / 'seed3'}" in error


def test_a_closed_pipe_ends_the_command_without_a_word(run, pictures, tmp_path):
    """As in `command | head -1`."""
    command = [sys.executable, "-m", "tools.predict", run, *pictures]
    root = predict.__file__.rsplit("/", 2)[0]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=os.environ | {"PYTHONPATH": root}
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
