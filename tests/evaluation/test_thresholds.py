from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    precision_recall_curve,
    roc_curve,
)

from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.evaluation.decisions import confusion_counts, rates
from cxr_lightning.evaluation.predictions import arrays, labels_of
from cxr_lightning.evaluation.thresholds import FALLBACK, Thresholds, fit_thresholds

RULES = (
    {"rule": "f1"},
    {"rule": "youden"},
    {"rule": "sensitivity", "target": 0.9},
    {"rule": "specificity", "target": 0.9},
    {"rule": "cost", "false_negative_cost": 5.0},
)


def fit(y_true, y_score, **options) -> Thresholds:
    columns = np.column_stack([y_true]), np.column_stack([y_score])
    return fit_thresholds(*columns, ["x"], **options)


def test_f1_by_hand() -> None:
    # F1 at 0.9: 2/3, at 0.6: 1/2, at 0.4: 4/5 (best), at 0.2: 4/6
    thresholds = fit([[1], [0], [1], [0]], [[0.9], [0.6], [0.4], [0.2]])
    assert thresholds.values == (pytest.approx(0.3),)  # half-way between 0.4 and 0.2
    assert thresholds.fitted == (True,)


def test_equally_good_thresholds_take_the_highest() -> None:
    # Youden is 1/2 at 0.9 and at 0.5
    thresholds = fit([[1], [0], [1], [0]], [[0.9], [0.7], [0.5], [0.2]], rule="youden")
    assert thresholds.values == (pytest.approx(0.8),)


def test_targets_by_hand() -> None:
    y_true = [[1], [1], [0], [1], [0], [0]]
    y_score = [[0.9], [0.8], [0.7], [0.6], [0.5], [0.1]]
    # two of three are reached without a false positive
    assert fit(y_true, y_score, rule="sensitivity", target=0.5).values == (pytest.approx(0.75),)
    assert fit(y_true, y_score, rule="sensitivity", target=0.67).values == (pytest.approx(0.55),)
    assert fit(y_true, y_score, rule="specificity", target=1.0).values == (pytest.approx(0.75),)
    assert fit(y_true, y_score, rule="specificity", target=0.6).values == (pytest.approx(0.55),)
    # all negatives above all positives: only calling nothing keeps the specificity
    worst = fit([[0], [1]], [[0.6], [0.2]], rule="specificity", target=1.0)
    assert worst.values == (pytest.approx(0.8),)


def test_cost_by_hand() -> None:
    y_true = [[1], [0], [0], [0], [1], [0]]
    y_score = [[0.9], [0.8], [0.7], [0.6], [0.5], [0.1]]
    # a miss that costs 2 is cheaper than 3 false alarms; one that costs 4 is not
    assert fit(y_true, y_score, rule="cost", false_negative_cost=2).values == (pytest.approx(0.85),)
    assert fit(y_true, y_score, rule="cost", false_negative_cost=4).values == (pytest.approx(0.3),)


def goodness(options, y_true, y_score, threshold) -> tuple[float, ...]:
    counts = confusion_counts(y_true, y_score, threshold)
    tp, fp, fn, tn = (float(part[0]) for part in counts)
    rate = {name: float(value[0]) for name, value in rates(counts).items()}
    match options["rule"]:
        case "f1":
            return (rate["f1"],)
        case "youden":
            return (tp * (fp + tn) - fp * (tp + fn),)
        case "sensitivity":
            return (rate["sensitivity"] >= options["target"], tn, tp)
        case "specificity":
            return (rate["specificity"] >= options["target"], tp, tn)
        case _:
            return (-(fp + options["false_negative_cost"] * fn),)


@pytest.mark.parametrize("options", RULES, ids=lambda options: options["rule"])
@given(
    y_true=hnp.arrays(np.float64, (12, 1), elements=st.sampled_from([0.0, 1.0])),
    logits=hnp.arrays(np.float32, (12, 1), elements=st.floats(-30, 30, width=32)),
)
@settings(max_examples=60)
def test_no_threshold_is_better_than_the_fitted(options, y_true, logits) -> None:
    y_score = expit(logits.astype(np.float64))
    thresholds = fit_thresholds(y_true, y_score, ["x"], **options)
    if not thresholds.fitted[0]:
        assert thresholds.values == (FALLBACK,)
        assert len(np.unique(y_true)) == 1
        return
    best = goodness(options, y_true, y_score, thresholds.array)
    for candidate in (*np.unique(y_score), 2.0):
        assert goodness(options, y_true, y_score, candidate) <= best


