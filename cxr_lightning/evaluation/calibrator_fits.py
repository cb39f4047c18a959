"""Calibration fitted on validation: one map per label, over its known entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, isotonic_regression
from scipy.special import expit, log_expit, logit

from cxr_lightning.errors import ConfigError, nearest
from cxr_lightning.evaluation._checks import check_scores
from cxr_lightning.evaluation.calibrators import (
    Calibration,
    CalibrationKind,
    CalibrationMap,
    Identity,
    Isotonic,
    Platt,
    Temperature,
)

__all__ = ["fit_calibration"]

Floats = NDArray[np.float64]

MIN_SLOPE, MAX_SLOPE = 0.01, 100.0  # a slope of 0 or below would tie or reverse the scores


def fit_calibration(
    y_true: ArrayLike, logits: ArrayLike, labels: Sequence[str], *, kind: CalibrationKind
) -> Calibration:
    """Fit one map per label on the known entries of validation.

    Parameters
    ----------
    y_true, logits
        Shape (n, L): 1, 0, NaN for unknown; logits, not probabilities.
    kind
        `temperature` and `platt` minimise the log loss against Platt's targets, (P + 1) / (P + 2)
        for each of P positives and 1 / (N + 2) for each of N negatives: finite even where the
        classes do not overlap. Slopes are at least 0.01, and those of `temperature` at most 100.
        `isotonic` minimises squared error.

    Returns
    -------
    Calibration
        `Identity`, not fitted, where a label has one class only or all its logits are equal.
    """
    if kind not in get_args(CalibrationKind):
        allowed = get_args(CalibrationKind)
        raise ConfigError(
            f"Calibration {kind!r} is not known; allowed: {', '.join(allowed)}."
            f"{nearest(kind, allowed)}"
        )
    truth, values = check_scores(y_true, logits)
    if truth.shape[1] != len(labels):
        raise ValueError(f"{len(labels)} labels for {truth.shape[1]} columns")
    if not np.isfinite(values[~np.isnan(truth)]).all():
        raise ValueError("logits must be finite; give logits, not their probabilities' logarithm")
    if kind == "none":
        return Calibration.none(labels)
    fit = _FITS[kind]
    maps: list[CalibrationMap] = []
    for column in range(truth.shape[1]):
        known = ~np.isnan(truth[:, column])
        y, x = truth[known, column], values[known, column]
        enough = bool(y.size) and np.ptp(y) > 0 and np.ptp(x) > 0
        maps.append(fit(y, x) if enough else Identity())
    fitted = tuple(not isinstance(one, Identity) for one in maps)
    return Calibration(tuple(labels), kind, tuple(maps), fitted)


def _targets(y: Floats) -> Floats:
    positives = y.sum()
    return np.where(y == 1, (positives + 1) / (positives + 2), 1 / (y.size - positives + 2))


def _fit_temperature(y: Floats, x: Floats) -> CalibrationMap:
    target = _targets(y)

    def derivative(slope: float) -> float:
        return float(x @ (expit(slope * x) - target))

    # the loss is convex in the slope: its derivative rises
    if derivative(MIN_SLOPE) >= 0:
        return Temperature(1 / MIN_SLOPE)
    if derivative(MAX_SLOPE) <= 0:
        return Temperature(1 / MAX_SLOPE)
    return Temperature(1 / float(brentq(derivative, MIN_SLOPE, MAX_SLOPE, xtol=1e-14)))


def _fit_platt(y: Floats, x: Floats) -> CalibrationMap:
    target = _targets(y)
    centre, spread = x.mean(), x.std()
    design = np.column_stack([(x - centre) / spread, np.ones_like(x)])

    def loss(at: Floats) -> float:
        z = design @ at
        return -float(target @ log_expit(z) + (1 - target) @ log_expit(-z))

    at = np.array([0.0, logit(target.mean())])
    for _ in range(100):
        p = expit(design @ at)
        curvature = (design.T * (p * (1 - p))) @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (p - target))
        # from a flat start Newton's step may go too far
        allowed = loss(at) * (1 + 1e-12)
        while loss(at - step) > allowed and np.abs(step).max() > 1e-12:
            step = step / 2
        at = at - step
        if np.abs(step).max() <= 1e-12:
            break
    slope = at[0] / spread
    if slope < MIN_SLOPE:
        return Platt(MIN_SLOPE, _intercept(MIN_SLOPE * x, target))
    return Platt(float(slope), float(at[1] - slope * centre))


def _intercept(x: Floats, target: Floats) -> float:
    """The shift that makes the mean probability that of the targets."""
    middle, reach = logit(target.mean()), np.abs(x).max()
    return float(
        brentq(
            lambda shift: float(np.sum(expit(x + shift) - target)), middle - reach, middle + reach
        )
    )


def _fit_isotonic(y: Floats, x: Floats) -> CalibrationMap:
    knots, place, images = np.unique(x, return_inverse=True, return_counts=True)
    share = np.bincount(place, weights=y) / images
    # rounding may leave a mean of ones just above 1
    level = np.clip(isotonic_regression(share, weights=images).x, 0.0, 1.0)
    edge = np.append(True, level[1:] != level[:-1])
    keep = edge | np.append(edge[1:], True)  # the two ends of each level part
    return Isotonic(tuple(map(float, knots[keep])), tuple(map(float, level[keep])))


_FITS: dict[str, Callable[[Floats, Floats], CalibrationMap]] = {
    "temperature": _fit_temperature,
    "platt": _fit_platt,
    "isotonic": _fit_isotonic,
}
