"""The page about runs: what it holds, that it needs nothing else, and that a browser shows it."""

import functools
import html.parser
import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from jaxconv.analysis.predictor import Predictor
from jaxconv.config import BOOK_AUGMENTATION, Training
from jaxconv.data.records import SplitDirectory
from jaxconv.models import CatsDogsConvNet
from jaxconv.runs import history
from jaxconv.runs.directory import write_config
from jaxconv.runs.history import EpochResult, Result
from tests import commands
from tests.made_runs import PRINTS, fit_own, row, settings, write, write_numbers
from tests.nets import FlatNet
from tools import report

fails = functools.partial(commands.fails, report.main)
NOT_SHOWN = "The mistakes are not shown, because the net or its pictures could not be read."


class Page(html.parser.HTMLParser):
    """What a page refers to, its elements, and the text of each section by its id."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.references, self.tags, self.text, self._section = [], [], {"": ""}, ""
        self.source = path.read_text()
        self.feed(self.source)
        self.text = {section: " ".join(text.split()) for section, text in self.text.items()}

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]
        if tag == "section":
            self._section = dict(attributes)["id"]
            self.text[self._section] = ""

    def handle_data(self, data):
        self.text[self._section] += f"{data} "


def page(*arguments, out):
    report.main([*map(str, arguments), "--out", str(out), "--model", "tests.nets:FlatNet"])
    return Page(out)


def fill(workdir, *, epochs=2, result=True, class_names=("cats", "dogs"), versions=None, **changes):
    """A run directory without a checkpoint: config.json, metrics.jsonl and result.json."""
    config = settings(CatsDogsConvNet(), (46, 46, 3), list(class_names), **changes)
    write_numbers(workdir, epochs=epochs, result=result, lift=config.seed / 100)
    write_config(workdir, msgspec.structs.replace(config, versions=versions or {}))
    return workdir


@pytest.fixture
def doubtful(tmp_path):
    """Test pictures of which any net that goes by their pixels mistakes just one, because it is in both classes."""
    root = tmp_path / "pictures"
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 70, 3), dtype=np.uint8))
    for name in ("cats", "dogs"):
        (root / "test" / name).mkdir(parents=True)
        picture.save(root / "test" / name / "same & <odd>.png")
    return root


def run_on(pictures, workdir, model, side):
    """A run with checkpoints and with these test pictures."""
    prints = PRINTS | {"test": SplitDirectory(pictures, "test", (side, side), interpolation="bilinear").fingerprint}
    config = settings(model, (side, side, 3), ["cats", "dogs"], fingerprint=prints, path=str(pictures))
    write(workdir, model, config)
    return write_numbers(workdir)


def test_a_run_becomes_a_page_that_needs_nothing_else(doubtful, tmp_path, capsys):
    run = run_on(doubtful, tmp_path / "run", CatsDogsConvNet(), 64)
    report.main([str(run)])
    found = Page(run / "report.html")
    size = (run / "report.html").stat().st_size
    assert capsys.readouterr().out == f"{run / 'report.html'} ({size / 1e6:.2f} MB)\n"
    assert size < 2e6
    assert [*found.text] == ["", "results", "curves", "confusion", "mistakes", "settings"]
    assert "Cats against dogs: plain net run , seed 0, 2 epochs" in found.text[""]
    for words in ("last epoch 2 0.5000 0.2500 0.7500 0.4524", "lowest val_loss 1 0.5000 0.2500 0.7500 0.8700"):
        assert words in found.text["results"]
    assert "lowest val_loss cats dogs cats 91 9 dogs 17 83" in found.text["confusion"]
    assert "learning rate 0.0001" in found.text["settings"]
    assert found.tags.count("svg") == 2 + 2  # the curves, and their legend
    # The picture is mistaken where it is in the class that the net does not take it for.
    net = Predictor(run)
    likely = net.probabilities(net.decode((doubtful / "test/cats/same & <odd>.png").read_bytes())[None])[0]
    label, prediction = ("dogs", "cats") if likely[0] > likely[1] else ("cats", "dogs")
    note = "Epoch 1 of Cats against dogs: plain net, seed 0, is wrong about 1 of 2 test pictures. Here are the 1 most"
    assert f"{note} confident, each beside" in found.text["mistakes"]
    assert f"{label} taken for {prediction} , {likely.max():.1%} {label}/same & <odd>.png" in found.text["mistakes"]
    images = [reference for reference in found.references if reference.startswith("data:image/jpeg;base64,")]
    assert len(images) == found.tags.count("img") == 2
    assert_alone(found)


def assert_alone(found):
    assert all(re.match(r"data:|#", reference) for reference in found.references)
    assert not re.search(r"https?:|@import|url\((?!#)", found.source)
    assert not {"script", "iframe", "object", "embed"} & {*found.tags}
    assert found.tags.count("link") == 1  # an icon of nothing


def test_a_page_names_no_folder_of_the_machine(doubtful, tmp_path):
    """Neither the places of runs nor those of pictures, whether the pictures are shown or not."""
    pictures = (tmp_path / "secret-of-pictures" / "pictures-7421").resolve()
    pictures.parent.mkdir()
    doubtful.rename(pictures)
    runs = [tmp_path / "secret-of-runs" / name for name in ("one", "seeds")]
    run_on(pictures, runs[0], FlatNet(), 12)
    for seed in (0, 1):
        fill(runs[1] / f"seed{seed}", seed=seed, path=str(pictures), experiment="mnist", variant="dense")
    moved = pictures.with_name("moved-7421")
    for arguments in ((runs[0],), (*runs,), (runs[0], "--data", moved)):
        if arguments[-1] == moved:
            pictures.rename(moved)
        found = page(*arguments, out=tmp_path / "a.html")
        source = re.sub(r"data:image[^\"]*", "", found.source)  # where any letters may stand
        for part in (str(tmp_path), tmp_path.name, "secret-of", "7421", str(Path.cwd())):
            assert part not in source, part
    assert found.tags.count("img") == 1


def test_pictures_that_are_gone_or_changed_are_left_out_and_data_finds_them(doubtful, tmp_path, capsys):
    run = run_on(doubtful, tmp_path / "run", FlatNet(), 12)
    moved = doubtful.rename(tmp_path / "moved")
    found = page(run, out=tmp_path / "a.html")
    assert NOT_SHOWN in found.text["mistakes"] and "img" not in found.tags
    gone = f"worst mistakes are left out: {run / 'config.json'} has its pictures in {doubtful}, which does not exist"
    assert gone in capsys.readouterr().out
    found = page(run, "--data", moved, out=tmp_path / "a.html")
    assert "1 of 2 test pictures. The net has no convolutions, and so there are no heat maps." in found.text["mistakes"]
    assert found.tags.count("img") == 1 and "image/png" in found.source  # 12x12 pixels, which JPEG would blur
    moved.rename(doubtful)
    Image.new("RGB", (50, 50)).save(doubtful / "test/cats/new.png")
    assert NOT_SHOWN in page(run, out=tmp_path / "a.html").text["mistakes"]
    assert f"worst mistakes are left out: {doubtful} no longer holds the test pictures" in capsys.readouterr().out


def test_a_net_without_mistakes_has_no_gallery(doubtful, tmp_path, monkeypatch):
    run = run_on(doubtful, tmp_path / "run", FlatNet(), 12)
    monkeypatch.setattr("jaxconv.analysis.scores.mistakes", lambda *_: [])
    found = page(run, out=tmp_path / "a.html")
    assert "0 of 2 test pictures." in found.text["mistakes"] and "img" not in found.tags


def test_names_are_escaped(tmp_path):
    run = fill(tmp_path / "a <b> run", class_names=["<b>", 'dogs & "cats"'], variant="<script>alert(1)</script>")
    found = page(run, out=tmp_path / "a.html")
    assert found.tags.count("b") == 0 and "script" not in found.tags
    assert '<b> dogs & "cats" <b> 91 9' in found.text["confusion"]
    assert "Cats against dogs: <script>alert(1)</script>" in found.text[""]
    assert_alone(found)


def test_seeds_are_one_configuration_with_mean_and_range(tmp_path):
    for seed in (3, 4, 11):
        fill(tmp_path / f"seeds/seed{seed}", seed=seed, versions={"jax": f"0.10.{seed}"})
    shown = page(tmp_path / "seeds", out=tmp_path / "a.html")
    assert "last epoch 2 0.5600 0.5300 to 0.6100 0.2500 0.8100 0.7800 to 0.8600" in shown.text["results"]
    assert "seed 11, last epoch 2 0.6100 0.2500 0.8600" in shown.text["results"]
    assert "lowest val_loss, 3 seeds together" in shown.text["confusion"]
    assert "seed 3, 4, 11" in shown.text["settings"] and "0.10.3, 0.10.4, 0.10.11" in shown.text["settings"]
    assert "fill-opacity: 0.18" in shown.source  # the bands


def test_configurations_are_side_by_side_in_colours_of_their_own(tmp_path):
    runs = [
        fill(tmp_path / "one"),
        fill(tmp_path / "other", training=Training(epochs=2, steps_per_epoch=3, batch_size=8)),
        fill(tmp_path / "third", variant="aug", fingerprint=PRINTS | {"validation": PRINTS["test"]}),
        fill(tmp_path / "again", seed=1, path="elsewhere"),
    ]
    shown = page(*runs, out=tmp_path / "a.html")
    assert "3 configurations side by side" in shown.text[""]
    titles = {"A": "plain net (one)", "B": "plain net (other)", "C": "augmentation"}
    for label, title in titles.items():
        assert f"{label}. Cats against dogs: {title} " in shown.text[""]
    assert "A: mean of 2 seeds, minimum to maximum last epoch" in shown.text["results"]
    assert "B last epoch 2 0.5000 0.2500 0.7500 0.4524 lowest val_loss" in shown.text["results"]
    assert shown.source.count("plain net (one)") == 2  # with the title of the window
    for number in range(3):
        assert shown.source.count(f"stroke: var(--series-{number})") >= 4  # two lines in both charts
    assert "stroke: var(--series-3)" not in shown.source
    assert "was validated on the test pictures" in shown.text["results"]
    assert "was validated on the test pictures" not in page(*runs[:2], out=tmp_path / "a.html").text["results"]


def test_the_augmentation_is_one_setting_that_a_run_may_lack(tmp_path):
    of_book = Training(epochs=2, steps_per_epoch=3, batch_size=4, augmentation=BOOK_AUGMENTATION)
    plain, augmented = fill(tmp_path / "plain"), fill(tmp_path / "aug", variant="aug", training=of_book)
    ranges = "rotation deg 40.0, shift 0.2, shear deg 11.46, zoom 0.2, flip yes"
    for runs, values in (((plain, augmented), f"none {ranges}"), ((augmented, plain), f"{ranges} none")):
        found = page(*runs, out=tmp_path / "a.html")
        assert f"training: augmentation {values} training: label smoothing" in found.text["settings"]
    assert "training: augmentation none" in page(plain, out=tmp_path / "a.html").text["settings"]
    assert f"training: augmentation {ranges}" in page(augmented, out=tmp_path / "a.html").text["settings"]


def test_seeds_of_several_configurations_are_told_apart(doubtful, tmp_path):
    nets = {"flat": FlatNet(), "convnet": CatsDogsConvNet()}
    for name, net in nets.items():
        run_on(doubtful, tmp_path / name / "seed0", net, 64)
    found = page(*(tmp_path / name for name in nets), out=tmp_path / "a.html")
    assert re.findall(r"Epoch 1 of (\w, seed 0,) is wrong", found.text["mistakes"]) == ["A, seed 0,", "B, seed 0,"]
    assert found.text[""].count(") seed 0, 2 epochs") == 2 and "seed0" not in found.source


def test_a_run_whose_checkpoints_are_elsewhere_says_so(tmp_path, capsys):
    run = fill(tmp_path / "run")
    assert NOT_SHOWN in page(run, out=tmp_path / "a.html").text["mistakes"]
    gone = f"its checkpoints are not in this folder ({run / 'checkpoints'} has none): name the one of its training"
    assert f"worst mistakes are left out: {gone}" in capsys.readouterr().out


def test_the_page_of_several_runs_is_written_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report.main([str(fill(tmp_path / "one")), str(fill(tmp_path / "other", seed=1))])
    assert "mean of 2 seeds" in Page(tmp_path / "report.html").text["results"]


def test_an_unfinished_run_is_shown_so_far(tmp_path):
    found = page(fill(tmp_path / "run", epochs=1, result=False), out=tmp_path / "a.html")
    assert ", 1 epoch, not finished" in found.text[""]
    assert "last epoch so far 1 0.5000 - -" in found.text["results"]
    assert "columns are predictions. There is none yet, because the run is not" in found.text["confusion"]
    assert "a single epoch: a dot, which is hollow for training" in found.text["curves"]


def test_a_run_that_is_made_longer_is_not_shown_by_its_old_result(tmp_path):
    run = fill(tmp_path / "run")
    history.append_row(run, row(3, lift=0.3))
    found = page(run, out=tmp_path / "a.html")
    assert ", 3 epochs, not finished" in found.text[""] and "last epoch so far 3 0.8000" in found.text["results"]


def test_equal_runs_have_equal_pages(tmp_path):
    run = fill(tmp_path / "run")
    assert page(run, out=tmp_path / "a.html").source == page(run, out=tmp_path / "b.html").source


def test_a_net_of_ones_own_is_shown_beside_a_net_of_the_library(photos, doubtful, tmp_path, capsys):
    """--model is for the runs of nets that jaxconv does not know, and for no others."""
    own = fit_own(photos, tmp_path / "own")
    book = run_on(doubtful, tmp_path / "book", CatsDogsConvNet(), 64)
    capsys.readouterr()
    report.main([str(own), str(book), "--model", "tests.nets:BatchNormNet", "--out", str(tmp_path / "a.html")])
    found = Page(tmp_path / "a.html")
    assert "left out" not in capsys.readouterr().out
    assert "BatchNormNet" in found.text[""]
    notes = re.findall(r"Epoch [12] of (\w), seed 0, is wrong about \d of \d test pictures", found.text["mistakes"])
    assert notes == ["A", "B"]
    report.main([str(own)])
    assert NOT_SHOWN in Page(own / "report.html").text["mistakes"]
    assert "names the net 'tests.nets:BatchNormNet', which is not one of jaxconv's" in capsys.readouterr().out


def test_what_is_wrong_is_named(tmp_path, capsys):
    none = tmp_path / "none"
    refused = f"error: {none} is not a run directory (no config.json): use one that was trained\n"
    assert fails(capsys, none) == refused
    early = fill(tmp_path / "early", epochs=0, result=False)
    refused = f"error: {early} has no epoch in its metrics.jsonl: name a run that has finished one\n"
    assert fails(capsys, early) == refused
    run = fill(tmp_path / "run")
    refused = f"error: --out {tmp_path} cannot be written (Is a directory): name another file\n"
    assert fails(capsys, run, "--out", tmp_path) == refused
    sizes = [Training(epochs=2, steps_per_epoch=3, batch_size=size) for size in range(1, 10)]
    many = [fill(tmp_path / f"many{size.batch_size}", training=size) for size in sizes]
    refused = "error: 9 configurations are more than 8 colours: name fewer runs\n"
    assert fails(capsys, *many) == refused
    (run / "result.json").write_text("{")
    cure = "--resume the run, which writes it anew"
    why = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    assert fails(capsys, run) == f"error: {run / 'result.json'} is damaged ({why}): {cure}\n"


@pytest.fixture
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_a_browser_shows_it(chromium, doubtful, tmp_path):
    """On a desktop and on a phone, light and dark: all in its width, nothing asked of any server, no complaint."""
    one = run_on(doubtful, tmp_path / "run", CatsDogsConvNet(), 64)
    other = fill(tmp_path / "other", variant="aug-" * 20, class_names=list("0123456789"))
    scores = {"val_loss": 0.1, "val_acc": 0.9, "test_loss": 0.1, "test_acc": 0.9}
    tested = EpochResult(epoch=2, test_confusion=[[1000] * 10] * 10, **scores)
    history.write_result(other, Result(val_acc_mean_last_10=0.9, last=tested))
    longer = Training(epochs=3, steps_per_epoch=3, batch_size=4)
    seeds = [fill(tmp_path / f"seed{seed}", seed=seed, training=longer) for seed in (0, 1)]
    path = tmp_path / "report.html"
    report.main([*map(str, (one, other, *seeds)), "--out", str(path)])
    backgrounds = set()
    for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
        context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
        shown, said, asked = context.new_page(), [], []
        shown.on("console", lambda message, said=said: said.append(message.text))
        shown.on("pageerror", lambda error, said=said: said.append(str(error)))
        shown.on("request", lambda request, asked=asked: asked.append(request.url))
        shown.goto(path.as_uri())
        shown.click("summary")
        assert said == []
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        assert shown.evaluate("document.documentElement.scrollWidth") == width
        assert shown.evaluate("[...document.images].map(image => image.naturalWidth)") == [64, 64]
        chart = shown.locator(".chart svg").first.bounding_box()
        assert 300 < chart["width"] < width and chart["height"] > 150
        ink, background = (
            shown.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor")
        )
        assert shown.evaluate("getComputedStyle(document.querySelector('.chart text')).fill") == ink != background
        backgrounds.add(background)
        context.close()
    assert len(backgrounds) == 2
