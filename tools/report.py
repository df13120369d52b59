"""One HTML file that shows a run, or several side by side; it needs no other file, no network and no script.

    python -m tools.report runs/catsdogs-plain-seed0
    python -m tools.report runs/catsdogs-plain-seed0 runs/catsdogs-aug-dropout-seeds0-4 --out both.html

It has results, curves, the confusion matrix, the most confident mistakes on the test pictures beside what spoke for
them (Grad-CAM), and settings. Runs that differ in their seed alone are shown as their mean, lowest and highest; a
directory of --seeds stands for its runs. Mistakes are those of a configuration's first run. They need its checkpoints
and its pictures: those that config.json names if they are still the same, or those of --data.
"""

import argparse
import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.command import REPORT, bare_parser
from jaxconv.errors import InputError, one_line_errors
from jaxconv.workdir import write_whole
from tools import files, groups, net
from tools.groups import Group

if TYPE_CHECKING:
    import numpy as np

WORST = 12  # mistakes of a configuration
COLOURS = 8  # that the page has: --series-0 to --series-7
FOLDED = ("versions.", "device.", "data.fingerprint.")  # settings that few look at


class Mistake(NamedTuple):
    """A test picture and its heat map, as data URIs, and what it was taken for."""

    name: str
    label: str
    prediction: str
    confidence: float
    images: list[str]


class Mistakes(NamedTuple):
    """The most confident ones first, and what there is to say of all of them."""

    note: str
    worst: list[Mistake]


def find_mistakes(group: Group, data: Path | None) -> Mistakes:
    """Those of the first run of a group on the test pictures; the note says why, if they cannot be shown."""
    from jaxconv import insight, insight_figures, scores
    from tools import evaluate

    run = group.runs[0].workdir
    try:
        trained = net.read(argparse.Namespace(run=run, epoch=None))
        source, folder = evaluate.read(trained, data, "test")
    except InputError as error:
        return Mistakes(f"They are not here, because {error}.", [])
    found = scores.mistakes(*evaluate.predict(trained, source))
    wrong = f"{len(found):,} of {len(source):,} test pictures of {folder}"
    note = f"{run}, epoch {trained.epoch:g}, is wrong about {wrong}."
    worst = found[:WORST]
    if not worst:
        return Mistakes(note, [])
    import numpy as np

    images = np.stack([source[mistake.position]["image"] for mistake in worst])
    shown = [[_data_uri(image)] for image in images]
    try:
        heats = insight.grad_cam(trained, images)
    except InputError:
        note += " The net has no convolutions, and so no heat maps."
    else:
        note += f" The {len(worst)} most confident, and beside each where the net found what spoke for its answer."
        for pair, image, heat, mistake in zip(shown, images, heats, worst, strict=True):
            pair.append(_data_uri(insight_figures.overlay(image, heat[mistake.prediction])))
    names = trained.class_names
    return Mistakes(
        note,
        [
            Mistake(files.printable(source.name(place)), names[label], names[prediction], confidence, pair)
            for (place, label, prediction, confidence), pair in zip(worst, shown, strict=True)
        ],
    )


def _data_uri(image: "np.ndarray") -> str:
    """A photo as JPEG, which is a fifth of PNG, and a picture of few pixels as PNG, which blurs none."""
    from PIL import Image

    kind, content = "png" if image.shape[0] < 64 else "jpeg", io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(content, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def draw_curves(groups: Sequence[Group], key: str, name: str) -> str:
    """SVG for a page that has the colours: a line a group of validation, a dashed one of training, bands for seeds."""
    import numpy as np
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, MaxNLocator

    # Colours that nothing else has; the page's own, which change with its theme, take their places.
    ink, series = "#010203", [f"#01020{4 + i:x}" for i in range(COLOURS)]
    style: dict[Any, Any] = {
        "text.color": ink,
        "axes.labelcolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.edgecolor": ink,
    }
    content = io.StringIO()
    with rc_context(style | {"svg.fonttype": "none", "svg.hashsalt": key, "font.size": 9}):
        figure = Figure(figsize=(4.8, 3.2), layout="constrained")
        axes = figure.subplots()
        for colour, group in zip(series, groups, strict=False):
            for column, dashes in ((key, "--"), (f"val_{key}", "-")):
                rows = group.curve(column)
                epochs = range(1, group.epochs + 1)
                (line,) = axes.plot(epochs, np.mean(rows, 0), dashes, color=colour, linewidth=1.6)
                if group.epochs == 1:  # a line of one point is nothing
                    line.set(marker="o", fillstyle="full" if dashes == "-" else "none")
                if len(rows) > 1:
                    axes.fill_between(epochs, np.min(rows, 0), np.max(rows, 0), color=colour, alpha=0.18, linewidth=0)
        axes.set(title=name, xlabel="epoch")
        longest = max(group.epochs for group in groups)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True) if longest > 1 else FixedLocator([1]))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=ink, alpha=0.15, linewidth=0.6)
        figure.savefig(
            content, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    svg = content.getvalue()
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])  # which inside HTML say nothing
    for number, colour in enumerate(series):
        svg = svg.replace(colour, f"var(--series-{number})")
    return svg.replace(ink, "var(--ink)").replace("<svg", f'<svg role="img" aria-label="{name} over the epochs"', 1)


def render(groups_: Sequence[Group], data: Path | None) -> str:
    """The page.

    Raises:
        InputError: there are more groups than colours.
    """
    import jinja2
    from markupsafe import Markup

    if len(groups_) > COLOURS:
        raise InputError(f"{len(groups_)} configurations are more than {COLOURS} colours: name fewer runs")
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(
        loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    settings = groups.settings(groups_)
    return pages.get_template(REPORT).render(
        groups=groups_,
        charts=[Markup(draw_curves(groups_, key, name)) for key, name in (("acc", "accuracy"), ("loss", "loss"))],
        mistakes=[find_mistakes(group, data) for group in groups_],
        settings=[setting for setting in settings if not setting.name.startswith(FOLDED)],
        folded=[setting for setting in settings if setting.name.startswith(FOLDED)],
    )


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    assert __doc__
    parser = bare_parser("tools.report", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"(default: {REPORT} in the run directory; of several runs, here)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of train, validation, test (default: the run's)"
    )
    arguments = parser.parse_args(argv)
    out: Path = arguments.out or (arguments.runs[0] / REPORT if len(arguments.runs) == 1 else Path(REPORT))
    page = render(groups.read(arguments.runs), arguments.data).encode(errors="backslashreplace")  # names may be no text
    try:
        write_whole(out, page)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error.strerror}): name another file") from error
    print(f"{out} ({len(page) / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
