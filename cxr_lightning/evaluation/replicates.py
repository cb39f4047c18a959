"""AUROC and average precision of every bootstrap replicate at once, as weights over sorted scores.

A replicate draws patients with replacement, so an image counts as often as its patient was drawn.
The order of the scores does not change: images are sorted once, and only sums of weights differ.
For one label let the groups of tied scores that hold a positive be k = 0..m-1, from the highest
score down. Two sparse matrices (m, patients) count the positives of group k and the negatives that
score at or above it but below the group before. Times the weights (patients, replicates), and
summed downwards, they give the true and false positives at each group:

    AUROC = sum_k p_k (2 (N - FP_k) + t_k) / (2 P N)
    AP    = sum_k p_k / P * TP_k / (TP_k + FP_k)

with p_k and t_k the positives and negatives tied in group k. All counts are whole numbers that the
chosen float type holds exactly, so the result depends on no block size, thread or BLAS.

Compiled loops (numba) were measured too: on one core 0.6 s for what takes 0.4 s here, after four
seconds of compilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = [
    "Problem",
    "ReplicateScores",
    "draw_patient_weights",
    "replicate_scores",
    "replicate_sums",
]

BLOCK_BYTES = 1 << 19  # weights of a block of replicates: they should stay in a core's own cache
STEP = 64  # rows summed by one small matrix product
TINY = 1e-300  # added to a count of 0 it avoids 0 / 0; added to any other it changes no bit


class Problem(NamedTuple):
    """One binary problem: known entries only.

    positive : (n,) bool; score : (n,) float64; patient : (n,) codes below the number of patients.
    """

    positive: NDArray[np.bool_]
    score: NDArray[np.float64]
    patient: NDArray[np.intp]


class ReplicateScores(NamedTuple):
    """Shape (replicates, problems) each, NaN where a replicate has one class only.

    `average_precision` is None where it was not asked for.
    """

    auroc: NDArray[np.float64]
    average_precision: NDArray[np.float64] | None


class _Sorted(NamedTuple):
    # rows: groups 0..m-1, then empty ones up to a multiple of STEP; columns: patients
    positives: csr_array
    negatives: csr_array  # at or above group k, below group k - 1
    tied: csr_array | None  # the part of `negatives` that ties with group k; None without ties
    all_negatives: NDArray[np.floating[Any]]  # (patients,): also those below every positive


def draw_patient_weights(
    patients: int, replicates: int, generator: np.random.Generator
) -> NDArray[np.int16]:
    """Return how often each patient is drawn in each replicate, shape (patients, replicates)."""
    weights = np.zeros((replicates, patients), dtype=np.int16)
    for replicate in weights if patients else ():
        drawn = generator.integers(0, patients, size=patients)
        replicate[:] = np.bincount(drawn, minlength=patients)
    return weights.T


def replicate_sums(
    rows: NDArray[Any], patients: NDArray[np.intp], weights: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Return the sum of `rows` in every replicate, shape (replicates, K).

    Parameters
    ----------
    rows
        Shape (n, K): whatever is counted per image, e.g. whether it is a true positive.
    patients, weights
        Codes (n,) below `len(weights)`, and what `draw_patient_weights` gave.
    """
    codes, replicates = weights.shape
    matrix = csr_array((np.ones(len(rows)), (patients, np.arange(len(rows)))), (codes, len(rows)))
    per_patient = matrix @ np.asarray(rows, dtype=np.float64)
    sums = np.empty((replicates, rows.shape[1]))
    for start in range(0, replicates, 64):  # few at a time: the weights are made wide for it
        block = slice(start, start + 64)
        sums[block] = weights[:, block].T.astype(np.float64) @ per_patient
    return sums


