from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr_lightning.evaluation import replicates as engine
from cxr_lightning.evaluation.bootstrap import (
    bootstrap_discrimination,
    bootstrap_interval,
    percentile_interval,
)
from cxr_lightning.evaluation.decisions import confusion_counts, rates
from cxr_lightning.evaluation.discrimination import (
    auroc_per_label,
    average_precision_per_label,
    macro,
    micro,
    weighted,
)
from cxr_lightning.evaluation.predictions import arrays
from cxr_lightning.evaluation.replicates import (
    Problem,
    draw_patient_weights,
    replicate_scores,
    replicate_sums,
)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_draws_are_patients_with_replacement() -> None:
    weights = draw_patient_weights(50, 2000, rng())
    assert weights.shape == (50, 2000)
    np.testing.assert_array_equal(weights.sum(axis=0), 50)
    # a patient is left out of a share (1 - 1/50) ** 50 of the replicates
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, abs=0.01)
    np.testing.assert_array_equal(weights, draw_patient_weights(50, 2000, rng()))


@given(data=st.data())
@settings(max_examples=60)
def test_fast_replicates_equal_scikit_learn_on_resampled_rows(data) -> None:
    rows = data.draw(st.integers(2, 30))
    patients = data.draw(hnp.arrays(np.intp, rows, elements=st.integers(0, 7)))
    positive = data.draw(hnp.arrays(np.bool_, rows))
    score = data.draw(hnp.arrays(np.float64, rows, elements=st.integers(0, 5).map(float)))
    weights = data.draw(hnp.arrays(np.int16, (8, 5), elements=st.integers(0, 3)))
    fast = replicate_scores([Problem(positive, score, patients)], weights)
    assert fast.average_precision is not None
    for replicate in range(5):
        times = weights[patients, replicate]
        truth, drawn = np.repeat(positive, times), np.repeat(score, times)
        for values, sklearn in (
            (fast.auroc, roc_auc_score),
            (fast.average_precision, average_precision_score),
        ):
            if len(set(truth)) < 2:
                assert np.isnan(values[replicate, 0])
            else:
                assert values[replicate, 0] == pytest.approx(sklearn(truth, drawn), abs=1e-12)


@pytest.mark.parametrize("decimals", [None, 1])
def test_many_positives_many_blocks(decimals: int | None, make_table, monkeypatch) -> None:
    y_true, y_score, patients = arrays(make_table(3, 2000, decimals=decimals))
    weights = draw_patient_weights(patients.max() + 1, 70, rng())
    problems = [
        Problem(y_true[known, label] == 1, y_score[known, label], patients[known])
        for label, known in enumerate(~np.isnan(y_true.T))
    ]
    fast = replicate_scores(problems, weights)
    for replicate in (0, 31, 32, 69):
        weight = weights[patients, replicate]
        np.testing.assert_allclose(
            fast.auroc[replicate],
            auroc_per_label(y_true, y_score, sample_weight=weight),
            rtol=0,
            atol=1e-12,
        )
        np.testing.assert_allclose(
            fast.average_precision[replicate],
            average_precision_per_label(y_true, y_score, sample_weight=weight),
            rtol=0,
            atol=1e-12,
        )
    # AUROC alone is the same, and so are other blocks, bit for bit
    alone = replicate_scores(problems, weights, average_precision=False)
    assert alone.average_precision is None
    np.testing.assert_array_equal(alone.auroc, fast.auroc)
    monkeypatch.setattr(engine, "BLOCK_BYTES", 1 << 30)
    again = replicate_scores(problems, weights)
    np.testing.assert_array_equal(again.auroc, fast.auroc)
    np.testing.assert_array_equal(again.average_precision, fast.average_precision)


def test_sums_of_replicates_by_hand() -> None:
    # patient 0 has the rows 1 and 2, patient 1 the row 10; nothing of patient 2 is counted
    weights = np.array([[1, 2, 0], [1, 0, 3], [1, 1, 0]], dtype=np.int16)
    sums = replicate_sums(np.array([[1], [10], [2]]), np.array([0, 1, 0]), weights)
    np.testing.assert_array_equal(sums, [[13], [6], [30]])


