"""One look for all figures: colours, sizes, small multiples, saving."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from numpy.typing import NDArray

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "ORANGE",
    "PALETTE",
    "VERMILION",
    "Entry",
    "display_name",
    "figure_legend",
    "label_panels",
    "lay_out",
    "new_figure",
    "note",
    "save_figure",
    "say_why",
    "tidy",
    "with_interval",
]

# Okabe and Ito's palette: told apart by every common kind of colour vision, and in print
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
)
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
INK, GREY = "#222222", "#8A8A8A"
PANEL = 2.35  # inches; a title of 24 characters fits above
TITLE, TEXT = 9.5, 8.5  # points
LineStyle = Literal["-", "--", "-.", ":", ""]


def display_name(label: str) -> str:
    """Return a label as prose: `Pleural_Thickening` becomes `Pleural Thickening`."""
    return " ".join(label.replace("_", " ").split())


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches that lays itself out."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def lay_out(figure: Figure) -> None:
    """Lay a figure out, once for all formats.

    Left to itself, matplotlib lays it out anew, and draws it twice, whenever it is saved.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def save_figure(figure: Figure, path: Path, *, dpi: int = 150) -> Path:
    """Write the figure (the format follows the suffix), creating its folder; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lay_out(figure)
    figure.savefig(path, dpi=dpi)
    return path


def tidy(axes: Axes) -> None:
    """Give an axes the common look: open at the top and right, faint grid, small ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=TEXT, colors=INK, length=3, color=GREY)
    axes.grid(True, color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)


def note(axes: Axes, text: str) -> None:
    """Write into an empty panel why it is empty."""
    axes.text(
        0.5,
        0.5,
        text,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=TEXT,
        color=INK,
        linespacing=1.4,
    )


def say_why(axes: Axes, y_true: NDArray[np.float64]) -> None:
    """Say in a label's panel why nothing is drawn: which class its known images (n,) lack."""
    known = int((~np.isnan(y_true)).sum())
    positives = int((y_true == 1).sum())
    if not known:
        reason = "no image\nhas this label known"
    elif not positives:
        reason = f"no positive\namong {known:,} images"
    else:
        reason = f"no negative\namong {known:,} images"
    note(axes, f"undefined:\n{reason}")
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"{axes.get_title()}\nnot defined", fontsize=TEXT + 1, color=INK)


class Entry(NamedTuple):
    """A line of a legend."""

    name: str
    colour: str
    marker: str
    line: LineStyle


def figure_legend(figure: Figure, entries: Sequence[Entry]) -> None:
    """Name what all panels share, in a strip that is added below them."""
    longest = max(len(one.name) for one in entries)
    # characters that fit, at about 12 an inch; a handle takes seven
    columns = int(np.clip(figure.get_figwidth() * 12 / (longest + 7), 1, len(entries)))
    strip = 0.1 + 0.2 * math.ceil(len(entries) / columns)
    height = figure.get_figheight() + strip + 0.15
    figure.set_figheight(height)
    bottom = strip
    if figure.get_supxlabel():  # the layout would leave it at the very bottom
        below = (strip + 0.04) / height
        figure.supxlabel(figure.get_supxlabel(), y=below, fontsize=TITLE, color=INK)
        bottom += 0.24
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, bottom / height, 1, 1 - bottom / height))
    handles = [
        Line2D(
            [],
            [],
            label=one.name,
            color=one.colour,
            marker=one.marker,
            linestyle=one.line,
            ms=4,
            linewidth=1.4,
        )
        for one in entries
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=columns,
        fontsize=TITLE,
        frameon=False,
        labelcolor=INK,
        borderaxespad=0.2,
    )


def label_panels(
    labels: Sequence[str], *, x: str, y: str, title: str, unit_square: bool = True
) -> tuple[Figure, Iterator[Axes]]:
    """Return a figure with a panel per label, axes named once, and an iterator over the panels.

    `unit_square`: both axes run from 0 to 1 and only the outer panels carry numbers.
    """
    if not labels:
        raise ValueError("no labels to draw")
    columns = min(len(labels), 3 if len(labels) <= 6 else 4 if len(labels) <= 12 else 5)
    if len(labels) == 4:
        columns = 2
    rows = math.ceil(len(labels) / columns)
    # the title needs width even above a single panel
    figure = new_figure(max(columns * PANEL + 0.5, 4.6), rows * (PANEL + 0.35) + 0.7)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for index, axes in enumerate(grid):
        if index >= len(labels):
            axes.remove()
            continue
        tidy(axes)
        axes.set_box_aspect(1)
        if unit_square:
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            ticks = [0, 0.5, 1]
            axes.set_xticks(ticks, ["0", "0.5", "1"])
            axes.set_yticks(ticks, ["0", "0.5", "1"])
            axes.tick_params(
                labelbottom=index + columns >= len(labels), labelleft=index % columns == 0
            )
        axes.set_title(display_name(labels[index]), fontsize=TITLE, color=INK)
    across = int(figure.get_figwidth() * 11)  # characters that fit
    figure.suptitle(textwrap.fill(title, across), fontsize=TITLE + 2, color=INK)
    figure.supxlabel(x, fontsize=TITLE, color=INK)
    figure.supylabel(y, fontsize=TITLE, color=INK)
    return figure, iter(grid[: len(labels)])


def with_interval(value: float, low: float | None, high: float | None) -> str:
    """Return `0.812 (0.790–0.833)`, without the bracket where there is no interval."""
    if low is None or high is None or np.isnan(low) or np.isnan(high):
        return f"{value:.3f}"
    return f"{value:.3f} ({low:.3f}–{high:.3f})"
