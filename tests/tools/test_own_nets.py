"""Every tool on a net that jaxconv does not know: nested modules, batch norm, dropout, and a custom L2 term."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxconv.analysis.evaluation import evaluate_source, read_split
from jaxconv.analysis.predictor import Predictor
from jaxconv.runs import history
from tests.commands import fails
from tests.made_runs import fit_own, write_run
from tests.nets import BatchNormNet, SizedNet, sized
from tools import evaluate, export, inspect, net, predict

MODEL = "tests.nets:BatchNormNet"


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    return fit_own(photos, tmp_path_factory.mktemp("own") / "run")


@pytest.fixture(scope="module")
def picture(photos):
    return photos / "test/cats/cat.0.png"


def test_predict(run, picture, capsys):
    predict.main([str(run), str(picture), "--model", MODEL])
    (found,) = Predictor(run, model=BatchNormNet).predict([picture])
    assert capsys.readouterr().out == f"{picture}\t{found.class_name}\t{found.probability:.4f}\n"


def test_evaluate(run, tmp_path):
    path = tmp_path / "scores.json"
    evaluate.main([str(run), "--model", MODEL, "--epoch", "last", "--json", str(path)])
    found, last = json.loads(path.read_text())["scores"], history.read_result(run).last
    assert (found["accuracy"], found["confusion"]) == (last.test_acc, last.test_confusion)
    assert found["loss"] == pytest.approx(last.test_loss, rel=1e-6)
    predictor = Predictor(run, model=BatchNormNet, best=False)
    assert found["auc"] == evaluate_source(predictor, read_split(predictor, None, "test")[0])["auc"]


def test_export(run, picture, tmp_path):
    from jax import export as jax_export

    export.main([str(run), "--to", str(tmp_path / "net"), "--model", MODEL])
    exported, predictor = jax_export.deserialize((tmp_path / "net").read_bytes()), Predictor(run, model=BatchNormNet)
    images = np.stack([predictor.read_picture(picture)] * 3)
    np.testing.assert_allclose(exported.call(images), predictor.probabilities(images), rtol=1e-5)


def test_inspect(run, picture, tmp_path, capsys):
    layer = "Block_0/Conv_0"
    inspect.main([str(run), str(picture), "--model", MODEL, "--out", str(tmp_path / "out"), "--layer", layer])
    names = ["activations_Block_0-Conv_0.png", "activations_Block_1-Conv_0.png", "filter_patterns_Block_0-Conv_0.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "filters.png", "gradcam.png"]
    for path in (tmp_path / "out").iterdir():  # all are pictures, and none is a folder
        with Image.open(path) as shown:
            assert shown.format == "PNG"
    refused = "--layer Conv_0 is no convolution of this net: give one of Block_0/Conv_0, Block_1/Conv_0"
    assert refused in fails(inspect.main, capsys, run, picture, "--model", MODEL, "--layer", "Conv_0")


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [(predict, ["picture"]), (evaluate, []), (export, ["--to", "net"]), (inspect, ["picture"])],
    ids=["predict", "evaluate", "export", "inspect"],
)
def test_without_the_flag_the_tool_asks_for_it(tool, arguments, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    error = fails(tool.main, capsys, run, *arguments)
    asked = "give its class with --model MODULE:CLASS (in Python, model=), or name another run"
    named = f"{run}/config.json names the net 'tests.nets:BatchNormNet', which is not one of jaxconv's"
    assert error == f"error: {named}: {asked}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("tests.nets", "cannot be imported ("),
        (
            "tests.nets:None",
            "cannot be imported (module 'tests.nets' has no attribute 'None'): give it as MODULE:CLASS",
        ),
        ("nowhere:Net", "cannot be imported (No module named 'nowhere'): give it as MODULE:CLASS"),
        (".nets:Net", "cannot be imported ("),
        (":", "cannot be imported ("),
        ("json:loads", "is not a Flax linen module: give one as MODULE:CLASS"),
        ("json:JSONDecoder", "is not a Flax linen module: give one as MODULE:CLASS"),
        (
            "tests.nets:SizedNet",
            "SizedNet does not take the options in config.json (SizedNet.__init__() got an unexpected",
        ),
        ("tests.nets:SmallNet", "SmallNet does not take the options in config.json ("),
        ("tests.nets:sized", "is of another net or optimizer: collections/"),
    ],
)
def test_a_flag_that_names_no_net_of_the_run_is_refused(model, said, run, picture, capsys):
    assert said in fails(predict.main, capsys, run, picture, "--model", model)


def test_a_class_gets_the_fields_in_config_json(tmp_path, picture, capsys):
    write_run(tmp_path, SizedNet(5), (20, 22, 3), ["cats", "dogs"])
    predict.main([str(tmp_path), str(picture), "--model", "tests.nets:SizedNet"])
    (found,) = Predictor(tmp_path, model=SizedNet(5)).predict([picture])
    assert capsys.readouterr().out == f"{picture}\t{found.class_name}\t{found.probability:.4f}\n"


def test_a_net_may_be_named_in_place_of_its_class():
    assert net.import_model("tests.nets:sized") is sized
    assert net.import_model("tests.nets:BatchNormNet") is BatchNormNet
    assert net.import_model(None) is None
    assert isinstance(sized, SizedNet)
