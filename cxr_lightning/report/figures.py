"""The figures of one assessment, by the names of their files."""

from __future__ import annotations

from matplotlib.figure import Figure

from cxr_lightning.evaluation.bootstrap import Interval
from cxr_lightning.evaluation.decision_curves import decision_curves
from cxr_lightning.evaluation.plots import (
    calibration_curves,
    confusion_matrices,
    cooccurrence_maps,
    net_benefit_curves,
    precision_recall_curves,
    roc_curves,
    subgroup_forest,
)
from cxr_lightning.evaluation.predictions import arrays, labels_of, logits_of
from cxr_lightning.report.assess import Assessment

__all__ = ["assessment_figures"]


def assessment_figures(one: Assessment) -> dict[str, Figure]:
    """Return ROC, precision-recall, confusion, reliability, decision curves and so on, by name."""
    y_true, y_score, _ = arrays(one.predictions)
    labels = labels_of(one.predictions)
    calibrated = one.calibration.select(labels).apply(logits_of(one.predictions))
    thresholds = one.thresholds.select(labels).array
    figures = {
        "roc": roc_curves(
            y_true, y_score, labels, interval=_interval(one, "auroc"), thresholds=thresholds
        ),
        "precision_recall": precision_recall_curves(
            y_true,
            y_score,
            labels,
            interval=_interval(one, "average_precision"),
            thresholds=thresholds,
        ),
        "confusion": confusion_matrices(y_true, y_score, labels, thresholds=thresholds),
        "reliability": calibration_curves(y_true, y_score, calibrated, labels),
        "net_benefit": net_benefit_curves(decision_curves(y_true, calibrated), labels),
    }
    if len(labels) > 1:
        figures["together"] = cooccurrence_maps(one.together)
    for subgroups in one.subgroups:
        figures[f"subgroups_{subgroups.in_files}"] = subgroup_forest(subgroups, "auroc")
    return figures


def _interval(one: Assessment, metric: str) -> Interval:
    per_label = one.results.loc[list(labels_of(one.predictions))]
    return Interval(
        estimate=per_label[metric].to_numpy(float),
        low=per_label[f"{metric}_low"].to_numpy(float),
        high=per_label[f"{metric}_high"].to_numpy(float),
        undefined=per_label[f"{metric}_undefined"].to_numpy(int),
        replicates=one.evaluation.replicates,
        level=one.evaluation.level,
    )
