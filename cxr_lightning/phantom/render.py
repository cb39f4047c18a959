"""From a case to pixels: attenuation along each ray, then what detector and processing make of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_lightning.phantom.anatomy import Thorax
from cxr_lightning.phantom.body import (
    abdomen_gas,
    heart_mask,
    lung_air,
    mediastinum,
    skeleton,
    soft_tissue,
)
from cxr_lightning.phantom.canvas import Canvas, Field, bounding_box
from cxr_lightning.phantom.cases import BOXED, Case, Finding
from cxr_lightning.phantom.detector import expose
from cxr_lightning.phantom.devices import devices, markers
from cxr_lightning.phantom.effects import Chest, Effect
from cxr_lightning.phantom.findings import finding_effect
from cxr_lightning.phantom.streams import stream
from cxr_lightning.phantom.vessels import vessels

__all__ = ["Box", "Rendering", "pose", "render", "render_with_truth"]

_BONE_IN_LUNG = 1.0


@dataclass(frozen=True, slots=True)
class Box:
    """A finding's place in pixels: left, top, width, height."""

    finding: Finding
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Rendering:
    """Pixels (size, size) uint8, the boxes of NIH's eight boxed findings, and the field of view."""

    pixels: NDArray[np.uint8]
    boxes: tuple[Box, ...]
    fov_mm: float


def pose(case: Case, size: int) -> Canvas:
    """Return the canvas of a case: how large the patient appears, where, and how tilted."""
    generator = stream(case.seed, case.patient, case.visit, "detector")
    bedside = case.view == "AP"
    fov = float(generator.normal(366 if case.sex == "M" else 346, 13)) + (22 if bedside else 0)
    spread = 12.0 if bedside else 6.0
    centre = (float(generator.normal(0, spread)), float(generator.normal(-8, spread)))
    tilt = float(generator.normal(0, 3.5 if bedside else 1.2))
    return Canvas(size, fov, centre, tilt)


def render(case: Case, *, size: int = 256) -> NDArray[np.uint8]:
    """Return the radiograph (size, size), 0 black to 255 white; it depends on the case alone."""
    return render_with_truth(case, size=size).pixels


def render_with_truth(case: Case, *, size: int = 256) -> Rendering:
    """Return the radiograph together with the boxes of its findings."""
    canvas = pose(case, size)
    chest = Chest(case, Thorax.of(case), canvas)
    effects = [finding_effect(chest, finding) for finding in case.findings]
    attenuation = _attenuation(chest, effects)
    attenuation += devices(chest)
    pixels = markers(chest, expose(chest, attenuation))
    boxes = tuple(
        _box(finding, effect)
        for finding, effect in zip(case.findings, effects, strict=True)
        if finding.name in BOXED and effect.box is not None and effect.box.any()
    )
    return Rendering(pixels, boxes, canvas.fov)


def _attenuation(chest: Chest, effects: list[Effect]) -> Field:
    case, canvas = chest.case, chest.canvas
    body = stream(case.seed, case.patient, None, "tissue")
    aired = 1.0
    markings: Field | float = 1.0
    added = np.zeros_like(canvas.x)
    silhouette = heart_mask(chest)
    displaced, middle = mediastinum(chest, silhouette)
    extra = np.zeros_like(canvas.x)
    aired = 1 - displaced
    for effect in effects:
        if effect.fill is not None:
            aired = aired * (1 - np.maximum(effect.fill, 0))
            extra += np.maximum(-effect.fill, 0)
        if effect.attenuation is not None:
            added += effect.attenuation
        if effect.markings is not None:
            markings = markings * effect.markings
    air = lung_air(chest)
    tissue = soft_tissue(chest, body)
    tree = stream(case.seed, case.patient, None, "vessels")
    vessel = vessels(chest, tree, case.severity("Edema"))
    texture = canvas.clouds(stream(case.seed, case.patient, None, "parenchyma"), 16, 3)
    inside = air * aired
    total = tissue - inside * (1 + extra)
    total += 0.3 * vessel * markings * inside
    total += 0.03 * texture * markings * inside
    total += middle + added
    total += skeleton(chest, stream(case.seed, case.patient, None, "bones")) * (
        0.3 + 0.7 * chest.both_lungs * aired
    ) * np.minimum(1, 4 * tissue)
    gas = stream(case.seed, case.patient, case.visit, "gas")
    total += abdomen_gas(chest, gas) * (1 - chest.both_lungs)
    return np.maximum(total, 0)


def _box(finding: Finding, effect: Effect) -> Box:
    corners = None if effect.box is None else bounding_box(effect.box)
    if corners is None:
        raise ValueError(f"{finding.name} has no pixels")
    left, top, right, bottom = corners
    return Box(finding, left, top, right - left, bottom - top)
