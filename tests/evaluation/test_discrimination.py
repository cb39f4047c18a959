from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from cxr_lightning.errors import DataError
from cxr_lightning.evaluation.discrimination import (
    auroc_per_label,
    average_precision_per_label,
    macro,
    micro,
    partial_auroc_per_label,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
    weighted,
)

METRICS = (auroc_per_label, average_precision_per_label)
PAIRS = [
    (auroc_per_label, roc_auc_score),
    (average_precision_per_label, average_precision_score),
]

# few distinct scores: most examples have ties
tied_scores = st.integers(0, 6).map(lambda value: value / 4)


@st.composite
def problems(draw: st.DrawFn, labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rows = draw(st.integers(1, 25))
    truth = st.sampled_from([0.0, 1.0, np.nan])
    y_true = draw(hnp.arrays(np.float64, (rows, labels), elements=truth))
    y_score = draw(hnp.arrays(np.float64, (rows, labels), elements=tied_scores))
    return y_true, y_score


def reference(function, y_true, y_score, **options):
    result = []
    for truth, score in zip(y_true.T, y_score.T, strict=True):
        known = ~np.isnan(truth)
        one_class = len(set(truth[known])) < 2
        result.append(np.nan if one_class else function(truth[known], score[known], **options))
    return np.array(result)


def test_auroc_by_hand() -> None:
    # positives 0.8, 0.5; negatives 0.5, 0.2: pairs won 1, 1, tied one half, won 1 of 4
    y_true = np.array([[1.0], [1.0], [0.0], [0.0], [np.nan]])
    y_score = np.array([[0.8], [0.5], [0.5], [0.2], [0.9]])
    assert auroc_per_label(y_true, y_score)[0] == 3.5 / 4
    # above 0.8: recall 1/2 at precision 1; at 0.5: recall 1 at precision 2/3
    assert average_precision_per_label(y_true, y_score)[0] == pytest.approx(0.5 + 0.5 * 2 / 3)


@pytest.mark.parametrize(("metric", "sklearn"), PAIRS)
@given(problem=problems())
@settings(max_examples=60)
def test_equals_scikit_learn_with_ties_and_unknowns(metric, sklearn, problem) -> None:
    np.testing.assert_allclose(
        metric(*problem), reference(sklearn, *problem), rtol=0, atol=1e-12, equal_nan=True
    )


@pytest.mark.parametrize(("metric", "sklearn"), PAIRS)
def test_equals_scikit_learn_on_a_large_table(metric, sklearn) -> None:
    rng = np.random.default_rng(1)
    y_true = (rng.random((4000, 3)) < [0.3, 0.05, 0.002]).astype(float)
    y_score = (rng.normal(size=y_true.shape) + y_true).round(2)
    weight = rng.random(4000)
    np.testing.assert_allclose(
        metric(y_true, y_score), reference(sklearn, y_true, y_score), rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(
        metric(y_true, y_score, sample_weight=weight),
        reference(sklearn, y_true, y_score, sample_weight=weight),
        rtol=0,
        atol=1e-12,
    )
    assert micro(metric, y_true, y_score) == pytest.approx(
        sklearn(y_true.ravel(), y_score.ravel()), abs=1e-12
    )


@pytest.mark.parametrize("metric", METRICS)
@given(problem=problems(), data=st.data())
@settings(max_examples=60)
def test_invariants(metric, problem, data) -> None:
    y_true, y_score = problem
    value = metric(y_true, y_score)
    # a monotone map changes nothing
    np.testing.assert_array_equal(metric(y_true, np.exp(3 * y_score) - 7), value)
    # labels and rows may come in any order
    columns = data.draw(st.permutations(range(y_true.shape[1])))
    rows = data.draw(st.permutations(range(len(y_true))))
    np.testing.assert_array_equal(metric(y_true[:, columns], y_score[:, columns]), value[columns])
    np.testing.assert_array_equal(metric(y_true[rows], y_score[rows]), value)
    # whole weights are repetitions
    times = data.draw(hnp.arrays(np.int64, len(y_true), elements=st.integers(0, 3)))
    repeated = metric(np.repeat(y_true, times, axis=0), np.repeat(y_score, times, axis=0))
    weighted = metric(y_true, y_score, sample_weight=times)
    np.testing.assert_allclose(weighted, repeated, rtol=0, atol=1e-12)
    # masking a label equals dropping the row for it
    known = ~np.isnan(y_true[:, 0])
    np.testing.assert_array_equal(metric(y_true[known, :1], y_score[known, :1]), value[:1])


@given(problem=problems())
@settings(max_examples=40)
def test_auroc_of_negated_scores_is_the_complement(problem) -> None:
    y_true, y_score = problem
    np.testing.assert_allclose(
        auroc_per_label(y_true, -y_score), 1 - auroc_per_label(y_true, y_score), atol=1e-12
    )


def test_one_class_is_nan_and_counted_not_zero() -> None:
    y_true = np.array([[1.0, 0.0, np.nan, 1.0], [1.0, 0.0, np.nan, 0.0]])
    for metric in METRICS:
        value = metric(y_true, [[0.1, 0.2, 0.3, 0.9], [0.1, 0.2, 0.3, 0.8]])
        np.testing.assert_array_equal(np.isnan(value), [True, True, True, False])
        assert macro(value) == (1.0, 1, 4)
    assert np.isnan(macro([np.nan, np.nan]).value)
    assert macro([np.nan, np.nan]).defined == 0


@pytest.mark.parametrize("max_fpr", [0.05, 0.1, 0.5, 1.0])
def test_partial_auroc_equals_scikit_learn(max_fpr: float) -> None:
    rng = np.random.default_rng(2)
    y_true = (rng.random((500, 2)) < 0.2).astype(float)
    y_score = (rng.normal(size=y_true.shape) + y_true).round(1)
    np.testing.assert_allclose(
        partial_auroc_per_label(y_true, y_score, max_fpr=max_fpr),
        reference(roc_auc_score, y_true, y_score, max_fpr=max_fpr),
        atol=1e-12,
    )


def test_sensitivity_at_specificity_and_the_reverse() -> None:
    rng = np.random.default_rng(3)
    y_true = (rng.random((400, 1)) < 0.2).astype(float)
    y_score = (rng.normal(size=y_true.shape) + y_true).round(1)
    fpr, tpr, _ = roc_curve(y_true[:, 0], y_score[:, 0], drop_intermediate=False)
    for level in (0.0, 0.5, 0.8, 0.95, 1.0):
        at_specificity = sensitivity_at_specificity(y_true, y_score, specificity=level)[0]
        assert at_specificity == pytest.approx(tpr[1 - fpr >= level].max(), abs=1e-12)
        at_sensitivity = specificity_at_sensitivity(y_true, y_score, sensitivity=level)[0]
        assert at_sensitivity == pytest.approx((1 - fpr)[tpr >= level].max(), abs=1e-12)


def test_operating_points_and_partial_area_by_hand() -> None:
    # from the highest score down: positive, negative, positive, negative, negative
    y_true = np.array([[1.0], [0.0], [1.0], [0.0], [0.0], [np.nan]])
    y_score = np.array([[0.9], [0.8], [0.7], [0.6], [0.5], [0.95]])
    # sensitivity 1/2 at specificity 1, and 1 at specificity 2/3; nothing is drawn between them
    for specificity, expected in ((1.0, 0.5), (0.7, 0.5), (2 / 3, 1.0), (0.0, 1.0)):
        found = sensitivity_at_specificity(y_true, y_score, specificity=specificity)
        assert found[0] == expected
    for sensitivity, expected in ((0.0, 1.0), (0.5, 1.0), (0.51, 2 / 3), (1.0, 2 / 3)):
        found = specificity_at_sensitivity(y_true, y_score, sensitivity=sensitivity)
        assert found[0] == pytest.approx(expected, abs=1e-15)
    # up to a rate of 1/3 the curve is level at 1/2: area 1/6; chance has 1/18, perfect 1/3
    found = partial_auroc_per_label(y_true, y_score, max_fpr=1 / 3)
    assert found[0] == pytest.approx((1 + (1 / 6 - 1 / 18) / (1 / 3 - 1 / 18)) / 2)


def test_weighted_by_hand_and_as_scikit_learn_does() -> None:
    assert weighted([0.8, np.nan, 0.5], [30, 0, 10]) == pytest.approx((24 + 5) / 40)
    np.testing.assert_allclose(
        weighted([[0.8, 0.5], [np.nan, np.nan]], [[1, 3], [5, 5]]), [0.575, np.nan]
    )
    rng = np.random.default_rng(4)
    y_true = (rng.random((500, 3)) < [0.3, 0.1, 0.05]).astype(float)
    y_score = rng.normal(size=y_true.shape) + y_true
    for metric, sklearn in PAIRS:
        found = weighted(metric(y_true, y_score), y_true.sum(axis=0))
        assert found == pytest.approx(sklearn(y_true, y_score, average="weighted"), abs=1e-12)


@pytest.mark.parametrize("level", [-0.1, 95])
def test_percentages_are_refused(level: float) -> None:
    with pytest.raises(ValueError, match=f"specificity must lie between 0 and 1, given {level}"):
        sensitivity_at_specificity([[1], [0]], [[1], [0]], specificity=level)
    with pytest.raises(ValueError, match=f"sensitivity must lie between 0 and 1, given {level}"):
        specificity_at_sensitivity([[1], [0]], [[1], [0]], sensitivity=level)


def test_wrong_values_are_all_named() -> None:
    y_true = np.array([[1.0, -1.0, 0.0], [0.5, -1.0, 1.0]])
    y_score = np.array([[0.1, 0.2, np.nan], [0.1, 0.2, 0.3]])
    with pytest.raises(DataError) as error:
        auroc_per_label(y_true, y_score)
    assert str(error.value) == (
        "These predictions cannot be scored:\n"
        "  - label 0: 1 values of y_true are neither 1, 0 nor NaN, e.g. 0.5\n"
        "  - label 1: 2 values of y_true are neither 1, 0 nor NaN, e.g. -1\n"
        "  - label 2: 1 images with a known label have no score (NaN)\n"
        "Resolve uncertain labels (-1) to 1, 0 or NaN, and give every image a score."
    )


def test_wrong_shapes_and_weights() -> None:
    with pytest.raises(ValueError, match=r"given \(3,\) and \(3,\)"):
        auroc_per_label(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="finite and not negative"):
        auroc_per_label(np.zeros((2, 1)), np.zeros((2, 1)), sample_weight=[1, -1])
    with pytest.raises(ValueError, match=r"shape \(2,\), given \(3,\)"):
        auroc_per_label(np.zeros((2, 1)), np.zeros((2, 1)), sample_weight=[1, 1, 1])
