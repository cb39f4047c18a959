"""Variance of AUROC without resampling: a check on the bootstrap, and a test between two models.

DeLong, DeLong and Clarke-Pearson (Biometrics 1988), by the mid-ranks of Sun and Xu (IEEE Signal
Processing Letters 2014). Images are taken as independent: where patients have several, the
bootstrap over patients is the honest interval and this one is too narrow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from cxr_lightning.evaluation._checks import check_level, check_scores

__all__ = ["DelongInterval", "DelongTest", "delong_interval_per_label", "delong_test_per_label"]

Floats = NDArray[np.float64]


class DelongInterval(NamedTuple):
    """AUROC, its standard error and the ends of its normal interval, cut to [0, 1]; shape (L,)."""

    auroc: Floats
    standard_error: Floats
    low: Floats
    high: Floats


class DelongTest(NamedTuple):
    """Difference in AUROC (second minus first), its standard error and two-sided p; shape (L,).

    Where the standard error is 0 (the two rank alike), p is 1 without a difference, else 0.
    """

    difference: Floats
    standard_error: Floats
    p_value: Floats


def delong_interval_per_label(
    y_true: ArrayLike, y_score: ArrayLike, *, level: float = 0.95
) -> DelongInterval:
    """Return the interval of each label; NaN with fewer than two positives or two negatives."""
    z = norm.ppf(0.5 + check_level(level) / 2)
    truth, score = check_scores(y_true, y_score)
    auroc, error = np.full((2, truth.shape[1]), np.nan)
    for label in range(truth.shape[1]):
        found = _covariance(truth[:, label], score[:, [label]])
        if found is not None:
            auroc[label], error[label] = found[0][0], np.sqrt(found[1][0, 0])
    low, high = np.clip([auroc - z * error, auroc + z * error], 0, 1)
    return DelongInterval(auroc, error, low, high)


def delong_test_per_label(
    y_true: ArrayLike, y_score_first: ArrayLike, y_score_second: ArrayLike
) -> DelongTest:
    """Compare two models on the same images, label by label."""
    truth, first = check_scores(y_true, y_score_first)
    _, second = check_scores(y_true, y_score_second)
    difference, error, p_value = np.full((3, truth.shape[1]), np.nan)
    for label in range(truth.shape[1]):
        pair = np.column_stack([first[:, label], second[:, label]])
        found = _covariance(truth[:, label], pair)
        if found is None:
            continue
        auroc, covariance = found
        contrast = np.array([-1.0, 1.0])
        difference[label] = contrast @ auroc
        # rounding may leave it just below 0 where the two models rank alike
        error[label] = np.sqrt(max(contrast @ covariance @ contrast, 0.0))
        if error[label] > 0:
            p_value[label] = 2 * norm.sf(abs(difference[label]) / error[label])
        else:
            p_value[label] = float(difference[label] == 0)
    return DelongTest(difference, error, p_value)


def _covariance(y_true: Floats, scores: Floats) -> tuple[Floats, Floats] | None:
    """AUROC (k,) and covariance (k, k) of k models' scores (n, k) on one label."""
    positive, negative = scores[y_true == 1], scores[y_true == 0]
    m, n = len(positive), len(negative)
    if m < 2 or n < 2:
        return None
    together = rankdata(np.concatenate([positive, negative]), axis=0)
    # how often each positive wins over the negatives, and each negative loses to the positives
    wins = (together[:m] - rankdata(positive, axis=0)) / n
    losses = 1 - (together[m:] - rankdata(negative, axis=0)) / m
    spread = np.atleast_2d(np.cov(wins, rowvar=False)) / m
    spread = spread + np.atleast_2d(np.cov(losses, rowvar=False)) / n
    return wins.mean(axis=0), spread
