"""Files from the internet, whole and known by their checksums."""

import queue
import sys
import tempfile
import threading
from pathlib import Path

from jaxconv.runtime.errors import InputError

SECONDS_TO_ANSWER = 6


def fetch(url: str, path: Path, *, size: int, sha256: str, cure: str) -> Path:
    """The file at `url`, kept at `path`: downloaded by tensorflow-datasets unless it is there, and checked either way.

    `cure` says what to do where the file cannot be had. A command that is to end at once at an interrupt calls this
    within `interruptible`.

    Raises:
        InputError: the file cannot be had, or is not the known one.
        OSError: it cannot be kept.
    """
    import requests  # what tensorflow-datasets downloads with: the same proxies and certificates
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    known = tfds.download.checksums.UrlInfo(size, sha256, path.name)
    tfds.display_progress_bar(sys.stderr.isatty())
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not path.exists():
            refusal = _ask(url)
            if refusal is not None:
                raise InputError(f"{url} {refusal}: {cure}")
        # The thread that tensorflow-datasets writes with may outlive an interrupt, hence ignore_cleanup_errors.
        with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent, ignore_cleanup_errors=True) as temp:
            manager = tfds.download.DownloadManager(download_dir=temp, manual_dir=path.parent, url_infos={url: known})
            Path(manager.download(url)).replace(path)
    except NonMatchingChecksumError as error:
        if path.exists():
            raise InputError(f"{path} is not the known file, or not all of it: delete it, and run again") from error
        raise InputError(f"{url} sent something other than the known file: {cure}") from error
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise InputError(f"{url} cannot be downloaded ({type(error).__name__}): {cure}") from error
    return path


def _ask(url: str) -> str | None:
    """Why the host does not send the file; None if it does.

    tensorflow-datasets would ask a host that does not answer for minutes. A timeout is for each of a host's
    addresses, so that only a thread that is left behind keeps to the time.
    """
    import requests

    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            with requests.get(url, stream=True, timeout=SECONDS_TO_ANSWER) as answer:
                answers.put(None if answer.ok else f"answers {answer.status_code} {answer.reason}")
        except requests.RequestException as error:
            answers.put(f"cannot be downloaded ({type(error).__name__})")

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=SECONDS_TO_ANSWER)
    except queue.Empty:
        return f"does not answer within {SECONDS_TO_ANSWER} seconds"
