"""How far probabilities can be taken at their word, as flat names for MLflow."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cxr_lightning.evaluation.calibration import (
    brier_per_label,
    expected_calibration_error_per_label,
)
from cxr_lightning.evaluation.calibrators import Calibration
from cxr_lightning.evaluation.discrimination import macro
from cxr_lightning.evaluation.predictions import arrays, labels_of, logits_of
from cxr_lightning.evaluation.tables import metric_label

__all__ = ["calibration_metrics"]


def calibration_metrics(
    predictions: pd.DataFrame, calibration: Calibration, *, prefix: str = "test"
) -> dict[str, float | None]:
    """Return Brier score and expected calibration error per label and macro, before and after.

    Names are those of :func:`flat_metrics`: ``test/brier/LABEL``, ``test/ece_macro``, and
    ``test/ece_uncalibrated_macro`` for the logits' own sigmoid. Undefined is None.
    """
    labels = labels_of(predictions)
    y_true, raw, _ = arrays(predictions)
    calibrated = calibration.apply(logits_of(predictions))
    flat: dict[str, float | None] = {}
    for name, score in (("_uncalibrated", raw), ("", calibrated)):
        for quantity, values in (
            ("brier", brier_per_label(y_true, score)),
            ("ece", expected_calibration_error_per_label(y_true, score)),
        ):
            flat[f"{prefix}/{quantity}{name}_macro"] = _number(macro(values).value)
            for label, value in zip(labels, values, strict=True):
                flat[f"{prefix}/{quantity}{name}/{metric_label(label)}"] = _number(value)
    return flat


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
