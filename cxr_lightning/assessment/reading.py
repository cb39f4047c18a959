"""How predictions are read: by which thresholds and calibration, and where they were fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from cxr_lightning.bundle import BundleInfo
from cxr_lightning.config.schema import EvaluationConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.evaluation.calibrator_fits import fit_calibration
from cxr_lightning.evaluation.calibrators import Calibration
from cxr_lightning.evaluation.predictions import arrays, logits_of
from cxr_lightning.evaluation.thresholds import FALLBACK, Thresholds, fit_thresholds

__all__ = ["Reading", "fit_reading", "no_reading", "reading_of", "refit_reading"]

_RULE = ("threshold", "threshold_target", "false_negative_cost")


@dataclass(frozen=True)
class Reading:
    """Thresholds and calibration of some labels; `told` says to a reader where they come from."""

    thresholds: Thresholds
    calibration: Calibration
    told: str

    def select(self, labels: Sequence[str], data: str) -> Reading:
        """Return the part of these labels, of the data set `data`.

        Raises
        ------
        ConfigError
            The images that it was fitted on do not tell some of them.
        """
        if missing := [name for name in labels if name not in self.thresholds.labels]:
            raise ConfigError(
                f"data={data} tells {', '.join(missing)}, for which no threshold can be fitted on "
                f"the validation part of the first data set: name data={data} first"
            )
        return Reading(self.thresholds.select(labels), self.calibration.select(labels), self.told)


def reading_of(info: BundleInfo, labels: Sequence[str]) -> Reading:
    """Return what training fitted and the bundle holds."""
    calibration = Calibration.from_dict(info.calibration, info.labels)
    return Reading(
        info.thresholds.select(labels),
        calibration.select(labels),
        "Thresholds and calibration are the bundle's: fitted on the validation patients of its "
        "training.",
    )


def no_reading(labels: Sequence[str]) -> Reading:
    """Return 0.5 for every label, marked as not fitted, and no calibration."""
    count = len(labels)
    return Reading(
        Thresholds(tuple(labels), (FALLBACK,) * count, (False,) * count, "f1"),
        Calibration.none(tuple(labels)),
        "No validation predictions were given: every threshold is 0.5, and probabilities are not "
        "calibrated.",
    )


def fit_reading(
    validation: pd.DataFrame, labels: Sequence[str], rule: EvaluationConfig, told: str
) -> Reading:
    """Fit both on the predictions of validation."""
    y_true, y_score, _ = arrays(validation, labels)
    thresholds = fit_thresholds(
        y_true,
        y_score,
        labels,
        rule=rule.threshold,
        target=rule.threshold_target,
        false_negative_cost=rule.false_negative_cost,
    )
    logits = logits_of(validation, labels)
    return Reading(thresholds, fit_calibration(y_true, logits, labels, kind=rule.calibration), told)


def refit_reading(
    before: Reading,
    validation: pd.DataFrame,
    labels: Sequence[str],
    rule: EvaluationConfig,
    told: str,
) -> Reading:
    """Fit anew: by the rule and calibration that were asked for, where none was as before."""
    kept: dict[str, object] = {}
    if not rule.model_fields_set & set(_RULE):
        thresholds = before.thresholds
        kept = {
            "threshold": thresholds.rule,
            "threshold_target": thresholds.target,
            "false_negative_cost": thresholds.false_negative_cost,
        }
    if "calibration" not in rule.model_fields_set:
        kept["calibration"] = before.calibration.kind
    return fit_reading(validation, labels, rule.model_copy(update=kept), told)
