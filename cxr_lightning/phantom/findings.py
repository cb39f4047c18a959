"""The 14 findings of NIH ChestX-ray14 by their radiographic signs, each a function of its own.

The signs follow the Fleischner Society's glossary of terms for thoracic imaging (Hansell et al.,
Radiology 246:697-722, 2008).
"""

from __future__ import annotations

from collections.abc import Callable

from cxr_lightning.phantom import opacities, structures
from cxr_lightning.phantom.cases import Finding
from cxr_lightning.phantom.effects import Chest, Effect

__all__ = ["finding_effect"]

_DRAWN_BY: dict[str, Callable[[Chest, Finding], Effect]] = {
    "Atelectasis": opacities.atelectasis,
    "Cardiomegaly": structures.cardiomegaly,
    "Effusion": structures.effusion,
    "Infiltration": opacities.infiltration,
    "Mass": opacities.nodule,
    "Nodule": opacities.nodule,
    "Pneumonia": opacities.pneumonia,
    "Pneumothorax": structures.pneumothorax,
    "Consolidation": opacities.consolidation,
    "Edema": opacities.edema,
    "Emphysema": structures.emphysema,
    "Fibrosis": structures.fibrosis,
    "Pleural_Thickening": structures.pleural_thickening,
    "Hernia": structures.hernia,
    # Not of NIH's labels.
    "Fracture": structures.fracture,
    # Not of NIH's labels: the outline of the heart and the great vessels shows them.
    "Left Atrial Enlargement": structures.outline_only,
    "Right Atrial Enlargement": structures.outline_only,
    "Aortic Dilatation": structures.outline_only,
}


def finding_effect(chest: Chest, finding: Finding) -> Effect:
    """Return what one finding does to the picture of this chest."""
    return _DRAWN_BY[finding.name](chest, finding)
