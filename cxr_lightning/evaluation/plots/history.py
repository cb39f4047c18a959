"""Training curves: how loss, discrimination and learning rate went, epoch by epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cxr_lightning.evaluation.plots.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    PALETTE,
    TEXT,
    TITLE,
    VERMILION,
    new_figure,
    note,
    tidy,
)

__all__ = ["training_curves"]

LOSSES = (("train/loss", "training", BLUE), ("val/loss", "validation", VERMILION))
SCORES = (
    ("val/auroc_macro", "AUROC, macro", BLUE),
    ("val/average_precision_macro", "average precision, macro", GREEN),
)


def training_curves(history: pd.DataFrame, *, monitor: str = "val/auroc_macro") -> Figure:
    """Draw loss, validation scores and learning rates against the epoch.

    Parameters
    ----------
    history
        A column `epoch`, and any of `train/loss`, `val/loss`, `val/auroc_macro`,
        `val/average_precision_macro` and columns whose name starts with `lr`; NaN where an epoch
        has no value.
    monitor
        The column that chose the best epoch, marked in every panel; a loss is best when lowest.
    """
    if "epoch" not in history:
        raise ValueError(f"history has no column epoch; it has {', '.join(map(str, history))}")
    history = history.assign(epoch=history["epoch"] + 1)  # the first epoch is 1 wherever it is read
    figure = new_figure(10.5, 3.3)
    loss, score, rate = figure.subplots(1, 3)
    rates = [str(name) for name in history if str(name).startswith("lr")]
    short = {name: name.removeprefix("lr").strip("/-_ ") or "learning rate" for name in rates}
    _panel(loss, history, LOSSES, "Loss", "loss (mean of an epoch)")
    _panel(score, history, SCORES, "Validation scores", "score (1 is best)")
    _panel(
        rate,
        history,
        [(name, short[name], PALETTE[i % len(PALETTE)]) for i, name in enumerate(rates)],
        "Learning rate",
        "learning rate",
    )
    drawn = [history[name].dropna() for name in rates]
    if drawn and all((values > 0).all() for values in drawn):
        rate.set_yscale("log")
    _mark_best((loss, score, rate), history, monitor)
    return figure


def _panel(
    axes: Axes,
    history: pd.DataFrame,
    series: list[tuple[str, str, str]] | tuple[tuple[str, str, str], ...],
    title: str,
    unit: str,
) -> None:
    tidy(axes)
    axes.set_title(title, fontsize=TITLE + 0.5, color=INK)
    axes.set_xlabel("epoch", fontsize=TITLE, color=INK)
    axes.set_ylabel(unit, fontsize=TITLE, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    drawn = 0
    for name, label, colour in series:
        points = history[["epoch", name]].dropna() if name in history else history.iloc[:0]
        if len(points):
            marker = "o" if len(points) <= 30 else ""
            axes.plot(
                points["epoch"], points[name], label=label, color=colour, marker=marker, ms=3.5
            )
            drawn += 1
    if not drawn:
        note(axes, "nothing was recorded")
        axes.set(xticks=[], yticks=[])
        return
    first, last = history["epoch"].min(), history["epoch"].max()
    margin = max(0.03 * (last - first), 0.1)
    axes.set_xlim(first - margin, last + margin)
    if drawn > 1 or len(series) > 1:
        axes.legend(
            fontsize=TEXT,
            frameon=False,
            loc="upper right" if "loss" in title.lower() else "lower right",
        )


def _mark_best(panels: tuple[Axes, ...], history: pd.DataFrame, monitor: str) -> None:
    if monitor not in history or history[monitor].isna().all():
        return
    values = history[monitor].to_numpy(dtype=np.float64)
    row = np.nanargmin(values) if monitor.endswith("loss") else np.nanargmax(values)
    best = float(history["epoch"].iloc[int(row)])
    for axes in panels:
        if axes.lines:
            axes.axvline(best, color=GREY, linewidth=1, linestyle=":", zorder=1)
    panels[1].set_title(
        f"Validation scores (best: epoch {best:g})", fontsize=TITLE + 0.5, color=INK
    )
