"""The page about runs: what it holds, that it needs nothing else, and that a browser shows it."""

import html.parser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_trained import PRINTS, write_run

from jaxconv import trained
from jaxconv.models import CatsDogsConvNet, DenseNet
from jaxconv.records import SplitDirectory
from tools import groups, report

SETTINGS = {"experiment": "catsdogs", "variant": "plain", "epochs": 2, "learning_rate": 1e-4}


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
    report.main([*map(str, arguments), "--out", str(out)])
    return Page(out)


def fill(workdir, *, rows=2, more=(), result=True, **settings):
    """Make of a directory one of a run, whatever net is in it: config.json, metrics.jsonl and result.json."""
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "config.json"
    config = {"class_names": ["cats", "dogs"], "data": {"fingerprint": PRINTS}, "seed": 0} | SETTINGS
    if path.exists():
        config |= json.loads(path.read_text())
    config |= settings
    config["data"] |= dict(more)
    path.write_text(json.dumps(config))
    lift = config["seed"] / 100
    columns = [{"epoch": e, "acc": 0.6 + lift, "val_acc": 0.5 + lift, "loss": 1 / e, "val_loss": 2 / e} for e in (1, 2)]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in columns[:rows]))
    scores = {"val_acc": 0.5 + lift, "val_loss": 1.0, "test_loss": 0.25, "test_acc": 0.75 + lift}
    both = {
        "last": {"epoch": 2, "test_confusion": [[1, 2], [3, 4]]} | scores,
        "best": {"epoch": 1, "test_confusion": [[91, 9], [17, 83]]} | scores,
    }
    if result:
        (workdir / "result.json").write_text(json.dumps(both))
    return workdir


@pytest.fixture
def doubtful(tmp_path):
    """Test pictures of which just one is mistaken by any net that tells them by what is seen: it is in both classes."""
    root = tmp_path / "pictures"
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 70, 3), dtype=np.uint8))
    for name in ("cats", "dogs"):
        (root / "test" / name).mkdir(parents=True)
        picture.save(root / "test" / name / "same & <odd>.png")
    return root


def run_on(pictures, workdir, model, side):
    write_run(workdir, model, (side, side, 3), ["cats", "dogs"])
    prints = PRINTS | {"test": SplitDirectory(pictures, "test", (side, side), interpolation="bilinear").fingerprint}
    return fill(workdir, more={"fingerprint": prints, "path": str(pictures)})


def test_a_run_becomes_a_page_that_needs_nothing_else(doubtful, tmp_path, capsys):
    run = run_on(doubtful, tmp_path / "run", CatsDogsConvNet(), 64)
    report.main([str(run)])
    found = Page(run / "report.html")
    size = (run / "report.html").stat().st_size
    assert capsys.readouterr().out == f"{run / 'report.html'} ({size / 1e6:.2f} MB)\n"
    assert size < 2e6
    assert [*found.text] == ["", "results", "curves", "confusion", "mistakes", "settings"]
    for words in ("last epoch 2 0.5000 0.2500 0.7500", "lowest val_loss 1 0.5000 0.2500 0.7500"):
        assert words in found.text["results"]
    assert "lowest val_loss cats dogs cats 91 9 dogs 17 83" in found.text["confusion"]
    assert "learning rate 0.0001" in found.text["settings"]
    assert found.tags.count("svg") == 2 + 2  # the curves, and their legend
    # The picture is mistaken where it is in the class that the net does not take it for.
    net = trained.load(run)
    likely = net.predict(net.decode((doubtful / "test/cats/same & <odd>.png").read_bytes())[None])[0]
    label, prediction = ("dogs", "cats") if likely[0] > likely[1] else ("cats", "dogs")
    assert f"{run}, epoch 1, is wrong about 1 of 2 test pictures of {doubtful}." in found.text["mistakes"]
    assert f"{label} taken for {prediction} , {likely.max():.1%} {label}/same & <odd>.png" in found.text["mistakes"]
    images = [reference for reference in found.references if reference.startswith("data:image/jpeg;base64,")]
    assert len(images) == found.tags.count("img") == 2
    assert_alone(found)


def assert_alone(found):
    assert all(re.match(r"data:|#", reference) for reference in found.references)
    assert not re.search(r"https?:|@import|url\((?!#)", found.source)
    assert not {"script", "iframe", "object", "embed"} & {*found.tags}
    assert found.tags.count("link") == 1  # an icon of nothing


