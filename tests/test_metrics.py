import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxconv import metrics
from jaxconv.errors import InputError


def test_uneven_batches_give_the_mean_over_pictures():
    """Not the mean of the batches' means, which would be 0.75 and 2.5."""
    batches = [
        {"loss": jnp.float32(3.0), "correct": jnp.float32(3.0), "count": jnp.float32(3.0)},
        {"loss": jnp.float32(4.0), "correct": jnp.float32(0.5), "count": jnp.float32(1.0)},
    ]
    assert metrics.mean(metrics.total(batches)) == {"loss": 7 / 4, "acc": 3.5 / 4}


def test_totals_are_added_in_float64():
    batches = [{"loss": jnp.float32(2**24)}, {"loss": jnp.float32(1)}, {"loss": jnp.float32(1)}]
    assert metrics.total(batches)["loss"] == 2**24 + 2


def test_matrices_are_added_too():
    total = metrics.total([{"confusion": jnp.eye(2)}, {"confusion": jnp.ones((2, 2))}])
    np.testing.assert_array_equal(total["confusion"], [[2, 1], [1, 2]])


def test_a_confusion_matrix_comes_along_as_whole_numbers():
    totals = {"loss": np.array(1.5), "correct": np.array(2.0), "count": np.array(4.0), "confusion": 2.0 * np.eye(2)}
    assert metrics.mean(totals) == {"loss": 0.375, "acc": 0.5, "confusion": [[2, 0], [0, 2]]}


def test_results_are_spread_number_by_number():
    results = [{"last": {"acc": acc, "confusion": [[count, 1]]}} for acc, count in ((0.5, 2), (0.7, 4), (0.9, 9))]
    found = metrics.spread(results)
    assert found["mean"] == {"last": {"acc": pytest.approx(0.7), "confusion": [[5, 1]]}}
    assert found["std"] == {"last": {"acc": pytest.approx(0.2), "confusion": [[pytest.approx(13**0.5), 0]]}}
    assert found["min"] == {"last": {"acc": 0.5, "confusion": [[2, 1]]}}
    assert found["max"] == {"last": {"acc": 0.9, "confusion": [[9, 1]]}}


def test_lines_come_back_and_late_or_torn_ones_go(tmp_path):
    assert metrics.read(tmp_path) == []
    assert metrics.truncate(tmp_path, 0) == []
    rows = [{"epoch": epoch, "loss": 1 / 3 / epoch} for epoch in (1, 2, 3)]
    for row in rows:
        metrics.append(tmp_path, row)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "lo')  # killed in the middle of a line
    assert metrics.read(tmp_path) == rows
    assert metrics.truncate(tmp_path, 2) == rows[:2]
    metrics.append(tmp_path, rows[2])
    assert metrics.read(tmp_path) == rows


def test_pandas_reads_the_file(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (extra: notebook)")
    metrics.append(tmp_path, {"epoch": 1, "loss": 0.5})
    assert pandas.read_json(tmp_path / "metrics.jsonl", lines=True)["loss"].tolist() == [0.5]


def test_sums_of_steps_keep_their_order():
    steps = [{"loss": jnp.float32(loss)} for loss in (1.5, 3.0, 2.0)]
    np.testing.assert_array_equal(metrics.of_steps(steps)["loss"], [1.5, 3, 2])


@given(st.lists(st.floats(width=32, min_value=0, max_value=2.0**100), min_size=2, max_size=20), st.data())
def test_totals_do_not_depend_on_where_an_epoch_is_cut(losses, data):
    cut = data.draw(st.integers(1, len(losses) - 1))
    parts = [{"loss": np.array(part, np.float32)} for part in (losses[:cut], losses[cut:])]
    whole = metrics.add({}, {"loss": np.array(losses, np.float32)})
    assert metrics.add(metrics.add({}, parts[0]), parts[1]) == whole
    assert whole["loss"] == pytest.approx(math.fsum(losses))


def test_speed_is_of_training_and_its_waiting():
    found = metrics.speed({"count": 320.0, "seconds": 2.0, "waited": 0.5})
    assert found == {"images_per_second": 160.0, "data_wait": 0.25}


@pytest.mark.parametrize("line", ['{"epoch": 1, "lo\n', "\xff\n", "null\n", "[1]\n"])
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_bytes(line.encode("latin1") + b'{"epoch": 2}\n')
    with pytest.raises(InputError, match=r"metrics.jsonl is damaged \(.*\): train anew in another --workdir"):
        metrics.read(tmp_path)
