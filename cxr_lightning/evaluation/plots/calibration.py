"""Reliability of each label before and after calibration, in one panel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cxr_lightning.evaluation._checks import check_scores
from cxr_lightning.evaluation.calibration import (
    expected_calibration_error_per_label,
    reliability_curve,
)
from cxr_lightning.evaluation.plots.style import (
    BLUE,
    GREY,
    INK,
    TITLE,
    VERMILION,
    Entry,
    display_name,
    figure_legend,
    label_panels,
    say_why,
)

__all__ = ["calibration_curves"]


def calibration_curves(
    y_true: ArrayLike,
    before: ArrayLike,
    after: ArrayLike,
    labels: Sequence[str],
    *,
    names: tuple[str, str] = ("before calibration", "after"),
    bins: int = 10,
) -> Figure:
    """Draw observed prevalence against mean probability for two sets of probabilities.

    Parameters
    ----------
    y_true, before, after
        Shape (n, L); patients whom the calibration was not fitted on.
    names
        What the legend calls the two.
    """
    truth, first = check_scores(y_true, before)
    _, second = check_scores(y_true, after)
    figure, panels = label_panels(
        labels,
        x="mean predicted probability",
        y="observed prevalence",
        title="Reliability in equal-mass bins with 95% interval; "
        "expected calibration error (ECE) before → after",
        unit_square=False,
    )
    errors = [
        expected_calibration_error_per_label(truth, score, bins=bins) for score in (first, second)
    ]
    entries = (
        Entry(names[0], VERMILION, "s", "--"),
        Entry(names[1], BLUE, "o", "-"),
    )
    for index, axes in enumerate(panels):
        if np.isnan(errors[0][index]):
            say_why(axes, truth[:, index])
            continue
        curves = [
            reliability_curve(truth[:, index], score[:, index], bins=bins)
            for score in (first, second)
        ]
        # rare findings crowd near 0: each panel is as wide as its own bins
        end = min(1.0, 1.05 * max(max(one.mean_score.max(), one.high.max()) for one in curves))
        axes.set(xlim=(-0.02 * end, end), ylim=(-0.02 * end, end))
        axes.plot([0, end], [0, end], color=GREY, linewidth=0.8, linestyle=":")
        for curve, entry in zip(curves, entries, strict=True):
            axes.errorbar(
                curve.mean_score,
                curve.prevalence,
                yerr=[curve.prevalence - curve.low, curve.high - curve.prevalence],
                color=entry.colour,
                marker=entry.marker,
                linestyle=entry.line,
                ms=3.2,
                linewidth=1.1,
                elinewidth=0.7,
            )
        axes.locator_params(nbins=4)
        axes.set_title(
            f"{display_name(labels[index])}\nECE {errors[0][index]:.3f} → {errors[1][index]:.3f}",
            fontsize=TITLE,
            color=INK,
        )
    figure_legend(figure, entries)
    return figure
