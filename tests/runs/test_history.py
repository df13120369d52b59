import json

import msgspec
import pytest

from jaxconv.config import Optimizer
from jaxconv.runs import history
from jaxconv.runs.history import EpochResult, Highest, Result
from jaxconv.runtime.errors import InputError
from tests.test_config import CONFIG


def row(epoch, **other):
    found = {"epoch": epoch, "step": 10 * epoch, "loss": 1 / 3 / epoch, "acc": 0.5, "val_loss": 0.25, "val_acc": 0.75}
    found |= {"learning_rate": 1e-4, "seconds": 1.5, "images_per_second": 60.0, "data_wait": 0.01}
    return found | other


def test_lines_come_back_and_late_or_torn_ones_go(tmp_path):
    assert history.read_rows(tmp_path) == []
    history.write_rows(tmp_path, [])
    assert not (tmp_path / "metrics.jsonl").exists()
    rows = [row(1), row(2, learning_rate=None), row(3, val_metrics={"top2": 0.9})]
    for one in rows:
        history.append_row(tmp_path, one)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "lo')  # killed in the middle of a line
    assert history.read_rows(tmp_path) == rows
    history.write_rows(tmp_path, rows[:2])
    assert history.read_rows(tmp_path) == rows[:2]
    history.append_row(tmp_path, rows[2])
    assert history.read_rows(tmp_path) == rows


def test_pandas_reads_the_file(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (extra: notebook)")
    history.append_row(tmp_path, row(1))
    read = pandas.read_json(tmp_path / "metrics.jsonl", lines=True)
    assert read["val_loss"].tolist() == pandas.DataFrame(history.read_rows(tmp_path))["val_loss"].tolist() == [0.25]


@pytest.mark.parametrize(
    "line",
    [
        b'{"epoch": 1, "lo\n',
        b"\xff\n",
        b"null\n",
        b"[1]\n",
        b"[" * 100_000 + b"\n",
        b'{"epoch": 1}\n',
        json.dumps(row(2)).encode() + b"\n",
        json.dumps(row(1, loss="low")).encode() + b"\n",
        json.dumps(row(1)).encode().replace(b"0.25", b"1" + b"0" * 400) + b"\n",
        json.dumps(row(1) | {"epoch": 0}).encode() + b"\n",
    ],
)
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_bytes(line + json.dumps(row(2)).encode() + b"\n")
    with pytest.raises(InputError, match=r"metrics.jsonl is damaged \(.*\): train anew in another --workdir"):
        history.read_rows(tmp_path)


LAST = EpochResult(3, 0.5, 0.75, 0.6, 0.7, [[2, 1], [0, 3]])
RESULT = Result(0.7, LAST, EpochResult(2, 0.4, 0.8, 0.5, 0.75, [[3, 0], [1, 2]], {"top2": 1.0}), Highest(2, 0.8))


@pytest.mark.parametrize("result", [RESULT, Result(0.7, LAST)])
def test_a_result_comes_back_as_it_was(tmp_path, result):
    assert history.read_result(tmp_path) is None
    history.write_result(tmp_path, result)
    assert history.read_result(tmp_path) == result
    written = json.loads((tmp_path / "result.json").read_text())
    assert ("best" in written) == (result.best is not None)
    assert written["last"] == {
        "epoch": 3,
        "val_loss": 0.5,
        "val_acc": 0.75,
        "test_loss": 0.6,
        "test_acc": 0.7,
        "test_confusion": [[2, 1], [0, 3]],
    }


def test_numbers_that_are_not_finite_come_back(tmp_path):
    """A metric of one's own may have no value, and the result must stay readable."""
    result = msgspec.structs.replace(RESULT, best=msgspec.structs.replace(LAST, test_metrics={"top2": float("inf")}))
    history.write_result(tmp_path, result)
    assert history.read_result(tmp_path) == result


WRONG = json.dumps(msgspec.to_builtins(RESULT) | {"last": 1})


@pytest.mark.parametrize("content", ["{", "[]", '{"last": null}', WRONG])
def test_a_damaged_result_is_named(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(InputError, match=r"result.json is damaged \(.*\): --resume the run, which writes it anew"):
        history.read_result(tmp_path)


def test_the_spread_of_results_has_their_shape():
    def result(accuracy, epoch):
        scores = {"val_loss": 1.0, "val_acc": accuracy, "test_loss": 0.25, "test_acc": accuracy / 2}
        tested = EpochResult(epoch=epoch, test_confusion=[[epoch, 2], [3, 4]], **scores)
        return Result(accuracy, last=tested, best=tested, highest_val_acc=Highest(epoch, accuracy))

    found = history.spread([result(0.5, 1), result(0.7, 2), result(0.9, 6)])
    assert [*found] == ["mean", "std", "min", "max"]
    assert found["mean"]["val_acc_mean_last_10"] == pytest.approx(0.7)
    assert found["std"]["best"]["val_acc"] == pytest.approx(0.2)  # the sample's: over n - 1
    assert found["min"]["last"]["test_acc"] == 0.25 and found["max"]["highest_val_acc"]["epoch"] == 6
    assert found["mean"]["last"]["test_confusion"] == [[3, 2], [3, 4]]
    for shape in found.values():
        assert {name: type(value) for name, value in shape["best"].items()}.keys() == shape["last"].keys()


def test_a_result_without_test_pictures_has_the_confusion_matrix_of_the_validation_pictures(tmp_path):
    """Six of eight: half of the first class, all of the second, and none of the third, which is never predicted."""
    matrix = [[1, 1, 0, 0], [0, 5, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    result = Result(0.75, last=EpochResult(epoch=1, val_loss=1.0, val_acc=0.75, val_confusion=matrix))
    history.write_result(tmp_path, result)
    assert "test" not in (tmp_path / "result.json").read_text()
    found = history.read_result(tmp_path)
    assert found == result and found.last.confusion == matrix
    assert (found.last.mean_recall, history.never_predicted(matrix)) == (0.5, [2])


@pytest.mark.parametrize(
    "scores, reason",
    [
        ({}, "there must be one of test_confusion and val_confusion"),
        ({"test_acc": 0.5, "val_confusion": [[1]]}, "some of test_loss, test_acc and test_confusion are missing"),
        ({"test_loss": 1.0, "test_acc": 0.5}, "some of test_loss, test_acc and test_confusion are missing"),
    ],
)
def test_a_result_with_some_of_the_test_scores_is_damaged(scores, reason, tmp_path):
    last = {"epoch": 1, "val_loss": 1.0, "val_acc": 0.5} | scores
    (tmp_path / "result.json").write_text(json.dumps({"val_acc_mean_last_10": 0.5, "last": last}))
    with pytest.raises(InputError, match=rf"result\.json is damaged \({reason}.*: --resume the run"):
        history.read_result(tmp_path)


@pytest.mark.parametrize(
    "changes, last",
    [
        ({}, False),
        ({"optimizer": Optimizer(schedule="plateau")}, False),
        ({"optimizer": Optimizer(schedule="cosine")}, True),
        ({"optimizer": Optimizer(schedule="cosine"), "patience": 3}, False),  # it may have ended early
        (None, False),
    ],
)
def test_the_last_epoch_is_used_after_a_cosine_schedule(changes, last):
    training = None if changes is None else msgspec.structs.replace(CONFIG.training, **changes)
    assert history.uses_last(msgspec.structs.replace(CONFIG, training=training)) == last
    validated = msgspec.structs.replace(CONFIG.data, fingerprint={"validation": "a", "test": "a"})
    assert history.uses_last(msgspec.structs.replace(CONFIG, training=training, data=validated))
