"""From predictions per image to predictions per study: the maximum or the mean over its views.

A report describes a study, and so do its labels: a study whose frontal picture hides what its
lateral shows is one case, not two. CheXpert's competition scores the maximum over the views of a
study (Irvin et al., "CheXpert", AAAI 2019, section 5). The result is a predictions table again, so
that every metric, interval and plot works on it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_expit

from cxr_lightning.errors import DataError, bullet_list
from cxr_lightning.evaluation.predictions import (
    LOGIT,
    TRUTH,
    labels_of,
    logits_of,
    validate_predictions,
)

__all__ = ["Pooling", "predictions_per_study"]

Pooling = Literal["max", "mean"]


def predictions_per_study(table: pd.DataFrame, pooling: Pooling = "max") -> pd.DataFrame:
    """Return one row per study.

    Parameters
    ----------
    table
        A predictions table, a row per image (see :mod:`cxr_lightning.evaluation.predictions`).
    pooling
        Of the probabilities of a study's images: their maximum or their mean.

    Returns
    -------
    DataFrame
        A predictions table in the order in which studies first appear: `sample_id` is the study's
        id, logits are those of the pooled probabilities, y_true is what its images say (unknown
        where all of them are), and `images` counts them. Of `view` and other columns those stay
        that are the same for all images of every study.

    Raises
    ------
    DataError
        A study whose images contradict one another in a label, the patient or the split: all of
        them.
    """
    if pooling not in ("max", "mean"):
        raise ValueError(f"pooling must be max or mean, given {pooling!r}")
    table = validate_predictions(table)
    codes, found = pd.factorize(table["study_id"])
    studies = np.asarray(found, dtype=object)
    labels = labels_of(table)
    truth = table[[TRUTH + name for name in labels]].to_numpy(np.float64)
    highest, lowest = _extremes(truth, codes, len(studies))
    _refuse_contradictions(table, codes, studies, labels, highest != lowest)
    first = np.zeros(len(studies), dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    pooled = _pool(logits_of(table, labels), codes, len(studies), pooling)
    shared = table.iloc[first][_shared(table, codes, first)].reset_index(drop=True)
    result = shared.assign(
        sample_id=shared["study_id"], images=np.bincount(codes, minlength=len(studies))
    )
    for column, name in enumerate(labels):
        result[TRUTH + name] = np.where(np.isinf(highest), np.nan, highest)[:, column]
        result[LOGIT + name] = pooled[:, column]
    return validate_predictions(result)


def _extremes(
    truth: NDArray[np.float64], codes: NDArray[np.intp], studies: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the highest and lowest known value per study and label; both -inf where none is."""
    unknown = np.isnan(truth)
    highest = np.full((studies, truth.shape[1]), -np.inf)
    np.maximum.at(highest, codes, np.where(unknown, -np.inf, truth))
    lowest = np.full((studies, truth.shape[1]), np.inf)
    np.minimum.at(lowest, codes, np.where(unknown, np.inf, truth))
    return highest, np.where(np.isinf(lowest), -np.inf, lowest)


def _pool(
    logits: NDArray[np.float64], codes: NDArray[np.intp], studies: int, pooling: Pooling
) -> NDArray[np.float64]:
    """Return the logit of the pooled probability (studies, L), finite for finite logits."""
    if pooling == "max":
        highest = np.full((studies, logits.shape[1]), -np.inf)
        np.maximum.at(highest, codes, logits)
        return highest
    # In logarithms: a probability of 1 - 1e-20 is 1 in float64, and its logit would be infinite.
    return _log_sums(log_expit(logits), codes, studies) - _log_sums(
        log_expit(-logits), codes, studies
    )


def _log_sums(
    values: NDArray[np.float64], codes: NDArray[np.intp], studies: int
) -> NDArray[np.float64]:
    sums = np.full((studies, values.shape[1]), -np.inf)
    np.logaddexp.at(sums, codes, values)
    return sums


def _refuse_contradictions(
    table: pd.DataFrame,
    codes: NDArray[np.intp],
    studies: NDArray[np.object_],
    labels: tuple[str, ...],
    unequal: NDArray[np.bool_],
) -> None:
    problems = []
    for column in ("patient_id", "split"):
        counts = table.groupby(codes)[column].nunique().to_numpy()
        for study in np.flatnonzero(counts > 1):
            values = table.loc[codes == study, column].unique()
            problems.append(f"study {studies[study]}: {column} {' and '.join(values)}")
    for study in np.flatnonzero(unequal.any(axis=1)):
        names = [name for name, differs in zip(labels, unequal[study], strict=True) if differs]
        problems.append(f"study {studies[study]}: its images are both 1 and 0: {', '.join(names)}")
    if problems:
        raise DataError(
            f"images of one study contradict one another:\n{bullet_list(problems)}\n"
            "Scoring per study needs labels of the study; score these per image."
        )


def _shared(table: pd.DataFrame, codes: NDArray[np.intp], first: NDArray[np.intp]) -> list[str]:
    """Return the columns beside the labels' in which all images of a study say the same."""
    names = [str(name) for name in table if not str(name).startswith((TRUTH, LOGIT))]
    own = table[names].reset_index(drop=True)
    of_first = own.iloc[first[codes]].reset_index(drop=True)
    same = ((own == of_first) | (own.isna() & of_first.isna())).all(axis=0).to_numpy()
    return [name for name, equal in zip(names, same, strict=True) if equal]
