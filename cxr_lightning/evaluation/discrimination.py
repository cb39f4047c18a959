"""How well scores separate positives from negatives, without a threshold: AUROC, average precision.

Every function takes `y_true` (n, L) with 1, 0 and NaN for unknown, and `y_score` (n, L), higher for
more likely. Unknown entries are left out label by label. A label that has one class only is NaN.
Ties are exact: tied scores enter together, as one step of the curve.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_lightning.evaluation._checks import check_scores, check_weights

__all__ = [
    "Curve",
    "LabelMetric",
    "Macro",
    "auroc_per_label",
    "average_precision_per_label",
    "macro",
    "micro",
    "operating_curve",
    "partial_auroc_per_label",
    "sensitivity_at_specificity",
    "specificity_at_sensitivity",
    "weighted",
]

Floats = NDArray[np.float64]


class LabelMetric(Protocol):
    """A metric of shape (L,) from arrays of shape (n, L)."""

    def __call__(
        self, y_true: ArrayLike, y_score: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> Floats: ...


class Curve(NamedTuple):
    """Cumulative counts at each distinct score, from the highest down; all of shape (k,).

    An image counts as positive where its score is at or above `score`; `tp` and `fp` are whole
    numbers unless weights were given.
    """

    score: Floats
    tp: Floats
    fp: Floats


class Macro(NamedTuple):
    """Mean over the labels for which a metric is defined, and how many these are."""

    value: float
    defined: int
    labels: int


def operating_curve(y_true: Floats, y_score: Floats, sample_weight: Floats | None = None) -> Curve:
    """Return the curve of one label; inputs are one-dimensional and hold known entries only."""
    order = np.argsort(-y_score)
    score, positive = y_score[order], y_true[order] == 1
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)) if score.size else order
    if sample_weight is None:
        tp = np.cumsum(positive)[last].astype(np.float64)
        return Curve(score[last], tp, last + 1.0 - tp)
    weight = sample_weight[order]
    tp = np.cumsum(np.where(positive, weight, 0.0))[last]
    fp = np.cumsum(np.where(positive, 0.0, weight))[last]
    return Curve(score[last], tp, fp)


def auroc_per_label(
    y_true: ArrayLike, y_score: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> Floats:
    """Return the area under the ROC curve of each label, shape (L,).

    It is the probability that a positive scores above a negative, ties counting one half (Hanley
    and McNeil, Radiology 1982).
    """
    return _per_label(_auroc, y_true, y_score, sample_weight)


def average_precision_per_label(
    y_true: ArrayLike, y_score: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> Floats:
    """Return the average precision of each label, shape (L,).

    The sum over distinct scores of (increase in recall) x precision, without interpolation (Davis
    and Goadrich, ICML 2006, on why not).
    """
    return _per_label(_average_precision, y_true, y_score, sample_weight)


def partial_auroc_per_label(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    max_fpr: float,
    sample_weight: ArrayLike | None = None,
) -> Floats:
    """Return the area over false-positive rates up to `max_fpr`, standardised, shape (L,).

    0.5 is chance and 1 is perfect (McClish, Medical Decision Making 1989).
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr must lie in (0, 1], given {max_fpr}")

    def partial(curve: Curve) -> float:
        fpr = np.append(0.0, curve.fp / curve.fp[-1])
        tpr = np.append(0.0, curve.tp / curve.tp[-1])
        inside = np.append(fpr[fpr < max_fpr], max_fpr)
        area = np.trapezoid(np.append(tpr[fpr < max_fpr], _upper(max_fpr, fpr, tpr)), inside)
        chance = max_fpr**2 / 2
        return 0.5 * (1 + (area - chance) / (max_fpr - chance))

    return _per_label(partial, y_true, y_score, sample_weight)


def _upper(at: float, fpr: Floats, tpr: Floats) -> float:
    """Sensitivity on the ROC curve where the false-positive rate reaches `at`, from the left."""
    right = int(np.searchsorted(fpr, at, side="left"))
    left = right - 1
    share = (at - fpr[left]) / (fpr[right] - fpr[left])
    return float(tpr[left] + share * (tpr[right] - tpr[left]))


