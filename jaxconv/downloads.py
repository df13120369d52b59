"""Files from the internet, whole and known by their checksums."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxconv.errors import InputError


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
            # tensorflow-datasets asks a host that does not answer for minutes: ask it once before.
            with requests.get(url, stream=True, timeout=4) as answer:
                if not answer.ok:
                    raise InputError(f"{url} answers {answer.status_code} {answer.reason}: {cure}")
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


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """End the process at an interrupt, with exit code 130, instead of waiting for what is still to be downloaded.

    No cleaning up happens outside of it: temporary folders belong inside.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.stdout.flush()
        os._exit(130)  # the download's thread cannot be stopped, and a plain exit would wait for it
