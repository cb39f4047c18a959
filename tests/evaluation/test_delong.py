from __future__ import annotations

import numpy as np
import pytest

from cxr_lightning.evaluation.bootstrap import bootstrap_interval
from cxr_lightning.evaluation.delong import delong_interval_per_label, delong_test_per_label
from cxr_lightning.evaluation.discrimination import auroc_per_label
from cxr_lightning.evaluation.predictions import arrays


def by_definition(truth: np.ndarray, *scores: np.ndarray) -> np.ndarray:
    """Covariance of AUROCs from all pairs, as the paper writes it."""
    wins = []
    for score in scores:
        positive, negative = score[truth == 1][:, None], score[truth == 0][None]
        wins.append((positive > negative) + 0.5 * (positive == negative))
    over_negatives = np.array([pairs.mean(axis=1) for pairs in wins])
    over_positives = np.array([pairs.mean(axis=0) for pairs in wins])
    return (
        np.atleast_2d(np.cov(over_negatives)) / over_negatives.shape[1]
        + np.atleast_2d(np.cov(over_positives)) / over_positives.shape[1]
    )


def test_by_hand() -> None:
    # positives 3, 1 win 2 and 1 of the negatives 2, 0: AUROC 3/4
    found = delong_interval_per_label([[1], [1], [0], [0]], [[3], [1], [2], [0]])
    assert found.auroc[0] == 0.75
    # shares won 1, 1/2 and lost-to 1/2, 1: variance 1/8 each, over 2 each
    assert found.standard_error[0] == pytest.approx(np.sqrt(1 / 16 + 1 / 16))
    assert found.low[0] == pytest.approx(0.75 - 1.959964 * np.sqrt(1 / 8))
    assert found.high[0] == 1.0


def test_equals_the_definition_and_the_auroc(table) -> None:
    y_true, y_score, _ = arrays(table)
    other = (y_score + np.random.default_rng(0).normal(0, 0.1, y_score.shape)).round(1)
    found = delong_interval_per_label(y_true, y_score)
    test = delong_test_per_label(y_true, y_score, other)
    np.testing.assert_allclose(found.auroc, auroc_per_label(y_true, y_score), atol=1e-12)
    np.testing.assert_allclose(
        test.difference,
        auroc_per_label(y_true, other) - auroc_per_label(y_true, y_score),
        atol=1e-12,
    )
    for label in (0, 1, 2, 4):
        expected = by_definition(y_true[:, label], y_score[:, label], other[:, label])
        assert found.standard_error[label] ** 2 == pytest.approx(expected[0, 0])
        variance = expected[0, 0] + expected[1, 1] - 2 * expected[0, 1]
        assert test.standard_error[label] ** 2 == pytest.approx(variance)
    assert np.isnan([part[3] for part in (*found, *test)]).all()


def test_agrees_with_the_bootstrap_over_independent_images(make_table) -> None:
    y_true, y_score, _ = arrays(make_table(5, 2000))
    found = delong_interval_per_label(y_true, y_score)
    bootstrap = bootstrap_interval(
        auroc_per_label,
        y_true,
        y_score,
        np.arange(2000),
        replicates=1000,
        level=0.95,
        generator=np.random.default_rng(0),
    )
    for left, right in ((found.low, bootstrap.low), (found.high, bootstrap.high)):
        np.testing.assert_allclose(left, right, atol=0.006)


def test_the_same_model_twice() -> None:
    y_true = np.array([[1.0], [1.0], [0.0], [0.0], [np.nan]])
    y_score = np.array([[0.9], [0.3], [0.5], [0.1], [0.2]])
    test = delong_test_per_label(y_true, y_score, y_score**2)
    assert [float(part[0]) for part in test] == [0, 0, 1]


def test_under_the_null_p_values_are_uniform() -> None:
    rng = np.random.default_rng(1)
    y_true = (rng.random((300, 400)) < 0.3).astype(float)
    common = y_true + rng.normal(size=y_true.shape)
    first, second = (common + rng.normal(size=y_true.shape) for _ in range(2))
    p_value = delong_test_per_label(y_true, first, second).p_value
    assert (p_value < 0.05).mean() == pytest.approx(0.05, abs=0.025)
    assert p_value.mean() == pytest.approx(0.5, abs=0.05)


def test_one_positive_has_no_variance() -> None:
    found = delong_interval_per_label([[1], [0], [0]], [[0.9], [0.1], [0.2]])
    assert np.isnan(found.standard_error).all()
