"""The metrics of one subgroup, on the sample and on every resample, and whether it is too small."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_lightning.evaluation.bootstrap import DISCRIMINATION, discrimination_replicates
from cxr_lightning.evaluation.predictions import PredictionArrays
from cxr_lightning.evaluation.replicates import replicate_sums

__all__ = [
    "SUBGROUP_METRICS",
    "GroupScores",
    "enough",
    "reasons_why_not",
    "score_group",
    "with_underdiagnosis",
]

Floats = NDArray[np.float64]

SUBGROUP_METRICS = (
    "auroc",
    "average_precision",
    "sensitivity",
    "specificity",
    "underdiagnosis_rate",
)


class GroupScores(NamedTuple):
    """One group. Shape (metrics, L) and (metrics, replicates, L); the counts (L,)."""

    values: Floats
    draws: Floats
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    patients: NDArray[np.int64]


def score_group(
    data: PredictionArrays, limits: Floats, weights: NDArray[np.integer[Any]]
) -> GroupScores:
    y_true, y_score, patients = data
    positive, negative, called = y_true == 1, y_true == 0, y_score >= limits
    parts = np.stack([positive, negative, positive & called, negative & ~called])
    point = parts.sum(axis=1)
    sums = replicate_sums(np.concatenate([*parts], axis=1), patients, weights)
    drawn = np.moveaxis(sums.reshape(len(sums), 4, y_true.shape[1]), 1, 0)  # (4, replicates, L)
    fast = discrimination_replicates(y_true, y_score, patients, weights)
    known = positive | negative
    return GroupScores(
        values=np.stack(
            [*(metric(y_true, y_score) for metric in DISCRIMINATION.values()), *_rates(point)]
        ),
        draws=np.stack([*(fast[name] for name in DISCRIMINATION), *_rates(drawn)]),
        positives=point[0],
        negatives=point[1],
        patients=np.array([len(np.unique(patients[one])) for one in known.T]),
    )


def _rates(parts: NDArray[Any]) -> tuple[Floats, Floats]:
    positives, negatives, tp, tn = np.asarray(parts, dtype=np.float64)
    return _ratio(tp, positives), _ratio(tn, negatives)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)


def with_underdiagnosis(values: Floats, inverted: NDArray[np.bool_]) -> Floats:
    """Add the underdiagnosis rate behind sensitivity and specificity, along the first axis."""
    return np.concatenate([values, [np.where(inverted, 1 - values[3], 1 - values[2])]])


def enough(one: GroupScores, inverted: NDArray[np.bool_], min_count: int) -> NDArray[np.bool_]:
    """Whether each metric of `SUBGROUP_METRICS` has the images it needs, shape (metrics, L)."""
    positive, negative = one.positives >= min_count, one.negatives >= min_count
    both = positive & negative
    return np.stack([both, both, positive, negative, np.where(inverted, negative, positive)])


def reasons_why_not(
    one: GroupScores, inverted: NDArray[np.bool_], min_count: int
) -> list[list[str]]:
    """Why each metric of each label is not given, shape (L, metrics)."""
    reasons = []
    for p, n, swap in zip(one.positives, one.negatives, inverted, strict=True):
        few_positives = f"{p:,} positive{'' if p == 1 else 's'}" if p < min_count else ""
        few_negatives = f"{n:,} negative{'' if n == 1 else 's'}" if n < min_count else ""
        both = " and ".join(filter(None, [few_positives, few_negatives]))
        needed = [both, both, few_positives, few_negatives]
        needed.append(few_negatives if swap else few_positives)
        reasons.append([f"too few: {text}" if text else "" for text in needed])
    return reasons
