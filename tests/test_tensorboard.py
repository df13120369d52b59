"""Event files, as TensorBoard itself reads them."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jaxconv.tensorboard import SCALARS, Events


def row(epoch, loss=0.5):
    scalars = {name: number / 8 for number, name in enumerate(SCALARS)}
    return scalars | {"epoch": epoch, "loss": loss, "seconds": 1.0}


def shown(folder, name="loss"):
    return [(event.step, event.value) for event in EventAccumulator(str(folder)).Reload().Scalars(name)]


def test_epochs_that_were_never_saved_are_shown_once(tmp_path):
    for earlier, new in (([], [row(1), row(2), row(3, 9.0)]), ([row(1), row(2)], [row(3, 0.25), row(4)])):
        events = Events(tmp_path / "events", earlier)
        for one in new:
            events.write(one)  # what a kill leaves: the file is not closed
        assert shown(tmp_path / "events")[-1] == (new[-1]["epoch"], new[-1]["loss"])
        events.close()
    assert shown(tmp_path / "events") == [(1, 0.5), (2, 0.5), (3, 0.25), (4, 0.5)]
    assert shown(tmp_path / "events", "learning_rate") == [(epoch, 4 / 8) for epoch in (1, 2, 3, 4)]


def test_a_new_folder_begins_with_what_was_before(tmp_path):
    events = Events(tmp_path / "run/events", [row(1), row(2)])
    events.write(row(3, 0.75))
    events.close()
    assert shown(tmp_path / "run/events") == [(1, 0.5), (2, 0.5), (3, 0.75)]


def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="events"):
        Events(tmp_path / "file/events", [])
