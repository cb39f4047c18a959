"""Figures of a run and of its predictions: matplotlib figures as values, no global state."""

from cxr_lightning.evaluation.plots.augmentation import augmentation_grid
from cxr_lightning.evaluation.plots.calibration import calibration_curves
from cxr_lightning.evaluation.plots.cooccurrence import cooccurrence_maps
from cxr_lightning.evaluation.plots.decision_curves import net_benefit_curves
from cxr_lightning.evaluation.plots.forest import difference_forest, subgroup_forest
from cxr_lightning.evaluation.plots.history import training_curves
from cxr_lightning.evaluation.plots.models import roc_of_models
from cxr_lightning.evaluation.plots.per_label import (
    confusion_matrices,
    precision_recall_curves,
    reliability_diagrams,
    roc_curves,
)
from cxr_lightning.evaluation.plots.style import display_name, save_figure

__all__ = [
    "augmentation_grid",
    "calibration_curves",
    "confusion_matrices",
    "cooccurrence_maps",
    "difference_forest",
    "display_name",
    "net_benefit_curves",
    "precision_recall_curves",
    "reliability_diagrams",
    "roc_curves",
    "roc_of_models",
    "save_figure",
    "subgroup_forest",
    "training_curves",
]
