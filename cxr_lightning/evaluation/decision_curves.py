"""What a model is worth to those who act on it: net benefit over threshold probabilities.

Vickers and Elkin, Medical Decision Making 2006. At the threshold probability p one false alarm
weighs p / (1 - p) of a true finding: who acts at 10 % accepts nine false alarms for each finding.
Probabilities are taken at their word, so calibrate first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_lightning.evaluation._checks import check_scores
from cxr_lightning.evaluation.discrimination import operating_curve

__all__ = ["DecisionCurves", "decision_curves", "net_benefit"]

Floats = NDArray[np.float64]

DEFAULT_THRESHOLDS = np.append(np.arange(1, 10) / 1000, np.arange(1, 100) / 100)


class DecisionCurves(NamedTuple):
    """Net benefit in true findings per image; NaN where a label has no known entry.

    Attributes
    ----------
    thresholds : (T,) threshold probabilities
    model : (T, L) act on the images at or above the threshold
    treat_all : (T, L) act on every image; 0 at the prevalence
    prevalence : (L,)

    To act on no image has a net benefit of 0 everywhere.
    """

    thresholds: Floats
    model: Floats
    treat_all: Floats
    prevalence: Floats


def net_benefit(tp: ArrayLike, fp: ArrayLike, images: ArrayLike, threshold: ArrayLike) -> Floats:
    """Return tp / images - fp / images x threshold / (1 - threshold), NaN without images."""
    p, n = np.asarray(threshold, np.float64), np.asarray(images, np.float64)
    n = np.where(n > 0, n, np.nan)
    return np.asarray(tp, np.float64) / n - np.asarray(fp, np.float64) / n * p / (1 - p)


def decision_curves(
    y_true: ArrayLike, y_score: ArrayLike, *, thresholds: ArrayLike | None = None
) -> DecisionCurves:
    """Return the net benefit of the model and of acting on everyone, label by label.

    Parameters
    ----------
    y_true, y_score
        Shape (n, L): 1, 0, NaN for unknown; probabilities in [0, 1].
    thresholds
        Shape (T,), in (0, 1); by default 0.1 % to 0.9 %, for rare findings, then 1 % to 99 %.
    """
    at = DEFAULT_THRESHOLDS if thresholds is None else np.asarray(thresholds, np.float64)
    if at.ndim != 1 or not ((at > 0) & (at < 1)).all():
        raise ValueError("thresholds must be one-dimensional and lie between 0 and 1")
    truth, score = check_scores(y_true, y_score)
    known = ~np.isnan(truth)
    if (known & ((score < 0) | (score > 1))).any():
        raise ValueError("y_score must hold probabilities in [0, 1]; apply the sigmoid to logits")
    model, treat_all = np.full((2, at.size, truth.shape[1]), np.nan)
    prevalence = np.full(truth.shape[1], np.nan)
    for label in range(truth.shape[1]):
        rows = known[:, label]
        images, positives = rows.sum(), (truth[:, label] == 1).sum()
        if not images:
            continue
        curve = operating_curve(truth[rows, label], score[rows, label])
        # how many distinct scores are at or above each threshold; they fall along the curve
        called = np.searchsorted(-curve.score, -at, side="right")
        tp, fp = np.append(0.0, curve.tp)[called], np.append(0.0, curve.fp)[called]
        model[:, label] = net_benefit(tp, fp, images, at)
        treat_all[:, label] = net_benefit(positives, images - positives, images, at)
        prevalence[label] = positives / images
    return DecisionCurves(at, model, treat_all, prevalence)
