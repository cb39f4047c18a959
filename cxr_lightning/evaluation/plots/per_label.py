"""Small multiples, one panel per label: ROC, precision-recall, confusion, reliability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from cxr_lightning.evaluation._checks import check_scores
from cxr_lightning.evaluation.bootstrap import Interval
from cxr_lightning.evaluation.calibration import (
    expected_calibration_error_per_label,
    reliability_curve,
)
from cxr_lightning.evaluation.decisions import confusion_counts
from cxr_lightning.evaluation.discrimination import (
    Curve,
    auroc_per_label,
    average_precision_per_label,
    operating_curve,
)
from cxr_lightning.evaluation.plots.style import (
    BLUE,
    GREY,
    INK,
    TITLE,
    VERMILION,
    display_name,
    label_panels,
    say_why,
    with_interval,
)

__all__ = ["confusion_matrices", "precision_recall_curves", "reliability_diagrams", "roc_curves"]

Floats = NDArray[np.float64]


def roc_curves(
    y_true: ArrayLike,
    y_score: ArrayLike,
    labels: Sequence[str],
    *,
    interval: Interval | None = None,
    thresholds: ArrayLike | None = None,
) -> Figure:
    """Draw the ROC curve of each label, its AUROC (with interval) in the title.

    Parameters
    ----------
    thresholds
        Shape (L,); marks the operating point of each label.
    """
    truth, score = check_scores(y_true, y_score)
    figure, panels = label_panels(
        labels,
        x="1 - specificity (false-positive rate)",
        y="sensitivity (true-positive rate)",
        title="ROC curves, AUROC" + _level(interval) + _dot(thresholds),
    )
    limits = _limits(thresholds, len(labels))
    for index, (axes, value) in enumerate(zip(panels, auroc_per_label(truth, score), strict=True)):
        curve = _curve(truth[:, index], score[:, index])
        if np.isnan(value):
            say_why(axes, truth[:, index])
            continue
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
        fpr, tpr = curve.fp / curve.fp[-1], curve.tp / curve.tp[-1]
        axes.plot(np.append(0, fpr), np.append(0, tpr), color=BLUE, linewidth=1.6)
        at = _last_called(curve, limits[index])
        if at is not None:
            _mark(axes, fpr[at] if at >= 0 else 0.0, tpr[at] if at >= 0 else 0.0)
        _title(axes, labels[index], _with_ends(value, interval, index))
    return figure


def precision_recall_curves(
    y_true: ArrayLike,
    y_score: ArrayLike,
    labels: Sequence[str],
    *,
    interval: Interval | None = None,
    thresholds: ArrayLike | None = None,
) -> Figure:
    """Draw precision against recall for each label, with a line at the prevalence (chance)."""
    truth, score = check_scores(y_true, y_score)
    figure, panels = label_panels(
        labels,
        x="recall (sensitivity)",
        y="precision (positive predictive value)",
        title="Precision and recall, average precision"
        + _level(interval)
        + _dot(thresholds)
        + "; dashed: prevalence",
    )
    limits = _limits(thresholds, len(labels))
    values = average_precision_per_label(truth, score)
    for index, (axes, value) in enumerate(zip(panels, values, strict=True)):
        curve = _curve(truth[:, index], score[:, index])
        if np.isnan(value):
            say_why(axes, truth[:, index])
            continue
        prevalence = curve.tp[-1] / (curve.tp[-1] + curve.fp[-1])
        axes.axhline(prevalence, color=GREY, linewidth=0.8, linestyle="--")
        recall, precision = curve.tp / curve.tp[-1], curve.tp / (curve.tp + curve.fp)
        # steps: average precision is the area under exactly this line
        axes.step(
            np.append(0, recall),
            np.append(precision[0], precision),
            where="pre",
            color=BLUE,
            linewidth=1.4,
        )
        at = _last_called(curve, limits[index])
        if at is not None and at >= 0:
            _mark(axes, recall[at], precision[at])
        _title(axes, labels[index], _with_ends(value, interval, index))
    return figure


def confusion_matrices(
    y_true: ArrayLike, y_score: ArrayLike, labels: Sequence[str], *, thresholds: ArrayLike
) -> Figure:
    """Draw the two-by-two table of each label at its threshold: counts, and shares of each row."""
    truth, score = check_scores(y_true, y_score)
    limits = np.broadcast_to(np.asarray(thresholds, np.float64), (len(labels),))
    counts = confusion_counts(truth, score, limits)
    figure, panels = label_panels(
        labels,
        x="called (at the label's threshold t)",
        y="truth",
        title="Confusion: images, and share of the row",
        unit_square=False,
    )
    for index, axes in enumerate(panels):
        tp, fp, fn, tn = (int(part[index]) for part in counts)
        matrix = np.array([[tp, fn], [fp, tn]])
        rows = matrix.sum(axis=1, keepdims=True)
        share = np.divide(matrix, rows, out=np.zeros((2, 2)), where=rows > 0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1.15)
        axes.set_xticks([0, 1], ["positive", "negative"])
        axes.set_yticks([0, 1], ["positive", "negative"], rotation=90, va="center")
        axes.tick_params(length=0)
        for row in (0, 1):
            for column in (0, 1):
                percent = f"{share[row, column]:.1%}" if rows[row, 0] else "no images"
                axes.text(
                    column,
                    row,
                    f"{matrix[row, column]:,}\n{percent}",
                    ha="center",
                    va="center",
                    fontsize=TITLE,
                    color="white" if share[row, column] > 0.75 else INK,
                )
        _title(axes, labels[index], f"t = {limits[index]:.3f}")
    return figure


def reliability_diagrams(
    y_true: ArrayLike, y_score: ArrayLike, labels: Sequence[str], *, bins: int = 10
) -> Figure:
    """Draw observed prevalence against mean probability in equal-mass bins, with the ECE."""
    truth, score = check_scores(y_true, y_score)
    figure, panels = label_panels(
        labels,
        x="mean predicted probability",
        y="observed prevalence",
        title="Reliability in equal-mass bins with 95% interval, expected calibration error (ECE)",
        unit_square=False,
    )
    errors = expected_calibration_error_per_label(truth, score, bins=bins)
    for index, axes in enumerate(panels):
        curve = reliability_curve(truth[:, index], score[:, index], bins=bins)
        if np.isnan(errors[index]):
            say_why(axes, truth[:, index])
            continue
        # rare findings crowd near 0: each panel is as wide as its own bins
        end = min(1.0, 1.05 * max(curve.mean_score.max(), curve.high.max()))
        axes.set(xlim=(-0.02 * end, end), ylim=(-0.02 * end, end))
        axes.plot([0, end], [0, end], color=GREY, linewidth=0.8, linestyle="--")
        axes.errorbar(
            curve.mean_score,
            curve.prevalence,
            yerr=[curve.prevalence - curve.low, curve.high - curve.prevalence],
            color=BLUE,
            marker="o",
            ms=3.5,
            linewidth=1.2,
            elinewidth=0.8,
        )
        axes.locator_params(nbins=4)
        _title(axes, labels[index], f"ECE {errors[index]:.3f}")
    return figure


def _curve(y_true: Floats, y_score: Floats) -> Curve:
    known = ~np.isnan(y_true)
    return operating_curve(y_true[known], y_score[known])


def _limits(thresholds: ArrayLike | None, labels: int) -> Floats:
    given = np.nan if thresholds is None else np.asarray(thresholds, dtype=np.float64)
    return np.broadcast_to(np.asarray(given), (labels,))


def _last_called(curve: Curve, threshold: float) -> int | None:
    """Index of the lowest group at or above the threshold, -1 for none; None without threshold."""
    if np.isnan(threshold):
        return None
    return int(np.count_nonzero(curve.score >= threshold)) - 1


def _mark(axes: Axes, x: float, y: float) -> None:
    axes.plot(x, y, marker="o", ms=5, color=VERMILION, zorder=3, clip_on=False)


def _title(axes: Axes, label: str, second_line: str) -> None:
    axes.set_title(f"{display_name(label)}\n{second_line}", fontsize=TITLE, color=INK)


def _level(interval: Interval | None) -> str:
    if interval is None or not interval.replicates:
        return ""
    return f" with {interval.level:.0%} interval"


def _dot(thresholds: ArrayLike | None) -> str:
    return "" if thresholds is None else "; dot: at the threshold"


def _with_ends(value: float, interval: Interval | None, index: int) -> str:
    if interval is None:
        return with_interval(value, None, None)
    return with_interval(value, float(interval.low[index]), float(interval.high[index]))
