from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.evaluation.calibration import brier_per_label
from cxr_lightning.evaluation.calibrator_fits import fit_calibration
from cxr_lightning.evaluation.calibrators import (
    Calibration,
    Identity,
    Isotonic,
    Platt,
    calibrate_predictions,
)
from cxr_lightning.evaluation.discrimination import auroc_per_label
from cxr_lightning.evaluation.predictions import arrays, labels_of, logits_of

KINDS = ("none", "temperature", "platt", "isotonic")


def fit(y_true, logits, kind) -> Calibration:
    return fit_calibration(np.column_stack([y_true]), np.column_stack([logits]), ["x"], kind=kind)


def problem(seed: int, images: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are twice too large and shifted, rounded so that some tie."""
    rng = np.random.default_rng(seed)
    right = rng.normal(-1.5, 1.5, images)
    return (rng.random(images) < expit(right)).astype(float), (2 * right + 1).round(1)


def targets(y_true: np.ndarray) -> np.ndarray:
    positives, negatives = y_true.sum(), (1 - y_true).sum()
    return np.where(y_true == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


# ---- by hand -------------------------------------------------------------------------------------


def test_platt_by_hand() -> None:
    # two logits: the line goes through the mean target at each. Three positives: 4/5 each, three
    # negatives: 1/5 each; at -1 one of three is positive, mean 2/5; at +1 two, mean 3/5
    one = fit([1, 0, 0, 1, 1, 0], [-1.0, -1, -1, 1, 1, 1], "platt").maps[0]
    assert isinstance(one, Platt)
    assert one.slope == pytest.approx(logit(3 / 5), abs=1e-12)
    assert one.intercept == pytest.approx(0, abs=1e-12)
    # shifted logits: the intercept takes the shift back
    shifted = fit([1, 0, 0, 1, 1, 0], [9.0, 9, 9, 11, 11, 11], "platt").maps[0]
    assert vars(shifted) == pytest.approx({"slope": logit(3 / 5), "intercept": -10 * logit(3 / 5)})


def test_temperature_by_hand() -> None:
    # logits of one size: the scaled probability is the mean target on the side of the logit,
    # 2/5 at -2 and 3/5 at 2
    one = fit([1, 0, 0, 1, 1, 0], [-2.0, -2, -2, 2, 2, 2], "temperature").maps[0]
    assert vars(one) == pytest.approx({"temperature": 2 / logit(3 / 5)}, abs=1e-12)


def test_isotonic_by_hand() -> None:
    # 0, (1, 0 -> pooled to 1/2), 1: level from 1 to 2, and straight lines between
    calibration = fit([0, 1, 0, 1], [0.0, 1, 2, 4], "isotonic")
    assert calibration.maps == (Isotonic((0.0, 1.0, 2.0, 4.0), (0.0, 0.5, 0.5, 1.0)),)
    found = calibration.apply([[-5], [0.5], [1.7], [3], [9]])[:, 0]
    np.testing.assert_allclose(found, [0, 0.25, 0.5, 0.75, 1])
    # tied logits are one point of their mean
    assert fit([0, 1, 1, 1], [0.0, 0, 1, 1], "isotonic").maps == (Isotonic((0.0, 1.0), (0.5, 1.0)),)


# ---- against scikit-learn and SciPy --------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_platt_equals_unpenalised_logistic_regression(seed: int) -> None:
    y_true, logits = problem(seed)
    target = targets(y_true)
    # every image once as a positive and once as a negative, weighted by its target
    reference = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky").fit(
        np.tile(logits, 2)[:, None],
        np.repeat([1, 0], len(logits)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    one = fit(y_true, logits, "platt").maps[0]
    assert isinstance(one, Platt)
    assert one.slope == pytest.approx(reference.coef_[0, 0], abs=1e-7)
    assert one.intercept == pytest.approx(reference.intercept_[0], abs=1e-7)
    # scaled by two, shifted by one: about the inverse of what spoiled the logits
    assert one.slope == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("seed", range(4))
def test_temperature_equals_a_search_of_the_loss(seed: int) -> None:
    y_true, logits = problem(seed)
    target = targets(y_true)

    def loss(log_temperature: float) -> float:
        z = logits / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, z) - target * z))

    expected = np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x)
    one = fit(y_true, logits, "temperature").maps[0]
    assert vars(one) == pytest.approx({"temperature": expected}, rel=1e-4)


@given(
    y_true=hnp.arrays(np.float64, 25, elements=st.sampled_from([0.0, 1.0])),
    logits=hnp.arrays(np.float64, 25, elements=st.integers(-8, 8).map(lambda x: x / 2)),
)
@settings(max_examples=60)
def test_isotonic_equals_scikit_learn(y_true, logits) -> None:
    calibration = fit(y_true, logits, "isotonic")
    if not calibration.fitted[0]:
        assert np.ptp(y_true) == 0 or np.ptp(logits) == 0
        return
    reference = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(logits, y_true)
    places = np.linspace(-6, 6, 101)
    np.testing.assert_allclose(
        calibration.apply(places[:, None])[:, 0], reference.predict(places), atol=1e-12
    )


# ---- what holds for every kind -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@given(
    y_true=hnp.arrays(np.float64, 30, elements=st.sampled_from([0.0, 1.0, np.nan])),
    logits=hnp.arrays(np.float64, 30, elements=st.floats(-30, 30, width=32)),
)
@settings(max_examples=40)
def test_invariants(kind, y_true, logits) -> None:
    calibration = fit(y_true, logits, kind)
    at = np.sort(logits)[:, None]
    found = calibration.apply(at)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found[:, 0]) >= -1e-15).all()  # no order is reversed
    assert np.isfinite(calibration.apply_logits(at)).all()
    np.testing.assert_allclose(expit(calibration.apply_logits(at)), found, atol=1.1e-6)
    # unknown entries are never looked at
    known = ~np.isnan(y_true)
    assert fit(y_true[known], logits[known], kind) == calibration
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


@pytest.mark.parametrize("kind", ["temperature", "platt", "isotonic"])
def test_probabilities_get_better_on_new_patients(kind: str) -> None:
    calibration = fit(*problem(1, 3000), kind)
    y_true, logits = (part[:, None] for part in problem(2, 3000))
    before, after = (
        brier_per_label(y_true, score)[0] for score in (expit(logits), calibration.apply(logits))
    )
    assert after < before - 0.001


def test_platt_keeps_the_mean() -> None:
    y_true, logits = problem(3)
    found = fit(y_true, logits, "platt").apply(logits[:, None])
    assert found.mean() == pytest.approx(targets(y_true).mean(), abs=1e-10)


@pytest.mark.parametrize("kind", ["temperature", "platt"])
def test_classes_apart_stay_finite_and_reversed_ones_keep_their_order(kind: str) -> None:
    y_true, logits = np.array([0.0, 0, 1, 1]), np.array([-3.0, -2, 2, 3])
    for truth in (y_true, 1 - y_true):
        found = fit(truth, logits, kind).apply(logits[:, None])[:, 0]
        assert (np.diff(found) > 0).all()
        assert ((found > 0) & (found < 1)).all()
    reversed_ = vars(fit(1 - y_true, logits, kind).maps[0])
    if kind == "temperature":
        assert reversed_ == {"temperature": 100.0}
    else:
        assert reversed_ == pytest.approx({"slope": 0.01, "intercept": 0.0}, abs=1e-12)


@pytest.mark.parametrize("kind", ["temperature", "platt", "isotonic"])
def test_one_class_or_one_logit_is_not_fitted(kind: str) -> None:
    y_true = [[1, 0, np.nan, 1, 1], [1, 0, np.nan, 0, 0], [np.nan, 0, np.nan, 1, 0]]
    logits = [[2, 2, 2, 0.5, 2.0], [1, 1, 1, 0.5, 1.0], [0, 0, 0, 0.5, 0.0]]
    calibration = fit_calibration(y_true, logits, list("abcde"), kind=kind)
    assert calibration.fitted == (False, False, False, False, True)
    assert calibration.maps[:4] == (Identity(),) * 4
    np.testing.assert_array_equal(calibration.apply(logits)[:, :4], expit(logits)[:, :4])
    stored = calibration.to_dict()
    assert stored["labels"]["a"] == {"fitted": False}
    assert Calibration.from_dict(stored) == calibration


def test_none_is_the_sigmoid() -> None:
    y_true, logits = (part[:, None] for part in problem(0))
    calibration = fit_calibration(y_true, logits, ["x"], kind="none")
    assert calibration == Calibration.none(["x"])
    np.testing.assert_array_equal(calibration.apply(logits), expit(logits))


# ---- tables and files ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_calibrated_table_holds_the_calibrated_probabilities(
    kind: str, table: pd.DataFrame, make_table
) -> None:
    validation = make_table(9)
    labels = labels_of(validation)
    y_true, _, _ = arrays(validation)
    calibration = fit_calibration(y_true, logits_of(validation), labels, kind=kind)
    # labels follow their names
    shuffled = calibration.select([*reversed(labels)])
    found = calibrate_predictions(table, shuffled)
    probability = arrays(found).y_score
    np.testing.assert_allclose(probability, calibration.apply(logits_of(table)), atol=2e-6)
    unchanged = [name for name in table if not str(name).startswith("logit/")]
    pd.testing.assert_frame_equal(found[unchanged], table[unchanged])
    if kind in ("temperature", "platt"):
        np.testing.assert_allclose(
            auroc_per_label(y_true, arrays(calibrate_predictions(validation, shuffled)).y_score),
            auroc_per_label(y_true, arrays(validation).y_score),
            atol=1e-12,
        )


def test_stored_form() -> None:
    calibration = Calibration(
        ("a", "b"), "platt", (Platt(0.5, -1.0), Identity()), fitted=(True, False)
    )
    assert calibration.to_dict() == {
        "kind": "platt",
        "labels": {
            "a": {"fitted": True, "slope": 0.5, "intercept": -1.0},
            "b": {"fitted": False},
        },
    }
    assert Calibration.from_dict(calibration.to_dict(), ["b"]).maps == (Identity(),)
    # a bundle without calibration
    assert Calibration.from_dict({}, ["a"]) == Calibration.none(["a"])
    isotonic = Calibration(("a",), "isotonic", (Isotonic((0.0, 1.0), (0.1, 0.9)),), (True,))
    assert isotonic.to_dict()["labels"]["a"] == {
        "fitted": True,
        "logits": [0.0, 1.0],
        "probabilities": [0.1, 0.9],
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"kind": "beta"},
            "A stored calibration is of kind 'beta'; allowed: none, temperature, platt, isotonic.",
        ),
        ({}, "A stored calibration is of kind None;"),
        (
            {"kind": "temperature", "labels": {"x": {"fitted": True, "temperature": -1}}},
            "A stored calibration is damaged: temperature -1.0 is not positive.",
        ),
        (
            {"kind": "platt", "labels": {"x": {"fitted": True, "slope": 1}}},
            "A stored calibration is damaged: x: ",
        ),
        (
            {
                "kind": "isotonic",
                "labels": {"x": {"fitted": True, "logits": [0, 1], "probabilities": [1, 0]}},
            },
            "A stored calibration is damaged: points of an isotonic curve do not rise.",
        ),
    ],
)
def test_damaged_files(data, message) -> None:
    with pytest.raises(DataError) as error:
        Calibration.from_dict(data)
    assert str(error.value).startswith(message)


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError) as error:
        fit([1, 0], [1.0, 0], "plat")
    assert str(error.value) == (
        "Calibration 'plat' is not known; allowed: none, temperature, platt, isotonic. "
        "Did you mean 'platt'?"
    )
    with pytest.raises(DataError, match="No calibration was fitted for c; there is one for a, b"):
        Calibration.none(["a", "b"]).select(["a", "c"])
    with pytest.raises(ValueError, match="logits must be finite"):
        fit([1, 0], [1.0, -np.inf], "platt")
    with pytest.raises(ValueError, match=r"logits must have shape \(n, 1\), given \(2, 2\)"):
        Calibration.none(["a"]).apply(np.zeros((2, 2)))
