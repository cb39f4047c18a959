"""Heat maps against boxes: the share of boxes hit over the overlap that is asked for."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from cxr_lightning.evaluation.localisation import ALL
from cxr_lightning.evaluation.plots.style import (
    BLUE,
    GREY,
    INK,
    TEXT,
    TITLE,
    VERMILION,
    display_name,
    label_panels,
)

__all__ = ["localisation_curves"]


def localisation_curves(table: pd.DataFrame, *, title: str = "Localisation") -> Figure:
    """Draw the table of :func:`~cxr_lightning.evaluation.localisation.localisation_table`.

    A panel per label that has boxes, and one over all; its second line is the pointing game, with
    what a random point would hit.
    """
    counts = table.groupby("label", sort=False)["images"].first()
    labels = [str(label) for label in counts.index[counts > 0]]
    if len(labels) == 2:
        labels.remove(ALL)  # it would repeat the only label
    figure, panels = label_panels(
        labels,
        x="overlap T that is asked for",
        y="share of boxes hit",
        title=f"{title}: boxes with an overlap above T, with Wilson intervals",
    )
    for index, (label, axes) in enumerate(zip(labels, panels, strict=True)):
        part = table[table["label"] == label]
        for measure, colour, marker in (("IoU", BLUE, "o"), ("IoBB", VERMILION, "s")):
            one = part[part["measure"] == measure]
            axes.fill_between(
                one["threshold"], one["low"], one["high"], color=colour, alpha=0.15, linewidth=0
            )
            axes.plot(
                one["threshold"],
                one["share"],
                color=colour,
                marker=marker,
                ms=3.5,
                linewidth=1.4,
                label=measure,
                clip_on=False,
            )
        axes.set(xlim=(0.05, 0.75))
        axes.set_xticks([0.1, 0.3, 0.5, 0.7], ["0.1", "0.3", "0.5", "0.7"])
        boxes = int(part.loc[part["measure"] == "IoU", "n"].iloc[0])
        game = part[part["measure"] == "pointing"].iloc[0]
        axes.axhline(game["share"], color=GREY, linewidth=1, linestyle=":", label="pointing game")
        axes.set_title(
            f"{display_name(label)}: {boxes:,} box{'es' * (boxes != 1)}\n"
            f"pointing {int(game['hits']):,}/{int(game['n']):,}, by chance {game['chance']:.0%}",
            fontsize=TITLE - 0.5,
            color=INK,
        )
        if index == 0:
            axes.legend(fontsize=TEXT, frameon=False, loc="upper right")
    return figure
