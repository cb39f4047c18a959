"""Calibration as flat metrics: by hand, before and after."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit

from cxr_lightning.evaluation.calibration_metrics import calibration_metrics
from cxr_lightning.evaluation.calibrator_fits import fit_calibration
from cxr_lightning.evaluation.calibrators import Calibration
from cxr_lightning.evaluation.predictions import arrays, logits_of, make_predictions

LABELS = ("Lung Lesion", "Mass")


def predictions(y_true: object, y_prob: object):  # type: ignore[no-untyped-def]
    n = len(y_true)  # type: ignore[arg-type]
    ids = [str(i) for i in range(n)]
    return make_predictions(
        sample_id=ids, patient_id=ids, study_id=ids, split="test", labels=LABELS,
        y_true=np.asarray(y_true), logits=logit(np.asarray(y_prob)),
    )  # fmt: skip


def test_by_hand() -> None:
    table = predictions([[1, np.nan], [0, np.nan]], [[0.8, 0.5], [0.4, 0.5]])
    flat = calibration_metrics(table, Calibration.none(LABELS))
    assert flat["test/brier/Lung Lesion"] == pytest.approx((0.2**2 + 0.4**2) / 2)
    # two bins of one image each: |0.8 - 1| and |0.4 - 0|
    assert flat["test/ece/Lung Lesion"] == pytest.approx(0.3)
    assert flat["test/brier_macro"] == flat["test/brier/Lung Lesion"]
    assert flat["test/brier/Mass"] is None
    assert flat["test/ece_uncalibrated_macro"] == flat["test/ece_macro"]


def test_calibration_helps_where_the_logits_are_shifted() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random((4000, 2))
    y_true = (generator.random((4000, 2)) < truth).astype(float)
    shifted = 1 / (1 + np.exp(-(logit(truth.clip(1e-3, 1 - 1e-3)) + 2)))
    table = predictions(y_true, shifted)
    calibration = fit_calibration(arrays(table).y_true, logits_of(table), LABELS, kind="platt")
    flat = calibration_metrics(table, calibration)
    assert flat["test/ece_uncalibrated_macro"] > 0.15  # type: ignore[operator]
    assert flat["test/ece_macro"] < 0.03  # type: ignore[operator]
