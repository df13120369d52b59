import msgspec
import pytest

from jaxconv.config import Optimizer
from jaxconv.runs.resume import differences, leaves
from tests.test_config import CONFIG, changed


def test_the_same_settings_do_not_differ():
    elsewhere = changed(data={"path": "/elsewhere"}, training={"epochs": 40, "checkpoint_every": 5})
    assert differences(CONFIG, msgspec.structs.replace(elsewhere, versions={"jax": "9"}, commit="c", device={})) == []


@pytest.mark.parametrize(
    "parts, expected",
    [
        ({"training": {"batch_size": 32}}, "training.batch_size=20, but now it is 32"),
        ({"training": {"augmentation": None}}, "training.augmentation=set, but now it is null"),
        ({"training": {"epochs": 3}}, "training.epochs=30, but now it is 3, and a run is only made longer"),
        ({"model": {"options": {}}}, "model.options.dropout=0.5, but now it is missing"),
        ({"data": {"class_names": ["dogs", "cats"]}}, 'data.class_names=["cats", "dogs"], but now it is ["dogs"'),
        ({"data": {"fingerprint": {}}}, "data.fingerprint.test=cccccccccccc..., but now it is missing"),
    ],
)
def test_a_setting_that_differs_is_said(parts, expected):
    assert differences(CONFIG, changed(**parts))[0].startswith(expected)


def test_the_epochs_of_a_cosine_may_not_change():
    cosine = {"optimizer": Optimizer(schedule="cosine")}
    longer = changed(training=cosine | {"epochs": 40})
    (found,) = differences(changed(training=cosine), longer)
    assert found == "training.epochs=30, over which its learning rate falls, but now it is 40"


def test_every_field_says_what_resume_does_with_it():
    how = {path: resume for path, _, resume in leaves(CONFIG)}
    assert {path for path, resume in how.items() if resume == "may change"} == {
        "training.epochs",
        "training.checkpoint_every",
    }
    assert {path.split(".")[0] for path, resume in how.items() if resume == "informational"} == {
        "experiment",
        "variant",
        "model",  # its count of parameters
        "data",  # its path
        "versions",
        "commit",
    }
