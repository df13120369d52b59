"""The numbers of each epoch as event files, which TensorBoard shows; needs tensorboardX (extra: tensorboard)."""

import time
from collections.abc import Sequence
from pathlib import Path

from jaxconv.metrics import Row

SCALARS = ("loss", "acc", "val_loss", "val_acc", "learning_rate", "images_per_second")


class Events:
    """An event file in `folder` for the epochs after `rows`; what other files there say of those is not shown any more.

    In a new folder it begins with `rows`. Written at once, not by a thread of tensorboardX's `SummaryWriter`, which
    waits forever where the disk is full.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path, rows: Sequence[Row]) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        earlier = [] if folder.is_dir() else rows
        first = len(rows) - len(earlier) + 1
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), f".{first:06}")
        start = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(step=first, wall_time=time.time(), session_log=start))
        for row in earlier:
            self.write(row)

    def write(self, row: Row) -> None:
        """The scalars of an epoch, on the disk when this returns."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name in SCALARS:
            summary = scalar(name, row[name])
            self._writer.write_event(Event(step=row["epoch"], wall_time=time.time(), summary=summary))
        self._writer.flush()

    def close(self) -> None:
        """The file is complete."""
        self._writer.close()
