"""What findings do to the lateral picture: the same heights and sizes as in the frontal one.

A ray crosses both lungs, so that a finding of one side replaces at most about half of the air. What
a lateral does not show by any sign of its own (a pneumothorax of a standing patient) changes
nothing here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cxr_lightning.phantom.canvas import smoothstep
from cxr_lightning.phantom.cases import MASS_FROM_MM, Finding
from cxr_lightning.phantom.effects import Effect, finding_stream
from cxr_lightning.phantom.lateral_anatomy import LateralChest
from cxr_lightning.phantom.opacities import lesion_place
from cxr_lightning.phantom.streams import stream
from cxr_lightning.phantom.structures import broken_ribs

__all__ = ["lateral_effect"]


def lateral_effect(view: LateralChest, finding: Finding) -> Effect:
    """Return what one finding does to the lateral picture of this chest."""
    drawn_by = _DRAWN_BY.get(finding.name)
    return Effect() if drawn_by is None else drawn_by(view, finding)


def _place(view: LateralChest, finding: Finding) -> tuple[float, float]:
    """Return where a focal finding lies: at its height in the frontal picture, at a depth."""
    case = view.chest.case
    _, down = lesion_place(finding.name, finding_stream(case, finding))
    depths = stream(case.seed, case.patient, None, f"depth of {finding.name}", finding.key)
    return view.point(finding.side, float(depths.uniform(0.22, 0.82)), down)


def _texture(view: LateralChest, finding: Finding) -> np.random.Generator:
    case = view.chest.case
    return stream(case.seed, case.patient, None, f"lateral {finding.name}", finding.key)


def _opacity(view: LateralChest, finding: Finding) -> Effect:
    """A consolidation, pneumonia or infiltrate: a cloud, the denser the more it is confluent."""
    canvas, severity = view.canvas, finding.severity
    confluent = {"Consolidation": 0.62, "Pneumonia": 0.55, "Infiltration": 0.36}[finding.name]
    size = (26 if finding.name != "Infiltration" else 33) + 20 * severity
    rough = 0.35 * canvas.clouds(_texture(view, finding), 22, 3)
    distance = canvas.ellipse(_place(view, finding), (size, 0.95 * size))
    shape = smoothstep(distance + rough, 1.5, 0.3) * view.lungs[finding.side]
    return Effect(fill=(confluent * (0.55 + 0.45 * severity)) * shape, markings=1 - 0.4 * shape)


def _nodule(view: LateralChest, finding: Finding) -> Effect:
    """A round shadow of the same diameter as in the frontal picture."""
    canvas, radius = view.canvas, 0.5 * finding.diameter
    large = finding.diameter > MASS_FROM_MM
    rough = np.clip(canvas.clouds(_texture(view, finding), max(6.0, 0.55 * radius), 2), -1.5, 1.5)
    distance = canvas.ellipse(_place(view, finding), (radius, radius))
    distance *= 1 + (0.18 if large else 0.08) * rough
    lesion = smoothstep(distance, 1.1, 0.75) * (0.5 + 0.5 * np.sqrt(np.clip(1.1 - distance, 0, 1)))
    contrast = (0.13 + 0.16 * finding.severity) * (1.1 if large else 0.8)
    return Effect(attenuation=contrast * canvas.blur(lesion, 0.7) * (0.35 + 0.65 * view.aerated))


def _effusion(view: LateralChest, finding: Finding) -> Effect:
    """Fluid in the posterior sulcus that climbs the back wall: seen here before anywhere else."""
    canvas, thorax, severity = view.canvas, view.chest.thorax, finding.severity
    level = thorax.base - 16 - 20 * severity - 118 * severity**1.6
    backwards = np.clip(np.abs(canvas.x / np.float32(view.depth)), 0, 1)
    meniscus = level + 34 * (1 - smoothstep(backwards, 0.3, 1.0)) * (0.5 + 0.5 * severity)
    fluid = smoothstep(canvas.y - meniscus, -5, 5) * view.lungs[finding.side]
    return Effect(fill=0.62 * fluid, markings=1 - 0.6 * fluid)


def _edema(view: LateralChest, finding: Finding) -> Effect:
    """Haze around the hila and thick fissures."""
    canvas, severity, d = view.canvas, finding.severity, view.depth
    cloud = 0.75 + 0.3 * np.clip(canvas.clouds(_texture(view, finding), 15, 3), -1.5, 1.5)
    wings = canvas.blob((0.14 * d, -22), (42 + 10 * severity, 50 + 12 * severity))
    fill = (0.08 + 0.5 * severity) * wings * cloud + 0.12 * severity
    line = np.array([[0.75 * d, -70.0], [0.1 * d, -25.0], [-0.55 * d, 40.0]])
    fissure = 0.06 * (0.4 + severity) * canvas.stroke([line], 2.0)
    return Effect(fill=np.clip(fill, 0, 0.9) * view.aerated, attenuation=fissure * view.aerated)


def _atelectasis(view: LateralChest, finding: Finding) -> Effect:
    """Plates above the raised dome (a measure of the thorax)."""
    canvas, severity, d = view.canvas, finding.severity, view.depth
    generator, dome = _texture(view, finding), view.chest.thorax.dome[finding.side]
    lines = []
    for number in range(1 + round(2 * severity)):
        level = dome - 12 - 18 * number - float(generator.uniform(0, 6))
        middle, half = float(generator.uniform(-0.1, 0.45)) * d, 28 + 14 * severity
        lines.append(np.array([[middle - half, level - 6], [middle + half, level + 6]]))
    plates = canvas.blur(canvas.stroke(lines, 5 + 3 * severity), 1.5) * view.lungs[finding.side]
    crowded = 0.14 * severity * smoothstep(canvas.y, dome - 50, dome - 8)
    return Effect(fill=(0.3 + 0.2 * severity) * plates + crowded * view.lungs[finding.side])


def _emphysema(view: LateralChest, finding: Finding) -> Effect:
    """Too much air, most of it behind the sternum; flat domes and depth are measures."""
    canvas, severity, d = view.canvas, finding.severity, view.depth
    retrosternal = canvas.blob((-0.5 * d, -55), (34, 55), 24)
    fill = -(0.05 + 0.18 * severity) * (0.6 + 0.6 * retrosternal) * view.aerated
    return Effect(fill=fill, markings=1 - (0.15 + 0.5 * severity) * view.aerated)


def _fibrosis(view: LateralChest, finding: Finding) -> Effect:
    """A net of fine lines, most of it low and behind."""
    canvas, severity = view.canvas, finding.severity
    generator = _texture(view, finding)
    net = np.maximum(0, 1 - 2.6 * np.abs(canvas.noise(generator, 9)))
    zone = smoothstep(canvas.y + 0.4 * canvas.x, -70, 60) * view.aerated
    return Effect(fill=np.clip((0.4 + 0.45 * severity) * zone * (0.3 + 0.9 * net), 0, 0.9))


def _thickening(view: LateralChest, finding: Finding) -> Effect:
    """A band along the back wall and over the apex."""
    canvas, lung = view.canvas, view.lungs[finding.side]
    rim = np.clip(lung - canvas.blur(lung, 4 + 7 * finding.severity), 0, 1)
    where = np.maximum(
        smoothstep(canvas.x, 0.2 * view.depth, 0.7 * view.depth),
        smoothstep(canvas.y, view.chest.thorax.apex + 70, view.chest.thorax.apex + 30),
    )
    return Effect(fill=np.clip((0.8 + 0.5 * finding.severity) * rim * where, 0, 0.6))


def _hernia(view: LateralChest, finding: Finding) -> Effect:
    """The stomach behind the heart: a round shadow with air above a level of fluid."""
    canvas, thorax = view.canvas, view.chest.thorax
    radius = 27 + 21 * finding.severity
    low = 0.5 * (thorax.dome["R"] + thorax.dome["L"])
    y = low - 0.4 * radius
    distance = canvas.ellipse((0.32 * view.depth, y), (0.95 * radius, radius))
    body = smoothstep(distance, 1.1, 0.8)
    level = y - 0.1 * radius
    air = smoothstep(distance, 0.9, 0.6) * smoothstep(canvas.y, level + 1.2, level - 1.2)
    return Effect(fill=0.6 * body * view.aerated, attenuation=0.14 * body - 0.26 * air)


def _fracture(view: LateralChest, finding: Finding) -> Effect:
    """Callus of the broken ribs, at their heights, in front of the spine."""
    canvas, callus = view.canvas, np.zeros_like(view.canvas.x)
    for _, y in broken_ribs(view.chest, finding):
        callus += canvas.blob((0.3 * view.depth, y + 8), (8, 6), 40)
    return Effect(attenuation=(0.12 + 0.14 * finding.severity) * callus)


_DRAWN_BY: dict[str, Callable[[LateralChest, Finding], Effect]] = {
    "Atelectasis": _atelectasis,
    "Consolidation": _opacity,
    "Edema": _edema,
    "Effusion": _effusion,
    "Emphysema": _emphysema,
    "Fibrosis": _fibrosis,
    "Fracture": _fracture,
    "Hernia": _hernia,
    "Infiltration": _opacity,
    "Mass": _nodule,
    "Nodule": _nodule,
    "Pleural_Thickening": _thickening,
    "Pneumonia": _opacity,
}
"""Cardiomegaly is a measure of the thorax: the heart grows backwards, and nothing is drawn here."""
