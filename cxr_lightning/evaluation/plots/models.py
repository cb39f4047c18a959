"""Several models in the same panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cxr_lightning.evaluation.discrimination import auroc_per_label, operating_curve
from cxr_lightning.evaluation.plots.style import (
    GREY,
    INK,
    PALETTE,
    TITLE,
    Entry,
    LineStyle,
    display_name,
    figure_legend,
    label_panels,
    say_why,
)
from cxr_lightning.evaluation.predictions import arrays

__all__ = ["roc_of_models"]

LINES: tuple[LineStyle, ...] = ("-", "--", "-.", ":")


def roc_of_models(tables: Mapping[str, pd.DataFrame], labels: Sequence[str]) -> Figure:
    """Draw the ROC curves of each label, one for each predictions table, told by colour and line.

    A panel's second line holds the AUROCs in the order of the legend.
    """
    figure, panels = label_panels(
        labels,
        x="1 - specificity (false-positive rate)",
        y="sensitivity (true-positive rate)",
        title="ROC curves; AUROC in the order of the legend",
    )
    scored = {name: arrays(table, labels) for name, table in tables.items()}
    values = [auroc_per_label(one.y_true, one.y_score) for one in scored.values()]
    looks = list(zip(scored, cycle(PALETTE), cycle(LINES)))
    for index, (label, axes) in enumerate(zip(labels, panels, strict=True)):
        found = [value[index] for value in values]
        if np.isnan(found).all():
            say_why(axes, next(iter(scored.values())).y_true[:, index])
            continue
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
        for (name, colour, line), value in zip(looks, found, strict=True):
            if np.isnan(value):
                continue
            truth, score = scored[name].y_true[:, index], scored[name].y_score[:, index]
            curve = operating_curve(truth[~np.isnan(truth)], score[~np.isnan(truth)])
            fpr, tpr = curve.fp / curve.fp[-1], curve.tp / curve.tp[-1]
            axes.plot(
                np.append(0, fpr), np.append(0, tpr), color=colour, linestyle=line, linewidth=1.4
            )
        said = " · ".join("–" if np.isnan(value) else f"{value:.3f}" for value in found)
        axes.set_title(f"{display_name(label)}\n{said}", fontsize=TITLE, color=INK)
    figure_legend(figure, [Entry(name, colour, "", line) for name, colour, line in looks])
    return figure
