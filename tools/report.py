"""Write a report about a run, or about several runs side by side: one HTML file without scripts or links.

    python -m tools.report runs/catsdogs-plain-seed0
    python -m tools.report runs/catsdogs-plain-seed0 runs/catsdogs-aug-dropout-seeds0-4 --out both.html

The report shows results, curves, the confusion matrix, the most confident mistakes, and settings. The
mistakes are made on the test pictures or, without these, on the validation pictures.
Beside each mistake is a heat map of the evidence for the wrong answer, made with Grad-CAM, which weighs the feature
maps of the last convolution by gradients.

Runs that differ only in their seed are shown as mean, minimum and maximum. A directory of --seeds stands for its runs.
The mistakes are those of the first run of each configuration. They need its checkpoints and its pictures: the
unchanged pictures of the run, or those of --data.
"""

import argparse
import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jaxconv.analysis.comparison import Group, RunRecord, Setting, read, settings
from jaxconv.runs.directory import REPORT
from jaxconv.runtime import files
from jaxconv.runtime.cli import bare_parser, one_line_errors
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import write_whole
from tools import net
from tools.report_charts import COLOURS, draw_curves

if TYPE_CHECKING:
    import numpy as np

    from jaxconv.analysis.predictor import Predictor
    from jaxconv.analysis.scores import Mistake
    from jaxconv.data.records import Source

WORST = 12  # mistakes of a configuration
FOLDED = ("format", "versions.", "commit", "device.", "data.fingerprint.")  # settings that few readers need
AUGMENTATION = "training.augmentation"
LEFT_OUT = ("data.path",)  # a report may be sent to others, and names no folder of this machine
NOT_SHOWN = "The mistakes are not shown, because the net or its pictures could not be read."


class ShownMistake(NamedTuple):
    """A test picture and its heat map, as data URIs, with the label and the wrong prediction."""

    name: str
    label: str
    prediction: str
    confidence: float
    images: list[str]


class Mistakes(NamedTuple):
    """The most confident mistakes, the worst first, and a sentence about all mistakes."""

    note: str
    worst: list[ShownMistake]


def find_mistakes(group: Group, label: str, data: Path | None, model: str | None) -> Mistakes:
    """The mistakes of the first run of a group on the final pictures, with a note instead if they cannot be found.

    The group is called by its label in the note.
    """
    from jaxconv.analysis import scores
    from jaxconv.analysis.evaluation import predict_source, read_split

    run = group.runs[0]
    split = run.config.data.final_split
    try:
        predictor = _predictor(run, model)
        source, _ = read_split(predictor, data, split)
    except InputError as error:
        print(f"worst mistakes are left out: {error}", flush=True)
        return Mistakes(NOT_SHOWN, [])
    found = scores.mistakes(*predict_source(predictor, source))
    of = label if run.config.seed is None else f"{label}, seed {run.config.seed},"
    note = f"Epoch {predictor.epoch:g} of {of} is wrong about {len(found):,} of {len(source):,} {split} pictures."
    worst, more = _show(predictor, source, found[:WORST])
    return Mistakes(note + more, worst)


def _predictor(run: RunRecord, model: str | None) -> "Predictor":
    """The trained net of a run; `model` is meant for runs of nets that jaxconv does not know."""
    from jaxconv.models.registry import MODELS
    from jaxconv.runs.proof import list_steps

    if not list_steps(folder := run.workdir / "checkpoints"):
        raise InputError(f"its checkpoints are not in this folder ({folder} has none): name the one of its training")
    known = run.config.model.name in MODELS
    return net.read(argparse.Namespace(run=run.workdir, epoch=None, model=None if known else model))


def _show(predictor: "Predictor", source: "Source", found: "list[Mistake]") -> tuple[list[ShownMistake], str]:
    """The pictures of mistakes, and the sentence that explains them."""
    import numpy as np

    from jaxconv.analysis import interpret, interpret_figures

    if not found:
        return [], ""
    images = np.stack([source[mistake.position]["image"] for mistake in found])
    shown = [[_data_uri(image)] for image in images]
    try:
        heats = interpret.grad_cam(predictor, images)
    except InputError:
        explained = " The net has no convolutions, and so there are no heat maps."
    else:
        explained = f" Here are the {len(found)} most confident, each beside the net's evidence for its answer."
        for pair, image, heat, mistake in zip(shown, images, heats, found, strict=True):
            pair.append(_data_uri(interpret_figures.overlay(image, heat[mistake.prediction])))
    names = predictor.class_names
    worst = [
        ShownMistake(files.printable(source.name(place)), names[label], names[prediction], confidence, pair)
        for (place, label, prediction, confidence), pair in zip(found, shown, strict=True)
    ]
    return worst, explained


def _data_uri(image: "np.ndarray") -> str:
    """A picture as JPEG, which is a fifth of the size of PNG; a picture of few pixels as PNG, which blurs none."""
    from PIL import Image

    kind, content = "png" if image.shape[0] < 64 else "jpeg", io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(content, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def render(groups: Sequence[Group], data: Path | None, model: str | None = None) -> str:
    """The page.

    Raises:
        InputError: there are more groups than colours.
    """
    import jinja2
    from markupsafe import Markup

    if len(groups) > COLOURS:
        raise InputError(f"{len(groups)} configurations are more than {COLOURS} colours: name fewer runs")
    labels = [*"ABCDEFGH"[: len(groups)]] if len(groups) > 1 else [groups[0].name]
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(
        loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    listed = _settings(groups)
    return pages.get_template(REPORT).render(
        groups=groups,
        labels=labels,
        charts=[Markup(draw_curves(groups, key, name)) for key, name in (("acc", "accuracy"), ("loss", "loss"))],
        mistakes=[find_mistakes(*pair, data, model) for pair in zip(groups, labels, strict=True)],
        settings=[setting for setting in listed if not setting.name.startswith(FOLDED)],
        folded=[setting for setting in listed if setting.name.startswith(FOLDED)],
    )


def _settings(groups: Sequence[Group]) -> list[Setting]:
    """The settings that are shown; those of the augmentation, which a run may lack, are one."""
    listed = [setting for setting in settings(groups) if setting.name not in LEFT_OUT]
    parts = [setting for setting in listed if setting.name.startswith(AUGMENTATION)]
    values = []
    for number in range(len(groups)):
        given = {part.name.removeprefix(f"{AUGMENTATION}."): part.values[number] for part in parts}
        texts = [f"{name} {value}".replace("_", " ") for name, value in given.items() if value != "-"]
        values.append(", ".join(texts) or "none")
    if parts:
        listed[listed.index(parts[0])] = Setting(AUGMENTATION, values, len({*values}) > 1)
    return [setting for setting in listed if setting not in parts]


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and write the report."""
    assert __doc__
    parser = bare_parser("tools.report", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"file to write (default: RUN/{REPORT}, or {REPORT} in this folder for several runs)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of train, validation, test (default: that of the run)"
    )
    net.add_model(parser)
    arguments = parser.parse_args(argv)
    out: Path = arguments.out or (arguments.runs[0] / REPORT if len(arguments.runs) == 1 else Path(REPORT))
    page = render(read(arguments.runs), arguments.data, arguments.model)
    content = page.encode(errors="backslashreplace")  # file names may hold bytes that are no text
    try:
        write_whole(out, content)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error.strerror}): name another file") from error
    print(f"{out} ({len(content) / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
