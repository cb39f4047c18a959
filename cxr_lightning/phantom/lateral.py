"""The lateral radiograph of a case: the same chest as in the frontal one, from its left side."""

from __future__ import annotations

import numpy as np

from cxr_lightning.phantom.anatomy import Thorax
from cxr_lightning.phantom.canvas import Canvas, Field, smoothstep
from cxr_lightning.phantom.cases import Case
from cxr_lightning.phantom.detector import expose
from cxr_lightning.phantom.devices import markers
from cxr_lightning.phantom.effects import Chest
from cxr_lightning.phantom.lateral_anatomy import (
    LateralChest,
    bones,
    lung_air,
    mediastinum,
    soft_tissue,
    vessels,
)
from cxr_lightning.phantom.lateral_findings import lateral_effect
from cxr_lightning.phantom.render import Rendering
from cxr_lightning.phantom.streams import stream

__all__ = ["render_lateral"]


def render_lateral(case: Case, *, size: int = 256) -> Rendering:
    """Return the lateral radiograph (size, size) of a case; it depends on the case alone.

    NIH's boxes are of frontal pictures, and no devices are drawn in this one.
    """
    canvas = _pose(case, size)
    view = LateralChest(Chest(case, Thorax.of(case), canvas))
    exposed = expose(view.chest, _attenuation(view), "lateral ")
    pixels = markers(view.chest, exposed, lateral=True)
    return Rendering(pixels, (), canvas.fov, devices=False)


def _pose(case: Case, size: int) -> Canvas:
    generator = stream(case.seed, case.patient, case.visit, "lateral detector")
    fov = float(generator.normal(360 if case.sex == "M" else 340, 12))
    centre = (float(generator.normal(0, 7)), float(generator.normal(-6, 7)))
    return Canvas(size, fov, centre, float(generator.normal(0, 1.5)))


def _attenuation(view: LateralChest) -> Field:
    """Return the attenuation along each ray, as :func:`render` does for the frontal picture."""
    canvas, case = view.canvas, view.chest.case
    displaced, middle = mediastinum(view)
    aerated = 1 - displaced
    surplus, markings = np.zeros_like(canvas.x), np.ones_like(canvas.x)
    for finding in case.findings:
        effect = lateral_effect(view, finding)
        if effect.fill is not None:
            aerated *= 1 - np.maximum(effect.fill, 0)
            surplus += np.maximum(-effect.fill, 0)
        if effect.markings is not None:
            markings *= effect.markings
        if effect.attenuation is not None:
            middle += effect.attenuation
    tissue = soft_tissue(view)
    air = lung_air(view) * aerated
    texture = canvas.clouds(stream(case.seed, case.patient, None, "lateral parenchyma"), 16, 3)
    skeleton = bones(view) * (0.45 + 0.55 * view.aerated * aerated) * np.minimum(1, 4 * tissue)
    total = tissue - air * (1 + surplus)
    total += air * markings * (0.28 * vessels(view) + 0.03 * texture)
    total += middle + skeleton + _stomach(view)
    return np.maximum(total, 0)


def _stomach(view: LateralChest) -> Field:
    """Return the (negative) attenuation of the gastric bubble below the left dome."""
    thorax, canvas = view.chest.thorax, view.canvas
    radius = 10 + 22 * thorax.bubble
    place = (-0.1 * view.depth, thorax.dome["L"] + 12 + 0.6 * radius)
    bubble = smoothstep(canvas.ellipse(place, (1.2 * radius, 0.7 * radius)), 1.1, 0.75)
    bubble *= smoothstep(canvas.y, place[1] + 5, place[1] + 3)
    return -0.25 * min(1.0, 5 * thorax.bubble) * bubble
