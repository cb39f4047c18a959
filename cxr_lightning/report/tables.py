"""The smaller tables of the report as text, and what is said below them."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
import pandas as pd

from cxr_lightning.evaluation.plots.forest import COLUMN_NAMES
from cxr_lightning.evaluation.subgroups import Subgroups
from cxr_lightning.evaluation.tables import format_table, metric_label
from cxr_lightning.report.assess import Assessment

__all__ = [
    "AT_THRESHOLD",
    "calibration_table",
    "column_name",
    "comparison_table",
    "gap_words",
    "point_table",
    "subgroup_table",
    "threshold_table",
]

AT_THRESHOLD = ("threshold", "F1", "precision", "sensitivity", "specificity", "accuracy")
"""Columns of `format_table` that depend on the thresholds."""


def _text(value: Any, spec: str = ".3f") -> str:
    return "–" if value is None or np.isnan(value) else format(value, spec)


def point_table(points: pd.DataFrame) -> pd.DataFrame:
    """Return sensitivity at a specificity and the like, see `operating_points`."""
    names = {
        "sensitivity_at_specificity": "sensitivity at 90% specificity",
        "specificity_at_sensitivity": "specificity at 90% sensitivity",
        "partial_auroc": "partial AUROC, false positives to 10%",
    }
    return points.rename(columns=names).map(_text)


def calibration_table(one: Assessment) -> pd.DataFrame:
    """Return Brier score and calibration error of each label, before and after calibration."""
    prefix = next(iter(one.metrics)).split("/")[0]
    rows = {}
    for label in (*one.calibration.labels, "macro"):
        end = "_macro" if label == "macro" else f"/{metric_label(label)}"
        rows[label] = {
            title: _text(one.metrics.get(f"{prefix}/{name}{end}"))
            for title, name in (
                ("Brier, uncalibrated", "brier_uncalibrated"),
                ("Brier", "brier"),
                ("calibration error, uncalibrated", "ece_uncalibrated"),
                ("calibration error", "ece"),
            )
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def column_name(column: str) -> str:
    """Return the heading of a column whose subgroups are compared."""
    return COLUMN_NAMES.get(column, column)


def subgroup_table(found: Subgroups) -> pd.DataFrame:
    """Return the macro mean of each metric per group."""
    groups = found.groups[found.groups["label"] == "macro"]
    rows: dict[str, dict[str, str]] = {}
    for row in groups.to_dict("records"):
        cells = rows.setdefault(str(row["group"]), {"patients": f"{row['patients']:,.0f}"})
        value = _text(row["value"])
        if not np.isnan(row["low"]):
            value += f" ({row['low']:.3f}–{row['high']:.3f})"
        title = str(row["metric"]).replace("auroc", "AUROC").replace("_", " ")
        cells[title] = "too few images" if row["reason"] else value
    return pd.DataFrame.from_dict(rows, orient="index")


def gap_words(found: Subgroups) -> str:
    """Say how large the largest gap is, over how many labels, and whether it may be chance."""
    gaps = found.gaps[(found.gaps["label"] == "macro") & (found.gaps["metric"] == "auroc")]
    if gaps.empty or np.isnan(gaps["gap"].iloc[0]):
        return "The groups cannot be compared: too few images of each class in them."
    gap = gaps.iloc[0]
    count = int(found.groups.loc[found.groups["label"] == "macro", "labels"].iloc[0])
    words = (
        f"Largest gap in macro AUROC (over {count} label{'' if count == 1 else 's'}): "
        f"{gap['gap']:.3f}, {gap['highest']} above {gap['lowest']}; "
        f"{found.level:.0%} interval of this difference {gap['difference_low']:.3f} to "
        f"{gap['difference_high']:.3f}"
    )
    if np.isnan(gap["difference_low"]):
        return words.split(";")[0] + "."
    chance = gap["difference_low"] <= 0 <= gap["difference_high"]
    words += ", which chance alone could give" if chance else ""
    pairs = comb(int(gap["groups"]), 2)
    return words + (f"; the largest of {pairs} pairs: optimistic." if pairs > 1 else ".")


def threshold_table(one: Assessment) -> pd.DataFrame:
    """Return what depends on the thresholds: a row per label and average."""
    text = format_table(one.results)[[*AT_THRESHOLD]]
    further = {"balanced accuracy": "balanced_accuracy", "MCC": "mcc"}
    return text.assign(**{name: [*map(_text, one.results[key])] for name, key in further.items()})


def comparison_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return both AUROCs of each label, their difference and its p-values."""
    rows = {}
    for label, row in table.iterrows():
        low, high = row["auroc_difference_low"], row["auroc_difference_high"]
        rows[str(label)] = {
            "AUROC, first": _text(row["auroc_first"]),
            "second": _text(row["auroc_second"]),
            "difference": _text(row["auroc_difference"], "+.3f")
            + ("" if np.isnan(low) else f" ({low:+.3f} to {high:+.3f})"),
            "p": _p(row["auroc_difference_p_value"]),
            "p, Holm": _p(row["auroc_difference_p_holm"]),
            "p, DeLong": _p(row["delong_p_value"]),
            "p, DeLong and Holm": _p(row["delong_p_holm"]),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else _text(value)
