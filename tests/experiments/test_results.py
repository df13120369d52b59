"""The committed runs: their files are read as those of any run, and agree with each other."""

from pathlib import Path

import pytest

from experiments import common, mnist, recipes
from jaxconv.models import registry
from jaxconv.models.summary import count_params, layer_shapes
from jaxconv.runs import directory, history

RESULTS = Path(__file__).parents[2] / "experiments/results"
RUNS = sorted(path.parent for path in RESULTS.rglob("metrics.jsonl"))


def test_there_are_runs_of_all_experiments():
    assert len(RUNS) == 26
    experiments = {directory.read_config(run).experiment for run in RUNS}
    assert experiments == {"catsdogs", "mnist", "transfer-cats_and_dogs_small", "transfer-trashnet"}
    assert {path.parent for path in RESULTS.rglob("config.json")} == {*RUNS}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.relative_to(RESULTS).as_posix())
def test_a_committed_run_is_read_as_any_other(run):
    config, rows, result = directory.read_config(run), history.read_rows(run), history.read_result(run)
    epochs = config.training.epochs if config.training else 1  # a fitted head has one row
    assert (len(rows), rows[-1]["step"]) == (epochs, epochs * config.steps_of_an_epoch)
    assert (result.l2 is None) == (config.training is not None)
    assert run.name.endswith(f"-seed{config.seed}")
    assert (result.last.epoch, result.last.val_acc) == (len(rows), rows[-1]["val_acc"])
    assert sum(map(sum, result.last.test_confusion)) == config.data.counts["test"]
    assert len(result.last.test_confusion) == len(config.data.class_names)
    assert (result.best is None) == config.data.validated_on_test == (config.experiment == "mnist")
    if result.best:
        assert result.best.val_loss == min(row["val_loss"] for row in rows)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.relative_to(RESULTS).as_posix())
def test_a_committed_run_has_the_name_and_the_net_that_the_command_would_give_it(run):
    config = directory.read_config(run)
    training, options = config.training, config.model.options
    if config.experiment == "catsdogs":
        aug, dropout = training.augmentation is not None, options["dropout"] > 0
        named = "-".join(name for name, on in (("aug", aug), ("dropout", dropout)) if on) or "plain"
        book = recipes.recipe("book", aug, dropout).training
    elif config.transfer:
        named, book = "frozen-aug" if config.transfer.augmentation else "frozen", training
    else:
        named = mnist.variant("dense" if config.model.name == "DenseNet" else "convnet", options.get("downsample"))
        book = mnist.BOOK
    assert config.variant == "-".join([named, *(common.changes(training, book) if training else [])])
    net = registry.build(config.model.name, options)
    assert count_params(layer_shapes(net, config.data.image_shape)[1]["params"]) == config.model.parameters
