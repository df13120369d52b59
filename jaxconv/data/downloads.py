"""Files from the internet, complete and checked by their checksums."""

import queue
import sys
import tempfile
import threading
from pathlib import Path

from jaxconv.runtime.errors import InputError

SECONDS_TO_ANSWER = 6


def fetch(url: str, path: Path, *, size: int, sha256: str, cure: str) -> Path:
    """Download the file at `url` to `path`, unless it exists, and check it. tensorflow-datasets does the download.

    `cure` is the advice to the user if the download fails. A command that must end at once at an interrupt calls this
    within `interruptible`.

    Raises:
        InputError: the file cannot be downloaded, or is not the known file.
        OSError: it cannot be written.
    """
    import requests  # tensorflow-datasets uses it too: the same proxies and certificates
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
        # The writing thread of tensorflow-datasets may outlive an interrupt, so ignore_cleanup_errors is set.
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

    tensorflow-datasets would wait minutes for a host that does not answer. A timeout counts for each address of a host,
    so a thread asks, and is left behind when the time is over.
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
