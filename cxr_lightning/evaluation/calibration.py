"""Do probabilities mean what they say: reliability, Brier score, expected calibration error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from cxr_lightning.evaluation._checks import check_level, check_scores

__all__ = [
    "Reliability",
    "brier_per_label",
    "expected_calibration_error_per_label",
    "reliability_curve",
    "wilson_interval",
]

Floats = NDArray[np.float64]


class Reliability(NamedTuple):
    """Bins from the lowest score up, each of shape (bins,); empty bins do not occur.

    `low` and `high` are the ends of the Wilson interval of the prevalence.
    """

    mean_score: Floats
    prevalence: Floats
    images: NDArray[np.int64]
    low: Floats
    high: Floats


def reliability_curve(
    y_true: ArrayLike, y_score: ArrayLike, *, bins: int = 10, level: float = 0.95
) -> Reliability:
    """Return the observed prevalence of one label in bins of equally many images.

    Parameters
    ----------
    y_true, y_score
        Shape (n,); unknown entries (NaN) are left out.
    bins
        At most so many; tied scores stay in one bin, so there may be fewer.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, given {bins}")
    truth, score = (part[:, 0] for part in check_scores(_column(y_true), _column(y_score)))
    known = ~np.isnan(truth)
    order = np.argsort(score[known], kind="stable")
    truth, score = truth[known][order], score[known][order]
    if not score.size:
        empty = np.empty(0)
        return Reliability(empty, empty, np.empty(0, np.int64), empty, empty)
    first_of_tie = np.searchsorted(score, score, side="left")
    place = first_of_tie * bins // len(score)
    _, place = np.unique(place, return_inverse=True)
    images = np.bincount(place)
    prevalence = np.bincount(place, weights=truth) / images
    low, high = wilson_interval(prevalence, images, level=level)
    return Reliability(np.bincount(place, weights=score) / images, prevalence, images, low, high)


def wilson_interval(
    share: ArrayLike, images: ArrayLike, *, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Return the ends of the interval of a proportion, which stay inside [0, 1].

    Wilson, Journal of the American Statistical Association 1927. NaN where there are no images.
    """
    z = norm.ppf(0.5 + check_level(level) / 2)
    p, n = np.asarray(share, np.float64), np.asarray(images, np.float64)
    n = np.where(n > 0, n, np.nan)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # rounding may leave the proportion itself just outside, at 0 and at 1
    return np.clip(middle - half, 0.0, p), np.clip(middle + half, p, 1.0)


def brier_per_label(y_true: ArrayLike, y_score: ArrayLike) -> Floats:
    """Return the mean squared difference of probability and outcome, shape (L,), 0 is best.

    NaN where no entry is known (Brier, Monthly Weather Review 1950).
    """
    truth, score = check_scores(y_true, y_score)
    known = ~np.isnan(truth)
    squares = np.where(known, (score - truth) ** 2, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.divide(squares, count, out=np.full(truth.shape[1], np.nan), where=count > 0)


def expected_calibration_error_per_label(
    y_true: ArrayLike, y_score: ArrayLike, *, bins: int = 10
) -> Floats:
    """Return the mean distance of probability and prevalence over equal-mass bins, shape (L,).

    Equal-mass bins are less biased than equal-width ones where scores crowd near 0, as those of
    rare findings do (Nixon et al., CVPR workshops 2019; Roelofs et al., AISTATS 2022).
    """
    truth, score = check_scores(y_true, y_score)
    result = np.full(truth.shape[1], np.nan)
    for label in range(truth.shape[1]):
        curve = reliability_curve(truth[:, label], score[:, label], bins=bins)
        if curve.images.size:
            distance = np.abs(curve.mean_score - curve.prevalence)
            result[label] = np.average(distance, weights=curve.images)
    return result


def _column(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).reshape(-1, 1)
