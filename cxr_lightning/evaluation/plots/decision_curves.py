"""Net benefit of each label's model beside acting on everyone and on no one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cxr_lightning.evaluation.decision_curves import DecisionCurves
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
    note,
)

__all__ = ["net_benefit_curves"]

LINES: tuple[LineStyle, ...] = ("-", "--", "-.")


def net_benefit_curves(
    curves: DecisionCurves | Mapping[str, DecisionCurves],
    labels: Sequence[str],
    *,
    beyond_prevalence: float = 4.0,
) -> Figure:
    """Draw net benefit against the threshold probability, one panel per label.

    Parameters
    ----------
    curves
        Of one model, or of several by name, all of the same images.
    beyond_prevalence
        Each panel ends at so many times the prevalence (at least at 2 %, at most at 100 %): further
        to the right a rare finding has no benefit to show.
    """
    models = {"model": curves} if isinstance(curves, DecisionCurves) else dict(curves)
    if not models or len(models) > len(LINES):
        raise ValueError(f"1 to {len(LINES)} models can be drawn, given {len(models)}")
    figure, panels = label_panels(
        labels,
        x="threshold probability p (%)",
        y="net benefit (findings per 100 images)",
        title="Decision curves: what acting on the model is worth; "
        "a false alarm weighs p / (100 − p) of a finding",
        unit_square=False,
    )
    styles = list(zip(PALETTE, LINES, strict=False))
    first = next(iter(models.values()))
    for index, axes in enumerate(panels):
        prevalence = float(first.prevalence[index])
        if np.isnan(prevalence):
            note(axes, "undefined:\nno image\nhas this label known")
            axes.grid(False)
            axes.set(xticks=[], yticks=[])
            continue
        end = float(np.clip(beyond_prevalence * prevalence, 0.02, 1.0))
        axes.axhline(0, color=GREY, linewidth=1.0)
        shown = first.thresholds <= end
        axes.plot(
            100 * first.thresholds[shown],
            100 * first.treat_all[shown, index],
            color=INK,
            linewidth=1.0,
            linestyle=":",
        )
        top = 100 * prevalence
        for (colour, line), one in zip(styles, models.values(), strict=False):
            axes.plot(
                100 * one.thresholds[one.thresholds <= end],
                100 * one.model[one.thresholds <= end, index],
                color=colour,
                linewidth=1.5,
                linestyle=line,
            )
            top = max(top, _highest(one.model[shown, index]))
        axes.set_xlim(0, 100 * end)
        axes.set_ylim(-0.25 * max(top, 0.1), 1.1 * max(top, 0.1))
        axes.locator_params(nbins=4)
        axes.set_title(
            f"{display_name(labels[index])}\nprevalence {prevalence:.1%}",
            fontsize=TITLE,
            color=INK,
        )
    entries = [
        Entry(name, colour, "", line) for name, (colour, line) in zip(models, styles, strict=False)
    ]
    figure_legend(
        figure, [*entries, Entry("act on all", INK, "", ":"), Entry("act on none", GREY, "", "-")]
    )
    return figure


def _highest(values: NDArray[np.float64]) -> float:
    return 100 * float(np.max(values, initial=0.0))