@pytest.mark.parametrize("seed", range(3))
def test_the_best_of_scikit_learns_curves_is_reached(seed: int) -> None:
    generator = np.random.default_rng(seed)
    y_true = (generator.random(200) < 0.3).astype(float)
    y_score = np.round(expit(generator.normal(y_true, 1.5)), 2)
    precision, recall, _ = precision_recall_curve(y_true, y_score)
    best_f1 = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    by_f1 = fit(y_true[:, None], y_score[:, None]).values[0]
    assert f1_score(y_true, y_score >= by_f1) == pytest.approx(best_f1, abs=1e-12)
    fpr, tpr, _ = roc_curve(y_true, y_score)
    by_youden = fit(y_true[:, None], y_score[:, None], rule="youden").values[0]
    found = balanced_accuracy_score(y_true, y_score >= by_youden)
    assert 2 * found - 1 == pytest.approx(np.max(tpr - fpr), abs=1e-12)


@pytest.mark.parametrize("options", RULES, ids=lambda options: options["rule"])
def test_counts_survive_json_and_float32(options, table: pd.DataFrame) -> None:
    y_true, y_score, _ = arrays(table)
    thresholds = fit_thresholds(y_true, y_score, labels_of(table), **options)
    again = Thresholds.from_dict(json.loads(json.dumps(thresholds.to_dict())))
    assert again == thresholds
    counts = confusion_counts(y_true, y_score, thresholds.array)
    # another runtime: sigmoid and comparison in float32
    single = 1 / (1 + np.exp(-table[[f"logit/{x}" for x in labels_of(table)]].to_numpy()))
    assert single.dtype == np.float32
    for left, right in zip(
        counts, confusion_counts(y_true, single, again.array.astype(np.float32)), strict=True
    ):
        np.testing.assert_array_equal(left, right)


def test_neighbouring_floats_are_still_separated() -> None:
    low = 0.3
    high = np.nextafter(low, 1)
    thresholds = fit([[0], [1]], [[low], [high]])
    assert thresholds.values == (high,)
    # certain scores: a threshold above 1 is the only one that calls nothing
    assert fit([[0], [1]], [[1.0], [0.2]], rule="specificity", target=1.0).values[0] > 1


def test_one_class_falls_back_and_says_so() -> None:
    y_true = np.array([[1, 0, np.nan, 1], [1, 0, np.nan, 0]], dtype=float)
    thresholds = fit_thresholds(y_true, np.full((2, 4), [[0.9], [0.1]]), list("abcd"))
    assert thresholds.fitted == (False, False, False, True)
    assert thresholds.values[:3] == (FALLBACK,) * 3


def test_select() -> None:
    thresholds = Thresholds(("a", "b"), (0.1, 0.2), (True, False), "f1")
    assert thresholds.select(["b"]) == Thresholds(("b",), (0.2,), (False,), "f1")
    with pytest.raises(DataError) as error:
        thresholds.select(["b", "c"])
    assert str(error.value) == "No threshold was fitted for c; there are thresholds for a, b."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"rule": "yuden"},
            "Threshold rule 'yuden' is not known; allowed: f1, youden, sensitivity, specificity, "
            "cost. Did you mean 'youden'?",
        ),
        (
            {"rule": "sensitivity"},
            "Threshold rule 'sensitivity' needs a target above 0 and at most 1, given None.",
        ),
        (
            {"rule": "specificity", "target": 95},
            "Threshold rule 'specificity' needs a target above 0 and at most 1, given 95.",
        ),
        (
            {"rule": "cost"},
            "Threshold rule 'cost' needs false_negative_cost, a positive number (a missed finding "
            "in units of a false alarm), given None.",
        ),
    ],
)
def test_wrong_rules(options, message) -> None:
    with pytest.raises(ConfigError) as error:
        fit([[1]], [[0.5]], **options)
    assert str(error.value) == message


def test_logits_are_refused() -> None:
    with pytest.raises(ValueError, match="apply the sigmoid to logits"):
        fit([[1], [0]], [[2.5], [0.1]])


@pytest.mark.parametrize("rule", ["f1", "youden"])
def test_unknown_entries_of_a_label_take_no_part(rule: str) -> None:
    generator = np.random.default_rng(2)
    y_true = (generator.random((300, 1)) < 0.4).astype(float)
    y_score = np.clip(0.3 * y_true + generator.random((300, 1)) * 0.7, 0, 1)
    partly = y_true.copy()
    partly[generator.random(300) < 0.5] = np.nan
    known = ~np.isnan(partly[:, 0])
    chosen = fit_thresholds(partly, y_score, ["a"], rule=rule)
    expected = fit_thresholds(y_true[known], y_score[known], ["a"], rule=rule)
    assert chosen.values == expected.values
    assert chosen.values != fit_thresholds(np.nan_to_num(partly), y_score, ["a"], rule=rule).values
