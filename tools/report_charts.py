"""The curves of a report, as SVG that takes the colours of the page."""

import io
import re
from collections.abc import Sequence
from typing import Any

from jaxconv.analysis.comparison import Group

COLOURS = 8  # the page has --series-0 to --series-7
# Colours that nothing else has. The page's own, which change with its theme, take their places.
INK, SERIES = "#010203", [f"#01020{4 + i:x}" for i in range(COLOURS)]


def draw_curves(groups: Sequence[Group], key: str, name: str) -> str:
    """Draw the curves of "acc" or "loss": solid for validation, dashed for training, and a band over several seeds."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from jaxconv.runs.figures import whole_ticks

    inks: dict[Any, Any] = dict.fromkeys(
        ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK
    )
    content = io.StringIO()
    with rc_context(inks | {"svg.fonttype": "none", "svg.hashsalt": key, "font.size": 9}):
        figure = Figure(figsize=(4.8, 3.2), layout="constrained")
        axes = figure.subplots()
        for colour, group in zip(SERIES, groups, strict=False):
            for column, dashes in ((key, "--"), (f"val_{key}", "-")):
                _draw_curve(axes, group, column, dashes, colour)
        longest = max(group.epochs for group in groups)
        axes.set(title=name, xlabel="epoch", xticks=whole_ticks(range(1, longest + 1)))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=INK, alpha=0.15, linewidth=0.6)
        figure.savefig(
            content, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    return _themed(content.getvalue(), name)


def _draw_curve(axes: Any, group: Group, column: str, dashes: str, colour: str) -> None:
    import numpy as np

    rows, epochs = group.curve(column), range(1, group.epochs + 1)
    (line,) = axes.plot(epochs, np.mean(rows, 0), dashes, color=colour, linewidth=1.6)
    if group.epochs == 1:  # a line of one point is invisible
        line.set(marker="o", fillstyle="full" if dashes == "-" else "none")
    if len(rows) > 1:
        axes.fill_between(epochs, np.min(rows, 0), np.max(rows, 0), color=colour, alpha=0.18, linewidth=0)


def _themed(svg: str, name: str) -> str:
    """An SVG file as an element of an HTML page, with the variables of the page as its colours."""
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])  # HTML needs no namespaces
    for number, colour in enumerate(SERIES):
        svg = svg.replace(colour, f"var(--series-{number})")
    return svg.replace(INK, "var(--ink)").replace("<svg", f'<svg role="img" aria-label="{name} over the epochs"', 1)
