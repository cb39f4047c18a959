from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from cxr_lightning.evaluation.calibration import (
    brier_per_label,
    expected_calibration_error_per_label,
    reliability_curve,
    wilson_interval,
)
from cxr_lightning.evaluation.predictions import arrays


def test_reliability_by_hand() -> None:
    y_true = [1, 0, 0, 1, np.nan, 1, 0]
    y_score = [0.9, 0.1, 0.3, 0.7, 0.5, 0.8, 0.2]
    curve = reliability_curve(y_true, y_score, bins=2)
    np.testing.assert_allclose(curve.mean_score, [0.2, 0.8])
    np.testing.assert_array_equal(curve.prevalence, [0, 1])
    np.testing.assert_array_equal(curve.images, [3, 3])
    ece = expected_calibration_error_per_label(np.c_[y_true], np.c_[y_score], bins=2)
    assert ece[0] == pytest.approx(0.2)


def test_equals_scikit_learn_without_ties(make_table) -> None:
    y_true, y_score, _ = arrays(make_table(2, 1000, decimals=None))
    known = ~np.isnan(y_true[:, 0])
    truth, score = y_true[known, 0], y_score[known, 0]
    truth, score = truth[:800], score[:800]  # bins of exactly 80
    prevalence, mean = calibration_curve(truth, score, n_bins=10, strategy="quantile")
    curve = reliability_curve(truth, score, bins=10)
    np.testing.assert_array_equal(curve.images, 80)
    np.testing.assert_allclose(curve.prevalence, prevalence)
    np.testing.assert_allclose(curve.mean_score, mean)
    assert brier_per_label(y_true, y_score)[0] == pytest.approx(
        brier_score_loss(y_true[known, 0], y_score[known, 0])
    )


@given(
    y_true=hnp.arrays(np.float64, 20, elements=st.sampled_from([0.0, 1.0])),
    y_score=hnp.arrays(np.float64, 20, elements=st.integers(0, 4).map(lambda x: x / 4)),
    bins=st.integers(1, 30),
)
@settings(max_examples=60)
def test_bins_hold_everything_once_and_ties_together(y_true, y_score, bins) -> None:
    curve = reliability_curve(y_true, y_score, bins=bins)
    assert curve.images.sum() == 20
    assert curve.images @ curve.prevalence == pytest.approx(y_true.sum())
    assert curve.images @ curve.mean_score == pytest.approx(y_score.sum())
    assert len(curve.images) <= min(bins, len(np.unique(y_score)))
    assert (np.diff(curve.mean_score) > 0).all()
    assert (curve.low <= curve.prevalence).all()
    assert (curve.prevalence <= curve.high).all()
    order = np.random.default_rng(0).permutation(20)
    again = reliability_curve(y_true[order], y_score[order], bins=bins)
    np.testing.assert_allclose(again.prevalence, curve.prevalence)


@pytest.mark.parametrize(("successes", "images"), [(0, 10), (3, 10), (10, 10), (57, 200)])
def test_wilson_equals_scipy(successes: int, images: int) -> None:
    expected = binomtest(successes, images).proportion_ci(0.9, method="wilson")
    low, high = wilson_interval(successes / images, images, level=0.9)
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_nothing_known_is_nan() -> None:
    y_true, y_score = np.full((3, 1), np.nan), np.full((3, 1), 0.5)
    assert np.isnan(brier_per_label(y_true, y_score)).all()
    assert np.isnan(expected_calibration_error_per_label(y_true, y_score)).all()
    assert not reliability_curve(y_true[:, 0], y_score[:, 0]).images.size
    with pytest.raises(ValueError, match="bins must be at least 1, given 0"):
        reliability_curve([1], [0.5], bins=0)
