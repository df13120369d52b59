"""MNIST in small through everything that the real files go through, and what can be wrong with them."""

import contextlib
import functools
import gzip
import hashlib
import os
import socket
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from jaxconv.data import mnist
from jaxconv.data.arrays import ArraySource
from jaxconv.data.mnist import read_mnist
from jaxconv.runtime.errors import InputError
from tests import digits

DATA = os.environ.get("JAXCONV_DATA")
TRAIN_IMAGES, TEST_LABELS = "train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return digits.write(tmp_path / "files", monkeypatch)


def pairs(source: ArraySource) -> list[bytes]:
    """Pictures and labels, whatever their order."""
    return sorted(source[i]["image"].tobytes() + bytes([source[i]["label"]]) for i in range(len(source)))


def refused(data: Path, files: Path | None, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        read_mnist(data, files)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert "\n" not in str(caught.value)


def nothing_left(data: Path) -> bool:
    return not [path for path in data.rglob("*") if path.name not in ("mnist", ".lock")]


def test_the_files_digits_come_back_with_their_labels(files: Path, tmp_path: Path, capsys) -> None:
    splits = read_mnist(tmp_path / "data", files)
    assert capsys.readouterr().out == f"preparing MNIST in {tmp_path}/data/mnist/3.0.1\n"
    for source, part in ((splits.train, "train"), (splits.test, "t10k")):
        images, labels = digits.pictures(part)
        assert pairs(source) == sorted(
            image.tobytes() + bytes([label]) for image, label in zip(images, labels, strict=True)
        )
        assert source.class_names == list("0123456789")
        record = source[0]
        assert (record["image"].shape, record["image"].dtype, type(record["label"])) == ((28, 28, 1), np.uint8, int)
    assert splits.validation is splits.test


def test_what_is_prepared_is_read_again_without_the_files(files: Path, tmp_path: Path) -> None:
    first = read_mnist(tmp_path / "data", files)
    again = read_mnist(tmp_path / "data")
    assert [split.fingerprint for split in again] == [split.fingerprint for split in first]
    assert first.train.fingerprint != first.test.fingerprint
    assert sorted(path.name for path in (tmp_path / "data").rglob("*")) == [
        ".lock",
        "3.0.1", "dataset_info.json", "features.json", "mnist",
        "mnist-test.array_record-00000-of-00001", "mnist-train.array_record-00000-of-00001",
    ]  # fmt: skip


def test_files_packed_anew_are_known_by_their_content(files: Path, tmp_path: Path) -> None:
    path = files / TRAIN_IMAGES
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=1))
    assert hashlib.sha256(path.read_bytes()).hexdigest() != mnist.FILES[TRAIN_IMAGES].sha256
    assert len(read_mnist(tmp_path / "data", files).train) == digits.COUNTS["train"]


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "is missing"),
        (b"", "does not hold what MNIST's file of that name holds"),
        (b"<html>not found</html>", "cannot be unpacked"),
        ("half", "cannot be unpacked"),
        ("flipped", "cannot be unpacked"),
        (gzip.compress(b"other digits", mtime=0), "does not hold what MNIST's file of that name holds"),
    ],
)
@pytest.mark.parametrize("name", [TRAIN_IMAGES, TEST_LABELS])
def test_wrong_files_are_named_and_nothing_is_left(name, content, message, files: Path, tmp_path: Path) -> None:
    path = files / name
    good = path.read_bytes()
    path.unlink()
    if content == "half":
        path.write_bytes(good[: len(good) // 2])
    elif content == "flipped":
        path.write_bytes(good[:-5] + bytes([good[-5] ^ 1]) + good[-4:])
    elif content is not None:
        path.write_bytes(content)
    refused(tmp_path / "data", files, str(path), message, "--files takes the folder of MNIST's four original .gz")
    assert not (tmp_path / "data").exists()


def test_files_that_are_not_needed_are_said_to_be_left(files: Path, tmp_path: Path, capsys) -> None:
    read_mnist(tmp_path / "data", files)
    capsys.readouterr()
    read_mnist(tmp_path / "data", tmp_path / "nowhere")
    said = f"{tmp_path}/data/mnist/3.0.1 is there already: --files {tmp_path}/nowhere is not read\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("name", ["dataset_info.json", "mnist-test.array_record-00000-of-00001"])
@pytest.mark.parametrize("damage", ["gone", "half", "flipped"])
def test_a_damaged_or_half_prepared_copy_is_named(name, damage, files: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    read_mnist(data, files)
    path = data / "mnist" / "3.0.1" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x80
    path.unlink()
    if damage != "gone":
        path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    refused(data, None, f"{data}/mnist/3.0.1 is damaged or not complete", "move it away, and MNIST is prepared anew")


def test_a_failure_while_preparing_leaves_nothing(files: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(mnist.Image, "fromarray", lambda array: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        read_mnist(tmp_path / "data", files)
    assert nothing_left(tmp_path / "data")


def test_a_full_disk_is_named(files: Path, tmp_path: Path, monkeypatch) -> None:
    def fail(contents: dict[str, bytes], folder: Path) -> None:
        raise RuntimeError("Failed to finalize writing\nwrite() failed: No space left on device")  # as array_record

    monkeypatch.setattr(mnist, "_build", fail)
    refused(tmp_path / "data", files, "data/mnist/3.0.1 cannot be written (Failed to finalize writing): make room")
    assert nothing_left(tmp_path / "data")


def test_whoever_comes_second_waits_for_the_first(files: Path, tmp_path: Path, monkeypatch) -> None:
    build, found, built = mnist._build, [], []
    second = threading.Thread(target=lambda: found.append(read_mnist(tmp_path / "data", files)))

    def slow(contents: dict[str, bytes], folder: Path) -> None:
        built.append(folder)
        second.start()
        build(contents, folder)

    monkeypatch.setattr(mnist, "_build", slow)
    found.append(read_mnist(tmp_path / "data", files))
    second.join()
    assert [len(splits.train) for splits in found] == 2 * [digits.COUNTS["train"]]
    assert len(built) == 1


def test_what_a_kill_left_is_cleared_away(files: Path, tmp_path: Path) -> None:
    (tmp_path / "data/mnist/.unfinished-abc/mnist").mkdir(parents=True)
    read_mnist(tmp_path / "data", files)
    assert sorted(path.name for path in (tmp_path / "data/mnist").iterdir()) == [".lock", "3.0.1"]


def test_a_place_that_cannot_be_written_is_named(files: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    refused(tmp_path / "data", files, f"{tmp_path}/data/mnist/3.0.1 cannot be written")


def test_offline_the_error_names_the_flag(tmp_path: Path, monkeypatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(mnist, "URL", f"http://127.0.0.1:{port}/")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    refused(tmp_path / "data", None, TRAIN_IMAGES, "cannot be downloaded", "--files")
    assert nothing_left(tmp_path / "data")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setattr(mnist, "URL", f"http://127.0.0.1:{server.server_port}/")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1")
        yield
        server.shutdown()
        thread.join()


def test_without_files_they_are_downloaded(files: Path, tmp_path: Path, monkeypatch) -> None:
    with served(files, monkeypatch):
        downloaded = read_mnist(tmp_path / "data")
    given = read_mnist(tmp_path / "other", files)
    assert [split.fingerprint for split in downloaded] == [split.fingerprint for split in given]
    assert sorted(path.name for path in (tmp_path / "data/mnist").iterdir()) == [".lock", "3.0.1"]


def test_a_download_of_other_bytes_is_refused(files: Path, tmp_path: Path, monkeypatch) -> None:
    (files / TEST_LABELS).write_bytes(b"an error page")
    with served(files, monkeypatch):
        refused(tmp_path / "data", None, TEST_LABELS, "sent something other than the known file", "--files")
    assert nothing_left(tmp_path / "data")


def test_the_table_is_that_of_tensorflow_datasets() -> None:
    from tensorflow_datasets.core.download.checksums import get_all_url_infos

    infos = get_all_url_infos()
    for name, known in mnist.FILES.items():
        info = infos[mnist.URL + name]
        assert (known.size, known.sha256) == (info.size, info.checksum)


@pytest.mark.skipif(not DATA, reason="JAXCONV_DATA names no folder with mnist/*.gz")
def test_real_digits(tmp_path: Path) -> None:
    splits = read_mnist(tmp_path, Path(DATA, "mnist"))
    assert (len(splits.train), len(splits.test)) == (60_000, 10_000)
    # The counts of each digit as LeCun's page and everyone since has them.
    assert np.bincount(splits.train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(splits.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert round(splits.train.images.mean() / 255, 4) == 0.1307