def test_pictures_that_are_gone_or_changed_are_named_and_data_finds_them(doubtful, tmp_path):
    run = run_on(doubtful, tmp_path / "run", DenseNet(), 12)
    moved = doubtful.rename(tmp_path / "moved")
    found = page(run, out=tmp_path / "a.html")
    assert (
        f"They are not here, because {run / 'config.json'} has its pictures in {doubtful}, which"
        in found.text["mistakes"]
    )
    assert "img" not in found.tags
    found = page(run, "--data", moved, out=tmp_path / "a.html")
    assert f"1 of 2 test pictures of {moved}" in found.text["mistakes"]
    assert "The net has no convolutions, and so no heat maps." in found.text["mistakes"]
    assert found.tags.count("img") == 1 and "image/png" in found.source  # 12x12 pixels, which JPEG would blur
    moved.rename(doubtful)
    Image.new("RGB", (50, 50)).save(doubtful / "test/cats/new.png")
    found = page(run, out=tmp_path / "a.html")
    assert f"because {doubtful} no longer holds the test pictures" in found.text["mistakes"]


def test_a_net_without_mistakes_has_no_gallery(doubtful, tmp_path, monkeypatch):
    run = run_on(doubtful, tmp_path / "run", DenseNet(), 12)
    monkeypatch.setattr("jaxconv.scores.mistakes", lambda *_: [])
    found = page(run, out=tmp_path / "a.html")
    assert "0 of 2 test pictures" in found.text["mistakes"] and "img" not in found.tags


def test_what_is_no_word_of_ours_is_escaped(tmp_path):
    run = fill(tmp_path / "a <b> run", class_names=["<b>", 'dogs & "cats"'], variant="<script>alert(1)</script>")
    found = page(run, out=tmp_path / "a.html")
    assert found.tags.count("b") == 0 and "script" not in found.tags
    assert '<b> dogs & "cats" <b> 91 9' in found.text["confusion"]
    assert "catsdogs <script>alert(1)</script>" in found.text[""]
    assert_alone(found)


def test_seeds_are_one_configuration_with_mean_and_range(tmp_path):
    for seed in (3, 4, 11):
        fill(tmp_path / f"seeds/seed{seed}", seed=seed, versions={"jax": f"0.10.{seed}"})
    (group,) = groups.read([tmp_path / "seeds"])
    assert [run.config["seed"] for run in group.runs] == [3, 4, 11]
    found = group.numbers()["last epoch"]["test_acc"]
    assert found == pytest.approx((0.75 + 0.06, 0.78, 0.86))
    assert group.confusion.counts == [[273, 27], [51, 249]]
    np.testing.assert_allclose(group.curve("val_acc"), [[0.53] * 2, [0.54] * 2, [0.61] * 2])
    shown = page(tmp_path / "seeds", out=tmp_path / "a.html")
    assert "last epoch 2 0.5600 0.5300 to 0.6100 0.2500 0.8100 0.7800 to 0.8600" in shown.text["results"]
    assert "seed 11, last epoch 2 0.6100 0.2500 0.8600" in shown.text["results"]
    assert "lowest val_loss, 3 seeds together" in shown.text["confusion"]
    assert "seed 3, 4, 11" in shown.text["settings"] and "0.10.3, 0.10.4, 0.10.11" in shown.text["settings"]
    assert "fill-opacity: 0.18" in shown.source  # the bands


def test_configurations_are_side_by_side_in_colours_of_their_own(tmp_path):
    one, other = fill(tmp_path / "one"), fill(tmp_path / "other", learning_rate=1e-3, data={"fingerprint": PRINTS})
    third = fill(tmp_path / "third", variant="aug", more={"fingerprint": PRINTS | {"validation": "c"}})
    again = fill(tmp_path / "again", seed=1, more={"path": "elsewhere"})
    found = groups.read([one, other, third, again])
    assert [(group.name, len(group.runs)) for group in found] == [
        (f"catsdogs plain ({one})", 2),
        (f"catsdogs plain ({other})", 1),
        ("catsdogs aug", 1),
    ]
    assert [group.chosen_by_test for group in found] == [False, False, True]
    differ = {setting.name: setting.values for setting in groups.settings(found) if setting.differs}
    assert differ["learning_rate"] == ["0.0001", "0.001", "0.0001"]
    assert differ["data.path"] == ["-, elsewhere", "-", "-"] and "epochs" not in differ
    shown = page(one, other, third, again, out=tmp_path / "a.html")
    assert "3 configurations side by side" in shown.text[""]
    for number in range(3):
        assert shown.source.count(f"stroke: var(--series-{number})") >= 4  # two lines in both charts
    assert "stroke: var(--series-3)" not in shown.source
    assert "MNIST has no validation pictures of its own" in shown.text["results"]


