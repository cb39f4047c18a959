"""Confidence intervals by resampling patients: percentile bootstrap (Efron and Tibshirani, 1993).

Images of one patient are not independent, so patients are drawn, each with all its images. A
replicate in which a metric is undefined (a label lost its only positives) is left out of that
metric's percentiles and counted in `Interval.undefined`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_lightning.evaluation._checks import check_level, check_patients, check_scores
from cxr_lightning.evaluation.discrimination import (
    auroc_per_label,
    average_precision_per_label,
    macro,
    micro,
    weighted,
)
from cxr_lightning.evaluation.replicates import (
    Problem,
    ReplicateScores,
    draw_patient_weights,
    replicate_scores,
    replicate_sums,
)

__all__ = [
    "DISCRIMINATION",
    "Interval",
    "bootstrap_discrimination",
    "bootstrap_interval",
    "discrimination_replicates",
    "macro_of_replicates",
    "percentile_interval",
]

Metric = Callable[[NDArray[np.float64], NDArray[np.float64]], ArrayLike]
Floats = NDArray[np.float64]

DISCRIMINATION = {"auroc": auroc_per_label, "average_precision": average_precision_per_label}


@dataclass(frozen=True)
class Interval:
    """An estimate with its percentile interval, all arrays of the metric's own shape.

    Attributes
    ----------
    estimate : the metric on the sample itself
    low, high : the ends; NaN where no replicate defines the metric, or none was drawn
    undefined : replicates in which the metric was NaN
    replicates : replicates drawn
    level : e.g. 0.95
    """

    estimate: Floats
    low: Floats
    high: Floats
    undefined: NDArray[np.int64]
    replicates: int
    level: float


def percentile_interval(estimate: ArrayLike, replicates: ArrayLike, *, level: float) -> Interval:
    """Return the interval from replicates along axis 0; the rest is the shape of `estimate`."""
    level = check_level(level)
    point = np.asarray(estimate, dtype=np.float64)
    drawn = np.asarray(replicates, dtype=np.float64)
    ends = np.full((2, *point.shape), np.nan)
    usable = ~np.isnan(drawn).all(axis=0)
    if drawn.shape[0] and usable.any():
        tail = (1 - level) / 2
        ends[:, usable] = np.nanquantile(drawn[:, usable], [tail, 1 - tail], axis=0)
    return Interval(
        estimate=point,
        low=ends[0],
        high=ends[1],
        undefined=np.isnan(drawn).sum(axis=0),
        replicates=drawn.shape[0],
        level=level,
    )


def bootstrap_interval(
    metric: Metric,
    y_true: ArrayLike,
    y_score: ArrayLike,
    patients: ArrayLike,
    *,
    replicates: int,
    level: float,
    generator: np.random.Generator,
) -> Interval:
    """Return the patient-bootstrap interval of any metric.

    Parameters
    ----------
    metric
        Called with `y_true` (n, L) and `y_score` (n, L), NaN in `y_true` where unknown; returns a
        number or an array. `auroc_per_label` and `average_precision_per_label` are not called per
        replicate but take the fast path, with the same numbers to within 1e-12.
    patients
        Shape (n,), one code or id per image.
    generator
        Draws the patients; the same state gives the same replicates for every metric.
    """
    truth, score = check_scores(y_true, y_score)
    code = check_patients(patients, len(truth))
    weights = draw_patient_weights(_count(code), replicates, generator)
    estimate = metric(truth, score)
    for name, known in DISCRIMINATION.items():
        if metric is known:
            fast = discrimination_replicates(truth, score, code, weights, metrics=(name,))
            return percentile_interval(estimate, fast[name], level=level)
    rows = np.arange(len(truth))
    values = np.full((replicates, *np.shape(estimate)), np.nan)
    for index in range(replicates):
        drawn = np.repeat(rows, weights[code, index])
        values[index] = metric(truth[drawn], score[drawn])
    return percentile_interval(estimate, values, level=level)


def bootstrap_discrimination(
    y_true: ArrayLike,
    y_score: ArrayLike,
    patients: ArrayLike,
    *,
    replicates: int,
    level: float,
    generator: np.random.Generator,
    metrics: Sequence[str] = tuple(DISCRIMINATION),
) -> dict[str, Interval]:
    """Return intervals of AUROC and average precision per label, and of their averages, at once.

    Returns
    -------
    dict
        For each name in `metrics`: `NAME` with arrays of shape (L,), `NAME_macro`, `NAME_micro`
        and `NAME_weighted` with arrays of shape (). The macro and the weighted mean of a replicate
        are over the labels it defines, the latter by the positives it holds.
    """
    truth, score = check_scores(y_true, y_score)
    code = check_patients(patients, len(truth))
    weights = draw_patient_weights(_count(code), replicates, generator)
    drawn = discrimination_replicates(truth, score, code, weights, metrics=metrics, with_micro=True)
    positive = truth == 1
    positives = replicate_sums(positive, code, weights)
    result = {}
    for name in metrics:
        metric = DISCRIMINATION[name]
        point = metric(truth, score)
        estimates: dict[str, ArrayLike] = {
            name: point,
            f"{name}_macro": macro(point).value,
            f"{name}_micro": micro(metric, truth, score),
            f"{name}_weighted": weighted(point, positive.sum(axis=0)),
        }
        values = {
            **drawn,
            f"{name}_macro": macro_of_replicates(drawn[name]),
            f"{name}_weighted": weighted(drawn[name], positives),
        }
        for key, estimate in estimates.items():
            result[key] = percentile_interval(estimate, values[key], level=level)
    return result


def discrimination_replicates(
    y_true: Floats,
    y_score: Floats,
    patients: NDArray[np.intp],
    weights: NDArray[np.integer[Any]],
    *,
    metrics: Sequence[str] = tuple(DISCRIMINATION),
    with_micro: bool = False,
) -> dict[str, Floats]:
    """Return every replicate's values: `NAME` (replicates, L) and, if asked, `NAME_micro`.

    `patients` are codes below `len(weights)`; `weights` come from `draw_patient_weights`. Two
    models given the same weights are compared on the same resamples.
    """
    if unknown := [name for name in metrics if name not in DISCRIMINATION]:
        raise ValueError(f"no fast bootstrap for {', '.join(unknown)}")
    precision = "average_precision" in metrics
    labels = [
        _problem(y_true[:, label], y_score[:, label], patients) for label in range(y_true.shape[1])
    ]
    found = _named(replicate_scores(labels, weights, average_precision=precision), "", metrics)
    if with_micro:
        pairs = _problem(y_true.ravel(), y_score.ravel(), np.repeat(patients, y_true.shape[1]))
        scores = replicate_scores([pairs], weights, average_precision=precision)
        together = _named(scores, "_micro", metrics)
        found |= {name: values[:, 0] for name, values in together.items()}
    return found


def macro_of_replicates(values: Floats) -> Floats:
    """Return the mean over the labels each replicate defines, shape (replicates,)."""
    defined = (~np.isnan(values)).sum(axis=1)
    total = np.nansum(values, axis=1)
    return np.divide(total, defined, out=np.full(len(values), np.nan), where=defined > 0)


def _problem(y_true: Floats, y_score: Floats, patients: NDArray[np.intp]) -> Problem:
    known = ~np.isnan(y_true)
    return Problem(y_true[known] == 1, y_score[known], patients[known])


def _named(scores: ReplicateScores, suffix: str, metrics: Sequence[str]) -> dict[str, Floats]:
    return {name + suffix: getattr(scores, name) for name in metrics}


def _count(code: NDArray[np.intp]) -> int:
    return int(code.max()) + 1 if code.size else 0
