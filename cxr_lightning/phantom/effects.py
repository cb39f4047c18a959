"""What a finding does to the picture: the one language that all findings speak."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cxr_lightning.phantom.anatomy import Thorax, hilum, lung_outline
from cxr_lightning.phantom.canvas import Canvas, Field
from cxr_lightning.phantom.cases import Case, Finding, Side
from cxr_lightning.phantom.streams import stream

__all__ = ["Chest", "Effect", "finding_stream"]


@dataclass(frozen=True)
class Chest:
    """One thorax before the detector: what findings need to know to draw themselves."""

    case: Case
    thorax: Thorax
    canvas: Canvas

    @cached_property
    def lungs(self) -> dict[Side, Field]:
        """Mask of each lung, 0 to 1."""
        sides: tuple[Side, Side] = ("R", "L")
        return {side: self.canvas.fill([lung_outline(self.thorax, side)]) for side in sides}

    @cached_property
    def both_lungs(self) -> Field:
        """Mask of both lungs, 0 to 1."""
        return np.maximum(self.lungs["R"], self.lungs["L"])

    def hilum(self, side: Side) -> tuple[float, float]:
        """Middle of the hilum in millimetres."""
        return hilum(self.thorax, side)


@dataclass(frozen=True)
class Effect:
    """The change that one finding makes; every field is (size, size) or None for no change.

    Attributes
    ----------
    fill
        Share of the lung's air that fluid or tissue replaces, 0 to 1; negative is more air than
        normal (to -0.5). Filled lung looks like the heart beside it, whose border then disappears:
        the silhouette sign needs no drawing.
    attenuation
        Added to (or taken from) the attenuation of the whole ray.
    markings
        Factor on the vessels, 1 for unchanged.
    box
        What a reader would frame, or None where NIH has no boxes.
    """

    fill: Field | None = None
    attenuation: Field | None = None
    markings: Field | None = None
    box: NDArray[np.bool_] | None = None


def finding_stream(case: Case, finding: Finding) -> np.random.Generator:
    """Return the generator of a lesion's place and shape, the same at every visit."""
    purpose = "Lesion" if finding.diameter else finding.name
    return stream(case.seed, case.patient, None, f"shape of {purpose}", finding.key)
