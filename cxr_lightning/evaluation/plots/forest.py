"""Forest plots: values with intervals, label under label, for subgroups and for two models."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxr_lightning.evaluation.plots.style import (
    BLUE,
    GREY,
    INK,
    PALETTE,
    TEXT,
    TITLE,
    Entry,
    display_name,
    figure_legend,
    new_figure,
    tidy,
)
from cxr_lightning.evaluation.subgroups import Subgroups
from cxr_lightning.evaluation.tables import MACRO

__all__ = ["difference_forest", "subgroup_forest"]

MARKERS = "osD^vPX*<>"
MOST_INCHES = 8.0  # of rows, on a sheet of paper
METRIC_NAMES = {
    "auroc": "AUROC (0.5: chance, 1: perfect)",
    "average_precision": "average precision (0 to 1)",
    "sensitivity": "sensitivity (share of positives found)",
    "specificity": "specificity (share of negatives left alone)",
    "underdiagnosis_rate": "underdiagnosis rate (share of the ill called well)",
}
COLUMN_NAMES = {
    "age_years": "age in years",
    "sex": "sex",
    "view": "view position",
    "source": "source of the data",
}


def subgroup_forest(subgroups: Subgroups, metric: str) -> Figure:
    """Draw one metric of every subgroup, label by label, with intervals.

    A subgroup that is too small has the reason in place of a point. What would be taller than a
    sheet of paper goes into two columns.
    """
    if metric not in METRIC_NAMES:
        raise ValueError(f"metric must be one of {', '.join(METRIC_NAMES)}, given {metric!r}")
    rows = subgroups.groups[subgroups.groups["metric"] == metric]
    groups, labels = [*rows["group"].unique()], [*rows["label"].unique()]
    step = 1 / (len(groups) + 0.8)
    each = 0.12 + 0.145 * len(groups)
    columns = 1 if len(labels) * each < MOST_INCHES else 2
    count = -(-len(labels) // columns)
    figure = new_figure(7.6 if columns == 1 else 10, max(2.4, 1.5 + count * each))
    panels = figure.subplots(1, columns, squeeze=False, sharex=True).ravel()
    lowest, highest = rows["low"].fillna(rows["value"]), rows["high"].fillna(rows["value"])
    limits = _limits(lowest, highest)
    for column, axes in enumerate(panels):
        part = labels[column * count : (column + 1) * count]
        # Blank rows at the end keep the panels' rows at one height.
        _rows(axes, [*map(_label, part), *[""] * (count - len(part))])
        axes.set_xlim(*limits)
        if metric == "auroc":
            axes.axvline(0.5, color=GREY, linewidth=1, linestyle="--", zorder=1)
    entries = []
    for g, group in enumerate(groups):
        colour, marker = PALETTE[g % len(PALETTE)], MARKERS[g % len(MARKERS)]
        entries.append(Entry(str(group), colour, marker, ""))
        of_group = rows[rows["group"] == group].set_index("label")
        for number, label in enumerate(labels):
            axes, place = panels[number // count], number % count
            y = place + (g - (len(groups) - 1) / 2) * step
            row = of_group.loc[label]
            if np.isnan(row["value"]):
                axes.text(
                    limits[0] + 0.008 * (limits[1] - limits[0]),
                    y,
                    f"{group}: {row['reason']}",
                    va="center",
                    fontsize=TEXT - 1.5,
                    color="#5F5F5F",
                )
                continue
            _point(axes, row["value"], row["low"], row["high"], y, colour, marker)
    about = COLUMN_NAMES.get(subgroups.column, display_name(subgroups.column))
    said = f"By {about}, with {subgroups.level:.0%} intervals"
    if columns == 1:
        panels[0].set_xlabel(METRIC_NAMES[metric], fontsize=TITLE, color=INK)
        panels[0].set_title(said, fontsize=TITLE + 2, color=INK)
    else:
        figure.supxlabel(METRIC_NAMES[metric], fontsize=TITLE, color=INK)
        figure.suptitle(said, fontsize=TITLE + 2, color=INK)
    figure_legend(figure, entries)
    return figure


def difference_forest(
    comparison: pd.DataFrame,
    metric: str = "auroc",
    *,
    level: float,
    names: tuple[str, str] = ("first", "second"),
) -> Figure:
    """Draw the difference of two models label by label, from `compare_models`.

    A filled point has a p-value, corrected for the number of labels, below 1 - `level`.
    """
    name = {"auroc": "AUROC", "average_precision": "average precision"}[metric]
    labels = [str(label) for label in comparison.index]
    prefix = f"{metric}_difference"
    figure = new_figure(8.6, max(2.4, 1.4 + 0.27 * len(labels)))
    axes = figure.add_subplot()
    _rows(axes, [_label(label) for label in labels])
    low, high = comparison[f"{prefix}_low"], comparison[f"{prefix}_high"]
    values = comparison[prefix]
    start, end = _limits(low.fillna(values), high.fillna(values), unit=False, around=0.0)
    axes.set_xlim(start, end)
    axes.axvline(0, color=GREY, linewidth=1, linestyle="--", zorder=1)
    columns = [prefix, *(f"{prefix}_{end}" for end in ("low", "high", "p_value", "p_holm"))]
    numbers = comparison[columns].to_numpy(np.float64).tolist()
    for place, (label, (value, left, right, p_value, p_holm)) in enumerate(
        zip(labels, numbers, strict=True)
    ):
        if np.isnan(value):
            _beside(axes, place, ("undefined: one class only",))
            continue
        marker = "D" if label == MACRO else "o"
        filled = p_holm < 1 - level
        _point(axes, value, left, right, place, BLUE, marker, filled=filled)
        difference = f"{value:+.3f}".replace("-", "−")
        _beside(axes, place, (difference, _p(p_value), "" if label == MACRO else _p(p_holm)))
    _beside(axes, -0.75, ("difference", "p", "Holm"))
    said = f"difference in {name}: {names[1]} minus {names[0]} (right: {names[1]} is better)"
    axes.set_xlabel(textwrap.fill(said, 78), fontsize=TITLE, color=INK)
    axes.set_title(
        f"{level:.0%} intervals; filled: corrected p < {1 - level:.2g}",
        fontsize=TITLE + 1,
        color=INK,
    )
    return figure


def _beside(axes: Axes, y: float, cells: tuple[str, ...]) -> None:
    """Write the cells of a table's row to the right of the axes."""
    for cell, points in zip(cells, (8, 66, 104), strict=False):
        axes.annotate(
            cell,
            (1, y),
            xycoords=("axes fraction", "data"),
            xytext=(points, 0),
            textcoords="offset points",
            va="center",
            fontsize=TEXT + 1,
            color=INK,
            annotation_clip=False,
        )