def test_several_runs_are_written_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report.main([str(fill(tmp_path / "one")), str(fill(tmp_path / "other", seed=1))])
    assert "2 seeds" in Page(tmp_path / "report.html").text["results"]


def test_a_run_that_goes_on_is_shown_so_far(tmp_path):
    found = page(fill(tmp_path / "run", rows=1, result=False), out=tmp_path / "a.html")
    assert ", 1 epoch, not finished" in found.text[""]
    assert "last epoch so far 1 0.5000 - -" in found.text["results"]
    assert "none yet, the run is not finished" in found.text["confusion"]
    assert "a dot, a hollow one of training" in found.text["curves"]
    fill(tmp_path / "seeds/seed0")
    fill(tmp_path / "seeds/seed1", seed=1, rows=1, result=False)
    fill(tmp_path / "seeds/seed2", seed=2, rows=0, result=False)
    (group,) = groups.read([tmp_path / "seeds"])
    assert [run.config["seed"] for run in group.runs] == [0, 1]
    assert len(group.curve("acc")[0]) == 1 and group.numbers()["last epoch"]["test_acc"].high == 0.75


def test_a_run_that_is_made_longer_is_not_shown_by_its_old_result(tmp_path):
    run = fill(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 3, "acc": 0.9, "val_acc": 0.8, "loss": 0.1, "val_loss": 0.2}) + "\n")
    found = page(run, out=tmp_path / "a.html")
    assert ", 3 epochs, not finished" in found.text[""] and "last epoch so far 3 0.8000" in found.text["results"]


def test_a_run_that_is_named_twice_is_one(tmp_path):
    for seed in (0, 1):
        fill(tmp_path / f"seeds/seed{seed}", seed=seed)
    (group,) = groups.read([tmp_path / "seeds", tmp_path / "seeds/seed1", tmp_path / "seeds"])
    assert [run.config["seed"] for run in group.runs] == [0, 1]


def test_equal_runs_have_equal_pages(tmp_path):
    run = fill(tmp_path / "run")
    assert page(run, out=tmp_path / "a.html").source == page(run, out=tmp_path / "b.html").source


def test_settings_are_written_as_people_write_them():
    shown = [groups.shown(json.dumps(value)) for value in (None, True, False, [150, 150, 3], 3453121, 1e-4, "<b>")]
    assert shown == ["-", "yes", "no", "150, 150, 3", "3,453,121", "0.0001", "<b>"]


def check_refused(capsys, message, *arguments):
    with pytest.raises(SystemExit) as stop:
        report.main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_mistakes_are_named(tmp_path, capsys):
    none = tmp_path / "none"
    check_refused(
        capsys, f"{none} is not the directory of a run, it has no config.json: name one that was trained", none
    )
    early = fill(tmp_path / "early", rows=0, result=False)
    check_refused(capsys, f"{early} has no epoch in its metrics.jsonl: name a run that has finished one", early)
    run = fill(tmp_path / "run")
    message = f"--out {tmp_path} cannot be written (Is a directory): name another file"
    check_refused(capsys, message, run, "--out", tmp_path)
    many = [fill(tmp_path / f"many{number}", batch_size=number) for number in range(1, 10)]
    check_refused(capsys, "9 configurations are more than 8 colours: name fewer runs", *many)
    (run / "result.json").write_text("{")
    cure = "--resume the run, which writes it anew"
    why = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    check_refused(capsys, f"{run / 'result.json'} is damaged ({why}): {cure}", run)


def test_help_answers_at_once():
    heavy = "{'numpy', 'PIL', 'jax', 'matplotlib', 'jinja2'}"
    code = f"import sys; from tools import report; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


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
    result = {"epoch": 1, "val_acc": 0.9, "test_loss": 0.1, "test_acc": 0.9, "test_confusion": [[1000] * 10] * 10}
    (other / "result.json").write_text(json.dumps({"last": result}))
    seeds = [fill(tmp_path / f"seed{seed}", seed=seed, epochs=3) for seed in (0, 1)]
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
