import functools

import msgspec
import numpy as np
import optax
import pytest

from jaxconv.config import Optimizer, Training
from jaxconv.data.arrays import ArraySource
from jaxconv.data.records import Splits
from jaxconv.models import CatsDogsConvNet
from jaxconv.runs.settings import NOTHING, Own, configure, describe_data
from jaxconv.runtime.errors import InputError
from tests.nets import SmallNet


def source(count, value):
    return ArraySource(np.full((count, 46, 46, 3), value, np.uint8), np.arange(count, dtype=np.int32) % 2, ["a", "b"])


DATA = describe_data(Splits(source(6, 1), source(4, 2), source(4, 3)))
COPIED = describe_data(Splits(source(6, 1), source(4, 3), source(4, 3)))  # other arrays of the same pictures
DESCRIBED = {"experiment": "a", "variant": "b"}


def test_settings_have_the_net_the_data_and_where_it_is_trained():
    config = configure(CatsDogsConvNet(0.5), DATA, Training(), 7, NOTHING, **DESCRIBED)
    assert (config.seed, config.training, config.data) == (7, Training(), DATA)
    assert config.model.options == {"dropout": 0.5, "dtype": "float32", "classes": 2}
    assert DATA.counts == {"train": 6, "validation": 4, "test": 4}
    assert (DATA.kind, DATA.path, DATA.image_shape) == ("arrays", None, (46, 46, 3))
    assert config.versions["jax"] and config.device["platform"] == "cpu"


def squared(logits, targets):
    return (logits[:, 0] - targets[:, 1]) ** 2


def test_what_is_given_is_recorded_by_name():
    own = Own(optax.sgd(0.1), squared, {"half": functools.partial(squared)})
    training = configure(SmallNet(), DATA, Training(), 0, own, **DESCRIBED).training
    assert training.optimizer is None and training.schedule == "constant"
    assert training.given["loss"] == f"{__name__}.squared"
    assert training.given["half"].endswith("partial") and training.given["tx"].startswith("optax")


@pytest.mark.parametrize("choice", [{"patience": 3}, {"optimizer": Optimizer(schedule="plateau")}])
def test_test_pictures_choose_nothing(choice):
    training = msgspec.structs.replace(Training(), **choice)
    assert configure(SmallNet(), DATA, training, 0, NOTHING, **DESCRIBED)
    with pytest.raises(InputError, match="and here the validation pictures are the test pictures: leave them out"):
        configure(SmallNet(), COPIED, training, 0, NOTHING, **DESCRIBED)


def mean_squared(logits, targets):
    return squared(logits, targets).mean()


@pytest.mark.parametrize("own", [Own(loss=mean_squared), Own(metrics={"mean": mean_squared})])
def test_a_loss_or_metric_without_a_value_for_each_picture_is_refused(own):
    with pytest.raises(ValueError, match=r"(loss|mean) gives \[\] for two pictures, not one value for each"):
        configure(SmallNet(), DATA, Training(), 0, own, **DESCRIBED)


def test_names_of_metrics_that_are_taken_and_no_optimizer_are_refused():
    with pytest.raises(ValueError, match="a metric cannot have the name acc"):
        Own(metrics={"acc": squared})
    with pytest.raises(ValueError, match="there is no optimizer"):
        configure(SmallNet(), DATA, Training(optimizer=None), 0, NOTHING, **DESCRIBED)


def test_splits_of_other_classes_or_shapes_are_refused():
    other = ArraySource(np.zeros((4, 46, 46, 3), np.uint8), np.zeros(4, np.int32), ["b", "a"])
    with pytest.raises(ValueError, match="validation has other classes, or images of another shape, than train"):
        describe_data(Splits(source(6, 1), other, source(4, 3)))


def test_a_net_without_a_logit_for_each_class_is_refused():
    with pytest.raises(ValueError, match="a net of 3 logits cannot tell 2 classes apart"):
        configure(CatsDogsConvNet(classes=3), DATA, Training(), 0, NOTHING, **DESCRIBED)
