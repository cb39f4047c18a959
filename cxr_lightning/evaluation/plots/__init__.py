"""Figures of a run and of its predictions: matplotlib figures as values, no global state."""

from cxr_lightning.evaluation.plots.history import training_curves
from cxr_lightning.evaluation.plots.per_label import (
    confusion_matrices,
    precision_recall_curves,
    reliability_diagrams,
    roc_curves,
)
from cxr_lightning.evaluation.plots.style import display_name, save_figure

__all__ = [
    "confusion_matrices",
    "display_name",
    "precision_recall_curves",
    "reliability_diagrams",
    "roc_curves",
    "save_figure",
    "training_curves",
]