def _label(label: str) -> str:
    return "macro mean" if label == MACRO else display_name(label)


def _rows(axes: Axes, names: list[str]) -> None:
    """Lay out one row per name, from the top, every other one shaded."""
    tidy(axes)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelsize=TITLE)
    axes.set_ylim(len(names) - 0.5, -0.5)
    for place in range(0, len(names), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="#F3F3F3", zorder=0, linewidth=0)


def _point(
    axes: Axes,
    value: float,
    low: float,
    high: float,
    y: float,
    colour: str,
    marker: str,
    *,
    filled: bool = True,
) -> None:
    if not np.isnan(low):
        axes.plot([low, high], [y, y], color=colour, linewidth=1.3, solid_capstyle="butt")
    face = colour if filled else "white"
    axes.plot(value, y, marker=marker, ms=4.5, color=colour, markerfacecolor=face, zorder=3)


def _limits(
    low: pd.Series, high: pd.Series, *, unit: bool = True, around: float | None = None
) -> tuple[float, float]:
    """Ends of the axis a little beyond the intervals, inside [0, 1] for shares."""
    points = np.concatenate([low.to_numpy(np.float64), high.to_numpy(np.float64)])
    points = points[~np.isnan(points)]
    if around is not None:
        points = np.append(points, around)
    if not points.size:
        return (0.0, 1.0)
    margin = max(0.04 * float(np.ptp(points)), 0.005)
    start, end = float(points.min()) - margin, float(points.max()) + margin
    return (max(start, -0.01), min(end, 1.01)) if unit else (start, end)


def _p(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.3f}" if value >= 0.001 else "<0.001"