def sensitivity_at_specificity(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    specificity: float,
    sample_weight: ArrayLike | None = None,
) -> Floats:
    """Return the highest sensitivity whose specificity is at least the given one, shape (L,).

    Only points that a threshold reaches count: no line is drawn between them.
    """
    _check_share("specificity", specificity)

    def best(curve: Curve) -> float:
        allowed = (curve.fp[-1] - curve.fp) / curve.fp[-1] >= specificity
        return float(np.max(curve.tp[allowed], initial=0.0) / curve.tp[-1])

    return _per_label(best, y_true, y_score, sample_weight)


def specificity_at_sensitivity(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    sensitivity: float,
    sample_weight: ArrayLike | None = None,
) -> Floats:
    """Return the highest specificity whose sensitivity is at least the given one, shape (L,).

    Only points that a threshold reaches count: no line is drawn between them.
    """
    _check_share("sensitivity", sensitivity)

    def best(curve: Curve) -> float:
        if sensitivity <= 0:
            return 1.0
        allowed = curve.tp / curve.tp[-1] >= sensitivity
        return float(1 - np.min(curve.fp[allowed], initial=curve.fp[-1]) / curve.fp[-1])

    return _per_label(best, y_true, y_score, sample_weight)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, given {value}")


def macro(per_label: ArrayLike) -> Macro:
    """Return the mean over the labels that are defined; NaN where none is."""
    values = np.asarray(per_label, dtype=np.float64)
    defined = values[~np.isnan(values)]
    return Macro(float(defined.mean()) if defined.size else np.nan, defined.size, values.size)


def weighted(per_label: ArrayLike, positives: ArrayLike) -> Floats:
    """Return the mean over the defined labels along the last axis, each weighing its positives.

    NaN where no label is defined. Both have shape (..., L); scikit-learn's average="weighted".
    """
    values, count = np.broadcast_arrays(
        np.asarray(per_label, dtype=np.float64), np.asarray(positives, dtype=np.float64)
    )
    weight = np.where(np.isnan(values), 0.0, count)
    whole = weight.sum(axis=-1)
    total = (weight * np.nan_to_num(values)).sum(axis=-1)
    return np.divide(total, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def micro(
    metric: LabelMetric,
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Return `metric` over all known (image, label) pairs taken as one binary problem."""
    truth, score = check_scores(y_true, y_score)
    weight = check_weights(sample_weight, len(truth))
    repeated = None if weight is None else np.repeat(weight, truth.shape[1])
    return float(metric(truth.reshape(-1, 1), score.reshape(-1, 1), sample_weight=repeated)[0])


def _per_label(
    of_curve: Callable[[Curve], float],
    y_true: ArrayLike,
    y_score: ArrayLike,
    sample_weight: ArrayLike | None,
) -> Floats:
    truth, score = check_scores(y_true, y_score)
    weight = check_weights(sample_weight, len(truth))
    result = np.full(truth.shape[1], np.nan)
    for label in range(truth.shape[1]):
        known = ~np.isnan(truth[:, label])
        curve = operating_curve(
            truth[known, label], score[known, label], None if weight is None else weight[known]
        )
        if curve.score.size and curve.tp[-1] > 0 and curve.fp[-1] > 0:
            result[label] = of_curve(curve)
    return result


def _auroc(curve: Curve) -> float:
    tp_before = np.append(0.0, curve.tp[:-1])
    false_step = np.diff(curve.fp, prepend=0.0)
    twice = np.sum(false_step * (tp_before + curve.tp))
    return float(twice / (2 * curve.tp[-1] * curve.fp[-1]))


def _average_precision(curve: Curve) -> float:
    # a group of zero weight at the top has no precision, and no recall to weigh it by
    called = curve.tp + curve.fp
    precision = np.divide(curve.tp, called, out=np.zeros_like(called), where=called > 0)
    return float(np.sum(np.diff(curve.tp, prepend=0.0) * precision) / curve.tp[-1])
