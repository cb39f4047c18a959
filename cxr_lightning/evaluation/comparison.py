"""Is one model better than another on one test set: paired differences, intervals and p-values.

Both models are scored on the same resamples of patients. A row per label asks many questions at
once: `_holm` columns hold p-values corrected for that (Holm, Scandinavian Journal of Statistics
1979), over the labels that have one; the macro mean is a question of its own and stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr_lightning.evaluation.alignment import align_predictions
from cxr_lightning.evaluation.bootstrap import (
    DISCRIMINATION,
    discrimination_replicates,
    macro_of_replicates,
    percentile_interval,
)
from cxr_lightning.evaluation.delong import delong_test_per_label
from cxr_lightning.evaluation.predictions import arrays, labels_of
from cxr_lightning.evaluation.replicates import draw_patient_weights
from cxr_lightning.evaluation.tables import MACRO

__all__ = ["bootstrap_p_value", "compare_models", "holm"]

Floats = NDArray[np.float64]


def compare_models(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    replicates: int,
    level: float,
    generator: np.random.Generator,
    names: tuple[str, str] = ("first", "second"),
    labels: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Compare two predictions tables of the same images.

    Parameters
    ----------
    names
        What to call the two in a message.
    labels
        Compare these alone; by default both tables must hold the same labels.

    Returns
    -------
    DataFrame
        Index `label`: every label, then `macro`, the mean over the labels that are defined.
        Columns: `images`, `positives`; for METRIC in `auroc` and `average_precision`:
        `METRIC_first`, `METRIC_second`, `METRIC_difference` (second minus first) with `_low`,
        `_high`, `_p_value`, `_p_holm` and `_undefined` (replicates left out); `delong_error` (of
        the difference in AUROC), `delong_p_value`, `delong_p_holm`, which take images as
        independent (see `delong`) and are NaN for `macro`. NaN where a label has one class only.

    Raises
    ------
    DataError
        The tables differ in images, patients, labels or truth: see `align_predictions`.
    """
    tables = align_predictions([first, second], names=names, labels=labels)
    chosen = labels_of(tables[0])
    y_true, y_first, patients = arrays(tables[0])
    y_second = arrays(tables[1]).y_score
    weights = draw_patient_weights(int(patients.max()) + 1, replicates, generator)
    draws = [
        discrimination_replicates(y_true, score, patients, weights) for score in (y_first, y_second)
    ]
    known, positives = (~np.isnan(y_true)).sum(axis=0), (y_true == 1).sum(axis=0)
    columns: dict[str, ArrayLike] = {
        "images": np.append(known, known.sum()),
        "positives": np.append(positives, positives.sum()),
    }
    for name, metric in DISCRIMINATION.items():
        before, after = (_with_macro(metric(y_true, score)) for score in (y_first, y_second))
        drawn = [np.column_stack([one[name], macro_of_replicates(one[name])]) for one in draws]
        differences = drawn[1] - drawn[0]
        interval = percentile_interval(after - before, differences, level=level)
        p_value = bootstrap_p_value(differences)
        columns |= {
            f"{name}_first": before,
            f"{name}_second": after,
            f"{name}_difference": interval.estimate,
            f"{name}_difference_low": interval.low,
            f"{name}_difference_high": interval.high,
            f"{name}_difference_p_value": p_value,
            f"{name}_difference_p_holm": np.append(holm(p_value[:-1]), p_value[-1]),
            f"{name}_difference_undefined": interval.undefined,
        }
    test = delong_test_per_label(y_true, y_first, y_second)
    columns |= {
        "delong_error": np.append(test.standard_error, np.nan),
        "delong_p_value": np.append(test.p_value, np.nan),
        "delong_p_holm": np.append(holm(test.p_value), np.nan),
    }
    return pd.DataFrame(columns, index=pd.Index([*chosen, MACRO], name="label"))


def _with_macro(per_label: Floats) -> Floats:
    return np.append(per_label, macro_of_replicates(per_label[None]))


def bootstrap_p_value(differences: ArrayLike) -> Floats:
    """Return two-sided p-values of replicates (replicates, K) against a difference of 0.

    Twice the share of replicates on the rarer side of 0, counting those at 0 on both sides and one
    more than were found (Davison and Hinkley, 1997, section 4.2), at most 1: it is below 1 - level
    about where the percentile interval leaves 0 out, and never below 2 / (replicates + 1). NaN
    without a replicate that is defined.
    """
    drawn = np.asarray(differences, dtype=np.float64)
    count = (~np.isnan(drawn)).sum(axis=0)
    rarer = np.minimum((drawn <= 0).sum(axis=0), (drawn >= 0).sum(axis=0))
    return np.where(count > 0, np.minimum(2 * (rarer + 1) / (count + 1), 1.0), np.nan)


def holm(p_values: ArrayLike) -> Floats:
    """Return p-values corrected for how many there are; NaN is not counted and stays NaN.

    The k-th smallest of m is multiplied by m - k + 1; no corrected value is below that of a smaller
    one, or above 1.
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given)[: int((~np.isnan(given)).sum())]  # NaN sorts behind
    corrected = np.full(given.shape, np.nan)
    steps = given[order] * np.arange(order.size, 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
