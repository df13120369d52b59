"""The titles of runs, as the experiments, `jaxconv.fit` and tools.import_keras name them."""

import pytest

from jaxconv.analysis.titles import title
from jaxconv.models import MnistConvNet
from tests.made_runs import settings


@pytest.mark.parametrize(
    ("experiment", "variant", "expected"),
    [
        ("catsdogs", "plain", "Cats against dogs: plain net"),
        ("catsdogs", "aug-dropout", "Cats against dogs: augmentation, dropout"),
        ("catsdogs", "demo-plain-steps10", "Cats against dogs: drawn pictures, plain net, 10 steps an epoch"),
        (
            "folders-owns",
            "aug-64px-lr0.001",
            "Pictures in owns: augmentation, 64 pixels a side, learning rate 0.001",
        ),
        ("folders-my-dogs", "dropout-batch64", "Pictures in my-dogs: dropout, batches of 64"),
        (
            "folders-owns",
            "plain-bfloat16-whole-passes-lr1e-05-cosine-epochs10",
            "Pictures in owns: plain net, bfloat16, every picture once an epoch, learning rate 1e-05, cosine schedule, "
            "10 epochs",
        ),
        (
            "catsdogs",
            "aug-plateau-ema0.999-patience5",
            "Cats against dogs: augmentation, plateau schedule, weights averaged with decay 0.999, "
            "patience of 5 epochs",
        ),
        ("mnist", "convnet", "MNIST: convnet"),
        ("mnist", "convnet-average", "MNIST: convnet, average pooling"),
        ("mnist", "dense-bfloat16", "MNIST: dense net, bfloat16"),
        ("mnist", "keras-my-net.h5", "MNIST: imported from my-net.h5"),
        ("fit", "BatchNormNet", "BatchNormNet"),
        ("other", "a-lr", "other: a, lr"),
    ],
)
def test_a_title_is_as_a_person_would_write_it(experiment, variant, expected):
    config = settings(MnistConvNet(), (28, 28, 1), list("0123456789"), experiment=experiment, variant=variant)
    assert title(config) == expected
