"""What a threshold decides: counts of right and wrong calls per label, and the rates made of them.

The convention everywhere: `probability >= threshold` is a positive call.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_lightning.evaluation._checks import check_scores, check_weights

__all__ = ["RATES", "Counts", "confusion_counts", "micro_counts", "rates"]

RATES = (
    "sensitivity",
    "specificity",
    "precision",
    "negative_predictive_value",
    "f1",
    "accuracy",
    "balanced_accuracy",
    "mcc",
)


class Counts(NamedTuple):
    """True and false positives and negatives per label, each of shape (L,) or a scalar array."""

    tp: NDArray[np.float64]
    fp: NDArray[np.float64]
    fn: NDArray[np.float64]
    tn: NDArray[np.float64]


def confusion_counts(
    y_true: ArrayLike,
    y_score: ArrayLike,
    thresholds: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
) -> Counts:
    """Count the calls `y_score >= threshold` of each label over its known entries.

    Parameters
    ----------
    thresholds
        Shape (L,), or one number for all labels.
    """
    truth, score = check_scores(y_true, y_score)
    weight = check_weights(sample_weight, len(truth))
    limits = np.broadcast_to(np.asarray(thresholds, dtype=np.float64), (truth.shape[1],))
    if np.isnan(limits).any():
        raise ValueError("a threshold is NaN; a label that has none uses the fallback of 0.5")
    each = np.ones(len(truth)) if weight is None else weight
    positive, negative, called = truth == 1, truth == 0, score >= limits
    return Counts(
        tp=each @ (positive & called),
        fp=each @ (negative & called),
        fn=each @ (positive & ~called),
        tn=each @ (negative & ~called),
    )


def micro_counts(counts: Counts) -> Counts:
    """Add the counts of all labels, each label keeping its own threshold."""
    return Counts(*(np.asarray(part.sum()) for part in counts))


def rates(counts: Counts) -> dict[str, NDArray[np.float64]]:
    """Return every rate of `RATES`, in the shape of the counts, NaN where it is undefined.

    Sensitivity and F1 need a positive, specificity a negative, balanced accuracy both; precision
    needs a positive and a positive call, the negative predictive value a negative and a negative
    call; the Matthews correlation coefficient (MCC) needs both classes and both calls.
    """
    tp, fp, fn, tn = (np.asarray(part, dtype=np.float64) for part in counts)
    positives, negatives = tp + fn, fp + tn
    sensitivity = _ratio(tp, positives)
    specificity = _ratio(tn, negatives)
    # square roots one by one: the product of four counts of a large table overflows sooner
    spread = np.sqrt(positives) * np.sqrt(negatives) * np.sqrt(tp + fp) * np.sqrt(fn + tn)
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        # without a positive, precision and F1 could only be 0: that says nothing about the scores
        "precision": np.where(positives > 0, _ratio(tp, tp + fp), np.nan),
        "negative_predictive_value": np.where(negatives > 0, _ratio(tn, tn + fn), np.nan),
        "f1": np.where(positives > 0, _ratio(2 * tp, 2 * tp + fp + fn), np.nan),
        "accuracy": _ratio(tp + tn, positives + negatives),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "mcc": _ratio(tp * tn - fp * fn, spread),
    }


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
