"""Several models as one: the weighted mean of their probabilities or logits, as predictions again.

Weights are fitted by the log loss and not by the AUROC: the loss is convex in the weights of either
mean, so that there is one answer and a gradient that leads to it, and it uses every image. The
AUROC is a staircase of the weights, and on a few validation positives its highest step is chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import LinearConstraint, minimize
from scipy.special import expit, log_expit, logsumexp

from cxr_lightning.errors import ConfigError, DataError, nearest
from cxr_lightning.evaluation.alignment import align_predictions
from cxr_lightning.evaluation.predictions import arrays, logits_of, with_logits

__all__ = ["EnsembleMean", "ensemble_predictions", "fit_ensemble_weights"]

Floats = NDArray[np.float64]
EnsembleMean = Literal["probability", "logit"]
TINY = 1e-300  # a certain and wrong model alone has no logarithm


def ensemble_predictions(
    tables: Sequence[pd.DataFrame],
    *,
    mean: EnsembleMean = "probability",
    weights: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return one predictions table; everything but the logits is that of the first.

    Parameters
    ----------
    tables
        The models' predictions of the same images; see `align_predictions` for `names`, `labels`
        and what is checked.
    mean
        `probability`, the mean of the sigmoids, or `logit`, the mean of the logits.
    weights
        Shape (M,), not negative, summing to 1; by default equal.
    """
    _check_mean(mean)
    aligned = align_predictions(tables, names=names, labels=labels)
    share = _check_ensemble_weights(weights, len(aligned))
    logits = np.stack([logits_of(one) for one in aligned])
    return with_logits(aligned[0], _combine(logits, share, mean))


def fit_ensemble_weights(
    tables: Sequence[pd.DataFrame],
    *,
    mean: EnsembleMean = "probability",
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> Floats:
    """Return the weights (M,) of the lowest log loss over all known entries of validation.

    Calibrate the models first where their logits are not of one scale. Weights are for all labels
    together: one per label would be fitted to a handful of positives.
    """
    _check_mean(mean)
    aligned = align_predictions(tables, names=names, labels=labels)
    y_true = arrays(aligned[0]).y_true
    known = ~np.isnan(y_true)
    if not known.any():
        raise DataError("No label is known in these predictions: weights cannot be fitted.")
    truth = y_true[known]
    logits = np.stack([logits_of(one)[known] for one in aligned])
    # the sign that makes the observed outcome the likely one
    signed = np.where(truth == 1, logits, -logits)
    count = len(aligned)
    equal = np.full(count, 1 / count)
    if count == 1:
        return equal

    likelihood = expit(signed)

    def loss(weight: Floats) -> float:
        if mean == "logit":
            return -float(log_expit(weight @ signed).mean())
        return -float(np.log(np.maximum(weight @ likelihood, TINY)).mean())

    def gradient(weight: Floats) -> Floats:
        if mean == "logit":
            return -(signed * expit(-(weight @ signed))).mean(axis=1)
        return -(likelihood / np.maximum(weight @ likelihood, TINY)).mean(axis=1)

    found = minimize(
        loss,
        equal,
        jac=gradient,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * count,
        constraints=LinearConstraint(np.ones((1, count)), 1.0, 1.0),
        options={"ftol": 1e-13, "maxiter": 500},
    )
    weight = np.clip(found.x, 0.0, None)
    weight = np.where(weight < 1e-9, 0.0, weight)
    return weight / weight.sum()


def _combine(logits: Floats, weight: Floats, mean: EnsembleMean) -> Floats:
    """Logits (M, n, L) to those of the ensemble (n, L), finite where the models' are."""
    each = weight[:, None, None]
    if mean == "logit":
        return (each * logits).sum(axis=0)
    # log of the mean of p, less that of the mean of 1 - p: exact where p rounds to 0 or 1
    likely = logsumexp(log_expit(logits), axis=0, b=each)
    unlikely = logsumexp(log_expit(-logits), axis=0, b=each)
    return likely - unlikely


def _check_mean(mean: str) -> None:
    if mean not in get_args(EnsembleMean):
        allowed = get_args(EnsembleMean)
        raise ConfigError(
            f"An ensemble's mean {mean!r} is not known; allowed: {', '.join(allowed)}."
            f"{nearest(mean, allowed)}"
        )


def _check_ensemble_weights(weights: ArrayLike | None, count: int) -> Floats:
    if weights is None:
        return np.full(count, 1 / count)
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (count,) or not ((given >= 0).all() and abs(given.sum() - 1) < 1e-6):
        raise ConfigError(
            f"An ensemble of {count} models needs {count} weights that are not negative and sum to "
            f"1, given {', '.join(f'{value:g}' for value in np.atleast_1d(given).ravel())}."
        )
    return given / given.sum()
