"""Single points and parts of the ROC curve as a table: what a fixed specificity would find."""

from __future__ import annotations

import pandas as pd

from cxr_lightning.evaluation.discrimination import (
    LabelMetric,
    macro,
    micro,
    partial_auroc_per_label,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
    weighted,
)
from cxr_lightning.evaluation.predictions import arrays, labels_of
from cxr_lightning.evaluation.tables import AVERAGES

__all__ = ["operating_points"]


def operating_points(
    predictions: pd.DataFrame,
    *,
    specificity: float = 0.9,
    sensitivity: float = 0.9,
    max_fpr: float = 0.1,
) -> pd.DataFrame:
    """Return what the curves of a predictions table say at given points.

    Both points are read off this very table, without a threshold fitted elsewhere: they describe
    the curve and promise nothing about a deployed threshold.

    Returns
    -------
    DataFrame
        Index `label`: every label, then `macro`, `micro`, `weighted`. Columns:
        `sensitivity_at_specificity`, `specificity_at_sensitivity`, and `partial_auroc` up to the
        false-positive rate `max_fpr`, standardised. NaN where a label has one class only.
    """
    labels = labels_of(predictions)
    y_true, y_score, _ = arrays(predictions)
    positives = (y_true == 1).sum(axis=0)
    metrics: dict[str, LabelMetric] = {
        "sensitivity_at_specificity": lambda t, s, *, sample_weight=None: (
            sensitivity_at_specificity(t, s, specificity=specificity, sample_weight=sample_weight)
        ),
        "specificity_at_sensitivity": lambda t, s, *, sample_weight=None: (
            specificity_at_sensitivity(t, s, sensitivity=sensitivity, sample_weight=sample_weight)
        ),
        "partial_auroc": lambda t, s, *, sample_weight=None: partial_auroc_per_label(
            t, s, max_fpr=max_fpr, sample_weight=sample_weight
        ),
    }
    columns = {}
    for name, metric in metrics.items():
        values = metric(y_true, y_score)
        columns[name] = [
            *values,
            macro(values).value,
            micro(metric, y_true, y_score),
            float(weighted(values, positives)),
        ]
    return pd.DataFrame(columns, index=pd.Index([*labels, *AVERAGES], name="label"))
