"""The shapes and values every function of this folder expects, checked in one place."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_lightning.errors import DataError, bullet_list

__all__ = ["check_level", "check_patients", "check_scores", "check_weights"]


def check_scores(
    y_true: ArrayLike, y_score: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both as float64 arrays of shape (n, L).

    Raises
    ------
    ValueError
        Where the shapes differ or are not two-dimensional: a defect of the caller.
    DataError
        Where `y_true` holds anything but 1, 0 and NaN, or a score of a known label is NaN.
    """
    truth = np.asarray(y_true, dtype=np.float64)
    score = np.asarray(y_score, dtype=np.float64)
    if truth.ndim != 2 or truth.shape != score.shape:
        raise ValueError(
            "y_true and y_score must be two arrays of one shape (n images, L labels), "
            f"given {truth.shape} and {score.shape}"
        )
    known = ~np.isnan(truth)
    problems = []
    strange = known & (truth != 0) & (truth != 1)
    for column in np.flatnonzero(strange.any(axis=0)):
        values = np.unique(truth[strange[:, column], column])[:5]
        problems.append(
            f"label {column}: {int(strange[:, column].sum()):,} values of y_true are neither 1, 0 "
            f"nor NaN, e.g. {', '.join(f'{value:g}' for value in values)}"
        )
    missing = known & np.isnan(score)
    for column in np.flatnonzero(missing.any(axis=0)):
        images = int(missing[:, column].sum())
        problems += [f"label {column}: {images:,} images with a known label have no score (NaN)"]
    if problems:
        raise DataError(
            "These predictions cannot be scored:\n"
            f"{bullet_list(problems)}\n"
            "Resolve uncertain labels (-1) to 1, 0 or NaN, and give every image a score."
        )
    return truth, score


def check_weights(sample_weight: ArrayLike | None, rows: int) -> NDArray[np.float64] | None:
    """Return the weights as float64 of shape (rows,); None stays: every image counts once."""
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (rows,):
        raise ValueError(f"sample_weight must have shape ({rows},), given {weight.shape}")
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError("sample_weight must be finite and not negative")
    return weight


def check_patients(patients: ArrayLike, rows: int) -> NDArray[np.intp]:
    """Return codes 0..P-1 of shape (rows,), one per patient that occurs."""
    values = np.asarray(patients)
    if values.shape != (rows,):
        raise ValueError(f"patients must have shape ({rows},), given {values.shape}")
    return np.unique(values, return_inverse=True)[1].astype(np.intp)


def check_level(level: float) -> float:
    """Return the level of an interval, a number between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, given {level}")
    return float(level)
