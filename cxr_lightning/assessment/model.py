"""A model as it is evaluated: its predictions, and how they are to be read."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from cxr_lightning.assessment.models import Target
from cxr_lightning.bundle import Bundle
from cxr_lightning.evaluation.calibrators import Calibration
from cxr_lightning.evaluation.thresholds import Thresholds

__all__ = ["Model"]


@dataclass(frozen=True)
class Model:
    """A model's predictions on the test images, and how they are to be read."""

    name: str
    table: pd.DataFrame
    thresholds: Thresholds
    calibration: Calibration
    validation: pd.DataFrame | None = None
    bundle: Bundle | None = None
    target: Target | None = None
