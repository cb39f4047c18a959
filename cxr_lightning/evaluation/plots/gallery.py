"""Examples of one label: each radiograph beside the same one with its heat map."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from cxr_lightning.evaluation.plots.style import GREEN, INK, TEXT, TITLE, VERMILION, new_figure

__all__ = ["Example", "example_gallery"]

CYAN = "#56EBFF"  # told apart from heat and grey by every kind of colour vision
SIDE = 1.75  # inches of a picture


class Example(NamedTuple):
    """A radiograph and its explanation.

    picture : uint8 of shape (H, W); explained : uint8 of shape (H, W, 3); boxes : (n, 4), x, y,
    width, height in their pixels; caption : a line or two; agrees : whether truth and decision are
    the same, None where the truth is unknown.
    """

    picture: NDArray[np.uint8]
    explained: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    caption: str
    agrees: bool | None


def example_gallery(examples: Sequence[Example], *, title: str, note: str = "") -> Figure:
    """Draw the examples in pairs, the frame green where decision and truth agree, else red."""
    if not examples:
        raise ValueError("no examples to draw")
    pairs = min(3, len(examples))
    rows = math.ceil(len(examples) / pairs)
    width = max(pairs * 2 * SIDE + 0.4, 5.2)
    figure = new_figure(width, rows * (SIDE + 0.55) + 0.75)
    across = int(width * 13)  # characters that fit
    figure.suptitle(textwrap.fill(title, across), fontsize=TITLE + 2, color=INK)
    if note:
        figure.supxlabel(textwrap.fill(note, int(width * 15)), fontsize=TEXT, color=INK)
    parts = figure.subfigures(rows, pairs, squeeze=False, wspace=0.02).ravel()
    for part, example in zip(parts, examples, strict=False):
        left, right = part.subplots(1, 2, gridspec_kw={"wspace": 0.0})
        part.suptitle(example.caption, fontsize=TEXT, color=INK)
        for axes, picture in ((left, example.picture), (right, example.explained)):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
            for x, y, width, height in example.boxes:
                box = Rectangle((x, y), width, height, fill=False, edgecolor=CYAN, linewidth=1.3)
                box.set_path_effects([withStroke(linewidth=2.6, foreground="black")])
                axes.add_patch(box)
            _frame(axes, example.agrees)
    return figure


def _frame(axes: Axes, agrees: bool | None) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(agrees is not None)
        spine.set_color(GREEN if agrees else VERMILION)
        spine.set_linewidth(2)
        spine.set_linestyle("-" if agrees else "--")  # told apart without colour too