def test_counts_beyond_float32_stay_exact() -> None:
    # one patient of 50 images, drawn 30,000 times each: sums pass 2**24 only in float64
    positive = np.arange(1200) % 3 == 0
    score = (np.arange(1200) * 7 % 400).astype(float)
    patients = np.arange(1200) % 2
    weights = np.array([[30_000, 30_000], [30_000, 29_999]], dtype=np.int16)
    fast = replicate_scores([Problem(positive, score, patients)], weights)
    for replicate in (0, 1):
        expected = roc_auc_score(positive, score, sample_weight=weights[patients, replicate])
        assert fast.auroc[replicate, 0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", [auroc_per_label, average_precision_per_label])
def test_fast_path_equals_explicit_resampling(metric, table: pd.DataFrame) -> None:
    data = arrays(table)
    options = {"replicates": 60, "level": 0.9}
    fast = bootstrap_interval(metric, *data, **options, generator=rng())
    slow = bootstrap_interval(lambda t, s: metric(t, s), *data, **options, generator=rng())
    for name in ("estimate", "low", "high"):
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(fast.undefined, slow.undefined)


@pytest.mark.parametrize("metric", [auroc_per_label, average_precision_per_label])
def test_averages_equal_explicit_resampling(metric, table: pd.DataFrame) -> None:
    data = arrays(table)
    options = {"replicates": 40, "level": 0.95}
    found = bootstrap_discrimination(*data, **options, generator=rng())
    name = "auroc" if metric is auroc_per_label else "average_precision"
    for key, function in (
        (f"{name}_macro", lambda t, s: macro(metric(t, s)).value),
        (f"{name}_micro", lambda t, s: micro(metric, t, s)),
        (f"{name}_weighted", lambda t, s: weighted(metric(t, s), (t == 1).sum(axis=0))),
    ):
        slow = bootstrap_interval(function, *data, **options, generator=rng())
        for part in ("estimate", "low", "high"):
            assert getattr(found[key], part) == pytest.approx(getattr(slow, part), abs=1e-12)


def test_undefined_replicates_are_counted(table: pd.DataFrame) -> None:
    y_true, y_score, patients = arrays(table)
    y_true = y_true.copy()
    y_true[:, 1] = np.where(np.isnan(y_true[:, 1]), np.nan, 0)
    y_true[5, 1] = 1  # the only positive: absent from about 37 % of the replicates
    found = bootstrap_discrimination(
        y_true, y_score, patients, replicates=400, level=0.95, generator=rng()
    )["auroc"]
    assert found.undefined[0] == 0
    assert 0.30 < found.undefined[1] / 400 < 0.44
    assert np.isfinite([found.low[1], found.high[1]]).all()
    assert found.undefined[3] == 400
    assert np.isnan([found.estimate[3], found.low[3], found.high[3]]).all()


def test_any_metric_of_any_shape(table: pd.DataFrame) -> None:
    def f1(y_true, y_score):
        return rates(confusion_counts(y_true, y_score, 0.3))["f1"]

    interval = bootstrap_interval(f1, *arrays(table), replicates=50, level=0.95, generator=rng())
    assert interval.low.shape == (5,)
    assert (interval.low[:3] < interval.estimate[:3]).all()
    assert (interval.estimate[:3] < interval.high[:3]).all()


def test_patients_matter(make_table) -> None:
    # every image four times under one patient: intervals must stay as wide as without copies
    y_true, y_score, patients = arrays(make_table(1, 200))
    copies = [np.repeat(part, 4, axis=0) for part in (y_true, y_score, patients)]
    options = {"replicates": 200, "level": 0.95}
    once = bootstrap_interval(
        auroc_per_label, y_true, y_score, patients, **options, generator=rng()
    )
    fourfold = bootstrap_interval(auroc_per_label, *copies, **options, generator=rng())
    np.testing.assert_allclose(fourfold.low, once.low, atol=1e-12)
    as_images = bootstrap_interval(
        auroc_per_label, *copies[:2], np.arange(800), **options, generator=rng()
    )
    assert as_images.high[0] - as_images.low[0] < 0.7 * (once.high[0] - once.low[0])


def test_percentiles_by_hand() -> None:
    values = np.column_stack(
        [np.arange(101.0), np.full(101, np.nan), np.append(np.nan, [3.0] * 100)]
    )
    found = percentile_interval([50.0, np.nan, 3.0], values, level=0.9)
    np.testing.assert_allclose(found.low, [5, np.nan, 3])
    np.testing.assert_allclose(found.high, [95, np.nan, 3])
    np.testing.assert_array_equal(found.undefined, [0, 101, 1])


def test_no_replicates_is_no_interval(table: pd.DataFrame) -> None:
    found = bootstrap_discrimination(*arrays(table), replicates=0, level=0.95, generator=rng())
    assert np.isfinite(found["auroc_macro"].estimate)
    assert np.isnan(found["auroc_macro"].low)
    assert np.isnan(found["auroc"].high).all()


def test_wrong_arguments(table: pd.DataFrame) -> None:
    y_true, y_score, patients = arrays(table)
    options = {"replicates": 2, "generator": rng()}
    with pytest.raises(ValueError, match=r"patients must have shape \(300,\), given \(3,\)"):
        bootstrap_discrimination(y_true, y_score, patients[:3], level=0.95, **options)
    with pytest.raises(ValueError, match="level must lie between 0 and 1, given 95"):
        bootstrap_discrimination(y_true, y_score, patients, level=95, **options)
    with pytest.raises(ValueError, match="no fast bootstrap for f1"):
        bootstrap_discrimination(
            y_true, y_score, patients, level=0.95, metrics=("auroc", "f1"), **options
        )
