"""From a case to pixels: attenuation along each ray, then what the detector makes of it."""

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
    """Pixels (size, size) uint8, the boxes of NIH's eight boxed findings, the field of view.

    `devices` says whether lines, tubes, leads or implants are in the picture.
    """

    pixels: NDArray[np.uint8]
    boxes: tuple[Box, ...]
    fov_mm: float
    devices: bool


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
    hardware = devices(chest)
    attenuation += hardware
    pixels = markers(chest, expose(chest, attenuation))
    framed = zip(case.findings, effects, strict=True)
    boxes = [_box(finding, effect) for finding, effect in framed if finding.name in BOXED]
    seen = tuple(box for box in boxes if box is not None)
    return Rendering(pixels, seen, canvas.fov, bool(hardware.any()))


def _attenuation(chest: Chest, effects: list[Effect]) -> Field:
    """Return the attenuation along each ray: tissue and bone, less the air, with the findings."""
    case, canvas = chest.case, chest.canvas

    def life(part: str) -> np.random.Generator:
        return stream(case.seed, case.patient, None, part)

    displaced, middle = mediastinum(chest, heart_mask(chest))
    aerated = 1 - displaced
    surplus, markings = np.zeros_like(canvas.x), np.ones_like(canvas.x)
    for effect in effects:
        if effect.fill is not None:
            aerated *= 1 - np.maximum(effect.fill, 0)
            surplus += np.maximum(-effect.fill, 0)
        if effect.markings is not None:
            markings *= effect.markings
        if effect.attenuation is not None:
            middle += effect.attenuation

    tissue = soft_tissue(chest, life("tissue"))
    air = lung_air(chest) * aerated
    vessel = vessels(chest, life("vessels"), case.severity("Edema"))
    texture = canvas.clouds(life("parenchyma"), 16, 3)
    bones = skeleton(chest, life("bones"))
    # Thick tissue hides bone: the ribs fade behind heart, fluid and abdomen, and end with the body.
    bones *= (0.3 + 0.7 * chest.both_lungs * aerated) * np.minimum(1, 4 * tissue)
    gas = abdomen_gas(chest, stream(case.seed, case.patient, case.visit, "gas"))

    total = tissue - air * (1 + surplus)
    total += air * markings * (0.3 * vessel + 0.03 * texture)
    total += middle + bones + gas * (1 - chest.both_lungs)
    return np.maximum(total, 0)


def _box(finding: Finding, effect: Effect) -> Box | None:
    """Return the box, or None for a lesion that lies outside the picture or is too faint."""
    corners = None if effect.box is None else bounding_box(effect.box)
    if corners is None:
        return None
    left, top, right, bottom = corners
    return Box(finding, left, top, right - left, bottom - top)
