"""A head for the frozen features of a net: fitted, written and used, against scikit-learn and the net's own answers."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from jaxconv import transfer
from jaxconv.analysis.evaluation import evaluate_source
from jaxconv.analysis.predictor import Predictor
from jaxconv.config import Augmentation, Transfer
from jaxconv.data.records import read_splits
from jaxconv.models.layers import Dense
from jaxconv.models.registry import Forward
from jaxconv.runs.directory import claim, write_config
from jaxconv.runs.history import read_result, read_rows
from jaxconv.runs.settings import NOTHING, configure, describe_data

SHAPE = (12, 14, 3)


class FrozenNet(nn.Module):
    """A convolution, its mean over the picture as features, and a dense layer."""

    classes: int = 2

    def setup(self) -> None:
        self.conv, self.classifier = nn.Conv(5, (3, 3)), Dense(1 if self.classes == 2 else self.classes)

    def features(self, images):
        return nn.relu(self.conv(images)).mean((1, 2))

    def __call__(self, images, *, train):
        return self.classifier(self.features(images))


@pytest.fixture(scope="module")
def splits(photos):
    return read_splits(photos, SHAPE[:2])


@pytest.fixture(scope="module")
def variables():
    return Forward(FrozenNet(7)).init(jax.random.key(0), jnp.zeros((1, *SHAPE), jnp.uint8))


def test_features_are_those_of_the_net_in_order(splits, variables, monkeypatch):
    monkeypatch.setattr(transfer, "BATCH", 4)
    source = splits.train
    found = transfer.extract(FrozenNet(7), variables, map(source.__getitem__, range(6)), 6, "train")
    images = jnp.stack([source[index]["image"] for index in range(6)])
    expected = Forward(FrozenNet(7))(variables, images, method="features")
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_fitted_net_answers_as_its_logits_say(splits, variables):
    fitted = transfer.fit(FrozenNet(), variables, splits)
    assert fitted.variables["params"]["conv"] is variables["params"]["conv"]
    images = jnp.stack([splits.test[index]["image"] for index in range(3)])
    logits = Forward(FrozenNet())(fitted.variables, images, train=False)
    np.testing.assert_allclose(logits[:, 0], np.diff(fitted.logits["test"])[:, 0], atol=1e-4)
    assert {name: found.shape for name, found in fitted.logits.items()} == {
        "train": (6, 2),
        "validation": (5, 2),
        "test": (3, 2),
    }


def test_versions_of_pictures_are_random_and_the_same_of_a_seed(splits, variables):
    """The validation pictures stay as they are."""
    options = {"augmentation": Augmentation(rotation_deg=40, flip=True), "views": 3}
    one, same, other = (transfer.fit(FrozenNet(), variables, splits, **options, seed=seed) for seed in (1, 1, 2))
    assert one.logits["train"].shape == (18, 2)
    np.testing.assert_array_equal(one.logits["train"], same.logits["train"])
    assert not np.allclose(one.logits["train"], other.logits["train"])
    assert len({row.tobytes() for row in one.logits["train"]}) == 18


@pytest.mark.parametrize("tested", [True, False])
def test_a_run_of_a_fitted_net_is_a_run_like_others(splits, variables, tmp_path, tested):
    splits = splits if tested else splits._replace(test=None)
    fitted, data = transfer.fit(FrozenNet(), variables, splits), describe_data(splits)
    begun = Transfer(weights="a test", sha256="0" * 64)
    config = configure(FrozenNet(), data, None, 3, NOTHING, experiment="transfer", variant="frozen", transfer=begun)
    with claim(tmp_path / "run", config, resume=False):
        write_config(tmp_path / "run", config)
        result = transfer.write(fitted, FrozenNet(), splits, config, tmp_path / "run", title="a test")
    assert read_result(tmp_path / "run") == result and result.l2 == fitted.l2 and result.best == result.last
    (row,) = read_rows(tmp_path / "run")
    labels = splits.validation.labels
    shifted = fitted.logits["validation"] - fitted.logits["validation"].max(1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    assert row["val_loss"] == pytest.approx(log_loss(labels, probabilities, labels=[0, 1]))
    assert row["learning_rate"] is None and (row["epoch"], row["step"]) == (1, 1)
    net = Predictor(tmp_path / "run", model=FrozenNet)
    name = "test" if tested else "validation"
    found = evaluate_source(net, splits.named()[name])
    assert net.epoch == 1 and found["confusion"] == result.last.confusion
    assert {path.stem for path in (tmp_path / "run/figures").iterdir()} == {
        "accuracy",
        "loss",
        "confusion",
        "predictions",
    }
    assert json.loads(Path(tmp_path / "run/config.json").read_text())["training"] is None
