from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from cxr_lightning.evaluation.decisions import (
    RATES,
    Counts,
    confusion_counts,
    micro_counts,
    rates,
)
from cxr_lightning.evaluation.predictions import arrays


def test_by_hand() -> None:
    # called at 0.5: rows 0, 1, 2; at the threshold itself is a positive call
    y_true = np.array([[1.0], [1.0], [0.0], [0.0], [1.0], [np.nan]])
    y_score = np.array([[0.9], [0.5], [0.7], [0.4], [0.1], [0.9]])
    counts = confusion_counts(y_true, y_score, 0.5)
    assert [int(part[0]) for part in counts] == [2, 1, 1, 1]
    found = {name: float(value[0]) for name, value in rates(counts).items()}
    assert found == pytest.approx(
        {
            "sensitivity": 2 / 3,
            "specificity": 1 / 2,
            "precision": 2 / 3,
            "negative_predictive_value": 1 / 2,
            "f1": 2 / 3,
            "accuracy": 3 / 5,
            "balanced_accuracy": 7 / 12,
            "mcc": (2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2),
        }
    )
    assert tuple(found) == RATES


def test_equals_scikit_learn(table: pd.DataFrame) -> None:
    y_true, y_score, _ = arrays(table)
    limits = np.array([0.2, 0.3, 0.1, 0.5, 0.4])
    found = rates(confusion_counts(y_true, y_score, limits))
    for label in (0, 1, 2, 4):
        known = ~np.isnan(y_true[:, label])
        truth, called = y_true[known, label], y_score[known, label] >= limits[label]
        assert found["f1"][label] == pytest.approx(metrics.f1_score(truth, called))
        assert found["precision"][label] == pytest.approx(metrics.precision_score(truth, called))
        assert found["sensitivity"][label] == pytest.approx(metrics.recall_score(truth, called))
        assert found["specificity"][label] == pytest.approx(
            metrics.recall_score(truth, called, pos_label=0)
        )
        assert found["accuracy"][label] == pytest.approx(metrics.accuracy_score(truth, called))
        assert found["balanced_accuracy"][label] == pytest.approx(
            metrics.balanced_accuracy_score(truth, called)
        )
        assert found["mcc"][label] == pytest.approx(metrics.matthews_corrcoef(truth, called))
    known = ~np.isnan(y_true)
    pooled = rates(micro_counts(confusion_counts(y_true, y_score, limits)))
    assert pooled["f1"] == pytest.approx(
        metrics.f1_score(y_true[known], (y_score >= limits)[known])
    )


def test_undefined_is_nan_without_a_warning() -> None:
    counts = Counts(*np.array([[0, 0, 0], [3, 0, 0], [0, 4, 0], [5, 0, 0]], dtype=float))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rates(counts)
    # no positive; no negative and nothing called; nothing known
    nan = np.nan
    expected = {
        "sensitivity": [nan, 0, nan],
        "specificity": [5 / 8, nan, nan],
        "precision": [nan, nan, nan],
        "negative_predictive_value": [1, nan, nan],
        "f1": [nan, 0, nan],
        "accuracy": [5 / 8, 0, nan],
        "balanced_accuracy": [nan, nan, nan],
        "mcc": [nan, nan, nan],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_weights_equal_repetition(table: pd.DataFrame) -> None:
    y_true, y_score, _ = arrays(table)
    times = np.random.default_rng(0).integers(0, 4, len(table))
    weighted = confusion_counts(y_true, y_score, 0.3, sample_weight=times)
    repeated = confusion_counts(np.repeat(y_true, times, 0), np.repeat(y_score, times, 0), 0.3)
    for left, right in zip(weighted, repeated, strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_nan_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="a threshold is NaN"):
        confusion_counts(np.zeros((1, 1)), np.zeros((1, 1)), np.nan)
