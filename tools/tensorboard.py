"""Write the numbers of each epoch as event files for TensorBoard. Needs tensorboardX (extra: tensorboard).

    python -m tools.tensorboard runs/catsdogs-plain-seed0 runs/catsdogs-aug-dropout-seed0
    tensorboard --logdir runs

The command reads metrics.jsonl of each run and replaces the event file in RUN/tensorboard. The run may still be
training.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxconv.runs import history
from jaxconv.runtime.cli import bare_parser, one_line_errors
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import write_whole

if TYPE_CHECKING:
    from jaxconv.runs.history import Row

SCALARS = ("loss", "acc", "val_loss", "val_acc", "learning_rate", "images_per_second")
FILE = "events.out.tfevents.jaxconv"  # TensorBoard looks for "tfevents" in the name


def scalars(row: "Row") -> dict[str, float]:
    """The numbers of an epoch by name. A custom metric has the prefix val_."""
    found: dict[str, Any] = {**row}
    named = {name: found[name] for name in SCALARS if found[name] is not None}
    return named | {f"val_{name}": value for name, value in row.get("val_metrics", {}).items()}


def event_file(rows: Sequence["Row"]) -> bytes:
    """The content of an event file with the scalars of each epoch."""
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import scalar

    with tempfile.TemporaryDirectory() as folder:
        writer = EventsWriter(str(Path(folder, "events")))
        for row in rows:
            for name, value in scalars(row).items():
                writer.write_event(Event(step=row["epoch"], wall_time=time.time(), summary=scalar(name, value)))
        writer.close()
        (file,) = Path(folder).iterdir()
        return file.read_bytes()


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and write the event files."""
    assert __doc__
    parser = bare_parser("tools.tensorboard", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories")
    for run in parser.parse_args(argv).runs:
        rows = history.read_rows(run)
        if not rows:
            raise InputError(f"{run} has no epoch in its {history.METRICS}: name a run that has finished one")
        folder = run / "tensorboard"
        try:
            content = event_file(rows)
            folder.mkdir(exist_ok=True)
            write_whole(folder / FILE, content)
        except ImportError as error:
            raise InputError("tensorboardX is needed: pip install -e '.[tensorboard]'") from error
        except OSError as error:
            raise InputError(f"{folder} cannot be written ({error.strerror}): fix this and try again") from error
        print(f"{folder}: {len(rows)} epoch{'s' if len(rows) > 1 else ''}")


if __name__ == "__main__":
    main()