def replicate_scores(
    problems: Sequence[Problem],
    weights: NDArray[np.integer[Any]],
    *,
    average_precision: bool = True,
) -> ReplicateScores:
    """Score every problem under every column of patient weights.

    Parameters
    ----------
    weights
        Shape (patients, replicates), whole numbers from 0.
    average_precision
        False saves two thirds of the time.
    """
    patients, replicates = weights.shape
    auroc = np.full((replicates, len(problems)), np.nan)
    precision = np.full((replicates, len(problems)), np.nan) if average_precision else None
    usable = {
        index: problem
        for index, problem in enumerate(problems)
        if problem.positive.any() and not problem.positive.all()
    }
    if not usable:
        return ReplicateScores(auroc, precision)
    # float32 holds whole numbers below 2**24 exactly, and no sum exceeds the largest replicate
    images = np.max([np.bincount(p.patient, minlength=patients) for p in usable.values()], axis=0)
    largest = max((int(images @ column) for column in weights.T), default=0)
    dtype = np.float32 if largest < 2**24 else np.float64
    size = int(np.clip(BLOCK_BYTES // (patients * np.dtype(dtype).itemsize), 32, 256))
    prepared = {index: _sort(problem, patients, dtype) for index, problem in usable.items()}
    for start in range(0, replicates, size):
        block = slice(start, start + size)
        drawn: NDArray[np.floating[Any]] = np.ascontiguousarray(weights[:, block], dtype=dtype)
        for index, problem in prepared.items():
            auroc[block, index], found = _score_block(problem, drawn, average_precision)
            if precision is not None and found is not None:
                precision[block, index] = found
    return ReplicateScores(auroc, precision)


def _sort(problem: Problem, patients: int, dtype: type[np.floating[Any]]) -> _Sorted:
    order = np.argsort(-problem.score)
    score, positive = problem.score[order], problem.positive[order]
    patient = problem.patient[order].astype(np.int32)
    group = np.append(0, np.cumsum(score[1:] != score[:-1]))
    holds_positive = np.zeros(group[-1] + 1, dtype=bool)
    holds_positive[group[positive]] = True
    # groups with a positive strictly above: the row; it never falls, so rows are already together
    row = (np.cumsum(holds_positive) - holds_positive)[group]
    groups = int(holds_positive.sum())
    rows = -(-groups // STEP) * STEP

    def count(chosen: NDArray[np.bool_]) -> csr_array:
        start = np.append(0, np.cumsum(np.bincount(row[chosen], minlength=rows))).astype(np.int32)
        columns = patient[chosen]
        return csr_array((np.ones(len(columns), dtype), columns, start), shape=(rows, patients))

    tied = holds_positive[group] & ~positive
    return _Sorted(
        positives=count(positive),
        negatives=count(~positive & (row < groups)),
        tied=count(tied) if tied.any() else None,
        all_negatives=np.bincount(patient[~positive], minlength=patients).astype(dtype),
    )


def _score_block(
    problem: _Sorted, weights: NDArray[np.floating[Any]], average_precision: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return AUROC and, if asked for, average precision of each column, shape (block,)."""
    positive = problem.positives @ weights
    false_in_step, false_before = _sum_downwards(problem.negatives @ weights)
    steps = positive.reshape(false_in_step.shape)
    per_step = steps.sum(axis=1, dtype=np.float64)
    p = per_step.sum(axis=0)
    n = (problem.all_negatives @ weights).astype(np.float64)
    losses = 2 * (_dot(steps, false_in_step) + np.einsum("sb,sb->b", per_step, false_before))
    if problem.tied is not None:
        losses -= _dot(steps, (problem.tied @ weights).reshape(steps.shape))
    both = (p > 0) & (n > 0)
    pairs = np.where(both, 2 * p * n, np.nan)
    auroc = (pairs - losses) / pairs
    if not average_precision:
        return auroc, None
    true_in_step, true_before = _sum_downwards(positive)
    true = true_in_step + true_before[:, None]
    false = false_in_step + (false_before + TINY)[:, None]
    precision = np.divide(true, np.add(true, false, out=false), out=true)
    return auroc, _dot(steps, precision) / np.where(both, p, np.nan)


def _dot(left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
    """Sum of products over all but the last axis, in float64."""
    columns = left.shape[-1]
    return np.einsum(
        "kb,kb->b", left.reshape(-1, columns), right.reshape(-1, columns), dtype=np.float64
    )


def _sum_downwards(
    values: NDArray[np.floating[Any]],
) -> tuple[NDArray[np.floating[Any]], NDArray[np.float64]]:
    """Cumulative sum over axis 0 in two parts that add up to it.

    Small products with a triangle of ones do it in a tenth of the time of np.cumsum over that axis.

    Returns
    -------
    within : (steps, STEP, columns), the sum inside a step
    before : (steps, columns), the sum of all steps above
    """
    columns = values.shape[1]
    within = np.matmul(np.tri(STEP, dtype=values.dtype), values.reshape(-1, STEP, columns))
    before = np.zeros((len(within), columns), dtype=np.float64)
    np.cumsum(within[:-1, -1], axis=0, dtype=np.float64, out=before[1:])
    return within, before
