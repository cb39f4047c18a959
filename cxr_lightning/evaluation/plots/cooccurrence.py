"""Which labels come together, in truth and in the calls, as two heat maps side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from cxr_lightning.evaluation.cooccurrence import Cooccurrence
from cxr_lightning.evaluation.plots.style import INK, TEXT, TITLE, display_name, new_figure

__all__ = ["cooccurrence_maps"]

CELL = 0.36  # inches; three digits fit


def cooccurrence_maps(found: Cooccurrence) -> Figure:
    """Draw P(column | row) in per cent: in the truth, and in the calls at the thresholds.

    The number behind a row's label is how many images have it; a dash stands where none has.
    """
    size = len(found.images)
    side = max(size * CELL, 2.2)
    figure = new_figure(2 * side + 4.2, side + 1.4)
    left, right = figure.subplots(1, 2)
    _map(left, found.true_share, found.true_counts, "In the truth")
    image = _map(right, found.called_share, found.called_counts, "In the calls at the thresholds")
    figure.suptitle(
        "Labels that come together: of the images with the row's label, "
        "the share with the column's",
        fontsize=TITLE + 2,
        color=INK,
    )
    bar = figure.colorbar(image, ax=[left, right], shrink=0.7, pad=0.01)
    bar.set_label("share of the row's images (%)", fontsize=TITLE, color=INK)
    bar.ax.tick_params(labelsize=TEXT)
    bar.outline.set_visible(False)
    return figure


def _map(axes: Axes, share: pd.DataFrame, counts: pd.DataFrame, title: str) -> AxesImage:
    percent = 100 * share.to_numpy(np.float64)
    names = [display_name(str(label)) for label in share.index]
    own = np.diag(counts.to_numpy())
    image = axes.imshow(np.nan_to_num(percent), cmap="Blues", vmin=0, vmax=100)
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, [f"{name} ({count:,})" for name, count in zip(names, own, strict=True)])
    axes.tick_params(length=0, labelsize=TEXT, colors=INK)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=TITLE + 0.5, color=INK)
    for (row, column), value in np.ndenumerate(percent):
        axes.text(
            column,
            row,
            "–" if np.isnan(value) else f"{value:.0f}",
            ha="center",
            va="center",
            fontsize=TEXT - 1,
            color="white" if value > 60 else INK,
        )
    return image
