"""A file from a server on this machine, and everything that can go wrong on its way."""

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from jaxconv.data import downloads
from jaxconv.data.downloads import fetch
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.signals import interruptible

DATA = bytes(range(256)) * 8
CURE = "try something else"


class Served(NamedTuple):
    """A server's file, what is sent for it, and every path that was asked for.

    `answer` has the status and the bytes, and may have the `length` that is announced, and an event `sent`: it is set
    when the download's bytes are sent, after which the connection stays open.
    """

    url: str
    answer: dict[str, object]
    requests: list[str]


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server on this machine, which no proxy is asked for."""
    answer: dict[str, object] = {"status": 200, "data": DATA}
    requests: list[str] = []
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            data = answer["data"]
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(answer.get("length", len(data))))
            self.end_headers()
            self.wfile.write(data)
            if "sent" in answer and len(requests) == 2:  # the first only sees whether the host answers
                answer["sent"].set()
                stop.wait()

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Served(f"http://127.0.0.1:{server.server_port}/pets/kagglecatsanddogs_5340.zip", answer, requests)
        finally:
            stop.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with serving(monkeypatch) as served:
        yield served


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be kept, under another name than the server's, in a folder that is not there yet."""
    return tmp_path / "new" / "kept.zip"


def fetch_data(url: str, path: Path) -> Path:
    return fetch(url, path, size=len(DATA), sha256=hashlib.sha256(DATA).hexdigest(), cure=CURE)


def check_refused(url: str, path: Path, message: str, left: tuple[str, ...] = ()) -> None:
    """This message, and in the folder nothing but `left`."""
    with pytest.raises(InputError) as error:
        fetch_data(url, path)
    assert str(error.value) == message
    assert tuple(entry.name for entry in path.parent.iterdir()) == left


def test_file_is_kept_and_used_again(served: Served, path: Path) -> None:
    assert fetch_data(served.url, path) == path
    assert path.read_bytes() == DATA
    assert served.requests == ["/pets/kagglecatsanddogs_5340.zip"] * 2
    assert fetch_data(served.url, path) == path
    assert len(served.requests) == 2
    assert list(path.parent.iterdir()) == [path]


def test_connection_breaks(served: Served, path: Path) -> None:
    served.answer.update({"data": DATA[:500], "length": len(DATA)})
    check_refused(served.url, path, f"{served.url} cannot be downloaded (ChunkedEncodingError): {CURE}")


def test_another_file_is_sent(served: Served, path: Path) -> None:
    served.answer["data"] = DATA[:-1] + b"?"
    check_refused(served.url, path, f"{served.url} sent something other than the known file: {CURE}")


@pytest.mark.parametrize("status", ["404 Not Found", "503 Service Unavailable"])
def test_server_refuses(status: str, served: Served, path: Path) -> None:
    served.answer.update({"data": b"sorry", "status": int(status[:3])})
    check_refused(served.url, path, f"{served.url} answers {status}: {CURE}")
    assert len(served.requests) == 1  # not the ten tries of tensorflow-datasets


def test_server_refuses_at_the_second_request(served: Served, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end_headers = BaseHTTPRequestHandler.end_headers

    def refuse_from_now(handler: BaseHTTPRequestHandler) -> None:
        served.answer["status"] = 403
        end_headers(handler)

    monkeypatch.setattr(BaseHTTPRequestHandler, "end_headers", refuse_from_now)
    check_refused(served.url, path, f"{served.url} cannot be downloaded (DownloadError): {CURE}")


def test_no_server(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch) as gone:
        pass
    check_refused(gone.url, path, f"{gone.url} cannot be downloaded (ConnectionError): {CURE}")


def test_a_host_that_stays_silent_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and never answers; requests alone would wait for the whole of each timeout."""
    monkeypatch.setattr(downloads, "SECONDS_TO_ANSWER", 0.3)
    monkeypatch.setattr("requests.get", lambda *args, **options: threading.Event().wait())
    check_refused("http://localhost/file", path, f"http://localhost/file does not answer within 0.3 seconds: {CURE}")


def test_kept_file_is_damaged(served: Served, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(DATA[:-1])
    message = f"{path} is not the known file, or not all of it: delete it, and run again"
    check_refused(served.url, path, message, left=("kept.zip",))
    assert path.read_bytes() == DATA[:-1]
    assert served.requests == []


def test_file_cannot_be_kept(served: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):  # whose cure the caller knows
        fetch_data(served.url, tmp_path / "file" / "kept.zip")


def test_interrupt_ends_the_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(SystemExit) as ended, interruptible():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(InputError, match="mine"), interruptible():
        raise InputError("mine")
