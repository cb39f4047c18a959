"""A model as it is evaluated: its predictions, and how they are to be read."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from cxr_lightning.assessment.models import Target
from cxr_lightning.assessment.reading import Reading
from cxr_lightning.bundle import Bundle

__all__ = ["Model"]


@dataclass(frozen=True)
class Model:
    """A model's predictions on the images that are evaluated and on validation, where needed.

    `notes` are what a reader must know before the numbers.
    """

    name: str
    table: pd.DataFrame
    reading: Reading
    validation: pd.DataFrame | None = None
    bundle: Bundle | None = None
    target: Target | None = None
    notes: tuple[str, ...] = ()
