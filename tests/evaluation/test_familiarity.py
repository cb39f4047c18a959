"""Distances against SciPy's, limits and polarity against what they promise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from cxr_lightning.errors import DataError
from cxr_lightning.evaluation.familiarity import (
    Familiarity,
    fit_familiarity,
    nearly_constant,
    thumbnails,
)


@pytest.fixture(scope="module")
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def features(count: int, seed: int) -> np.ndarray:
    """Twelve features that follow three causes, and noise."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(3, 12))
    return generator.normal(size=(count, 3)) @ mixing + 0.1 * generator.normal(size=(count, 12))


PICTURES = np.random.default_rng(5).uniform(20, 90, size=(200, 64))


@pytest.fixture(scope="module")
def fitted() -> Familiarity:
    found = fit_familiarity(features(200, 1), features(150, 2), PICTURES)
    assert found is not None
    return found


def test_distances_are_mahalanobis_under_the_described_covariance(fitted: Familiarity) -> None:
    axes = fitted.axes.astype(float)
    along = axes.T @ np.diag(fitted.variances.astype(float)) @ axes
    rest = fitted.residual * (np.eye(12) - axes.T @ axes)
    unseen = (features(40, 3) - fitted.mean) / fitted.scale
    expected = cdist(unseen, np.zeros((1, 12)), "mahalanobis", VI=np.linalg.inv(along + rest))
    found = fitted.distances(features(40, 3)) * fitted.limit
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-5)


def test_axes_are_the_principal_ones(fitted: Familiarity) -> None:
    known = features(200, 1)
    variance = known.var(axis=0)
    scaled = (known - known.mean(0)) / np.sqrt(variance + 0.05 * variance.mean())
    values = np.linalg.eigvalsh(np.cov(scaled, rowvar=False))[::-1]
    count = len(fitted.axes)
    assert values[:count].sum() / values.sum() >= 0.95
    assert values[: count - 1].sum() / values.sum() < 0.95
    np.testing.assert_allclose(fitted.variances, values[:count], rtol=1e-5)
    assert fitted.residual == pytest.approx(values[count:].mean(), rel=1e-6)


def test_the_limit_is_a_quantile_of_validation(fitted: Familiarity) -> None:
    assert (fitted.distances(features(150, 2)) > 1).sum() == 1  # of 150, the 99th percentile
    few = fit_familiarity(features(200, 1), features(9, 2), PICTURES)
    assert few is not None
    assert few.distances(features(9, 2)).max() == pytest.approx(1)


def test_what_is_far_away_is_far_away(fitted: Familiarity, generator: np.random.Generator) -> None:
    assert (fitted.distances(features(500, 4)) > 1).mean() < 0.05
    assert (fitted.distances(generator.normal(size=(500, 12)) * 3) > 1).all()
    assert fitted.distances(np.full((1, 12), np.nan)) == np.inf


def test_a_feature_that_is_silent_in_training_does_not_decide_alone() -> None:
    silent = np.column_stack([features(200, 1), np.zeros(200)])
    found = fit_familiarity(silent, np.column_stack([features(50, 2), np.zeros(50)]), PICTURES)
    assert found is not None
    whisper = np.append(features(1, 3)[0], 1e-3)
    assert found.distances([whisper])[0] == pytest.approx(
        found.distances([np.append(whisper[:-1], 0.0)])[0], rel=0.01
    )


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        (features(19, 1), features(9, 2)),
        (features(50, 1), np.zeros((0, 12))),
        (np.ones((50, 12)), np.ones((9, 12))),
        (np.full((50, 12), np.nan), features(9, 2)),
    ],
)
def test_where_nothing_can_be_said(train: np.ndarray, validation: np.ndarray) -> None:
    assert fit_familiarity(train, validation, PICTURES[: len(train)]) is None


def test_wrong_shapes(fitted: Familiarity) -> None:
    with pytest.raises(ValueError, match=r"shape \(n, 12\), given \(3, 5\)"):
        fitted.distances(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="given"):
        fit_familiarity(np.zeros((30, 4)), np.zeros((30, 5)), PICTURES)


def test_numbers_and_arrays_are_all_there_is(fitted: Familiarity) -> None:
    again = Familiarity.from_parts(fitted.to_dict(), fitted.arrays())
    np.testing.assert_array_equal(again.distances(features(9, 3)), fitted.distances(features(9, 3)))
    with pytest.raises(DataError, match="damaged"):
        Familiarity.from_parts({"limit": 1.0}, fitted.arrays())


@given(st.integers(0, 2**32 - 1), st.integers(8, 70), st.integers(8, 70))
def test_a_negative_has_the_opposite_polarity(seed: int, height: int, width: int) -> None:
    found = fit_familiarity(features(200, 1), features(9, 2), PICTURES)
    assert found is not None
    image = np.random.default_rng(seed).integers(0, 256, (1, height, width), dtype=np.uint8)
    assert found.polarity_scores(255 - image) == pytest.approx(-found.polarity_scores(image))


def test_polarity_is_one_at_the_mean_picture(fitted: Familiarity) -> None:
    mean = np.rint(PICTURES.mean(0)).astype(np.uint8).reshape(1, 8, 8)
    assert fitted.polarity_scores(mean) == pytest.approx(1, abs=0.02)


def test_thumbnails_are_means_of_areas(generator: np.random.Generator) -> None:
    images = generator.integers(0, 256, (3, 64, 40)).astype(np.uint8)
    expected = [cv2.resize(i.astype(float), (8, 8), interpolation=cv2.INTER_AREA) for i in images]
    np.testing.assert_allclose(thumbnails(images), np.stack(expected).reshape(3, 64), rtol=1e-6)
    odd = thumbnails(np.full((1, 37, 35), 9, np.uint8))
    np.testing.assert_allclose(odd, 9)


def test_nearly_constant() -> None:
    flat = np.full((32, 32), 80, np.uint8)
    marker = flat.copy()
    marker[:2, :2] = 255  # an annotation on nothing
    ramp = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    images = np.stack([flat, marker, (ramp >> 2).astype(np.uint8)])
    assert nearly_constant(images).tolist() == [True, True, False]
