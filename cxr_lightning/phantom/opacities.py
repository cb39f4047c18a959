"""Findings that replace air in the lung: collapse, consolidation, infiltrates, edema, nodules."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxr_lightning.phantom.anatomy import SIGN
from cxr_lightning.phantom.canvas import Field, Points, band, smoothstep, spline
from cxr_lightning.phantom.cases import MASS_FROM_MM, Finding
from cxr_lightning.phantom.effects import Chest, Effect, finding_stream

__all__ = [
    "atelectasis",
    "consolidation",
    "edema",
    "infiltration",
    "lesion_place",
    "nodule",
    "pneumonia",
]


def _frame(fill: Field, share: float = 0.35) -> NDArray[np.bool_]:
    """Return where an opacity is at least `share` of its peak."""
    return fill > share * max(float(fill.max()), 1e-6)


def _lung_point(chest: Chest, finding: Finding, across: float, down: float) -> tuple[float, float]:
    """Return a point of a lung: `across` from the midline to the wall, `down` from apex to dome."""
    thorax = chest.thorax
    height = thorax.dome[finding.side] - thorax.apex
    # The lung narrows towards the apex.
    wall = thorax.half_width * (0.62 + 0.38 * min(1.0, 2 * down))
    return SIGN[finding.side] * across * wall, thorax.apex + down * height


def lesion_place(name: str, generator: np.random.Generator) -> tuple[float, float]:
    """Draw where a focal finding lies: across from the midline, down from the apex, 0 to 1 each.

    The first draws of the finding's stream (see `finding_stream`), so that every projection of it
    has it at the same height.
    """
    if name == "Infiltration":
        down = float(generator.uniform(0.3, 0.85))
        return float(generator.uniform(0.4, 0.6)), down
    if name == "Consolidation":
        upper = bool(generator.random() < 0.42)
        across = float(generator.uniform(0.5, 0.64))
        return across, float(generator.uniform(*((0.22, 0.36) if upper else (0.68, 0.84))))
    if name == "Pneumonia":
        return float(generator.uniform(0.42, 0.7)), float(generator.uniform(0.42, 0.88))
    return float(generator.uniform(0.36, 0.82)), float(generator.uniform(0.14, 0.88))


def atelectasis(chest: Chest, finding: Finding) -> Effect:
    """Plate-like bands above a raised hemidiaphragm, or a collapsed lobe drawn towards the midline.

    The raised dome and the shifted mediastinum are measures of the thorax (see `Thorax.of`).
    """
    generator, canvas = finding_stream(chest.case, finding), chest.canvas
    lung, severity = chest.lungs[finding.side], finding.severity
    sign, dome = SIGN[finding.side], chest.thorax.dome[finding.side]
    bands: list[Points] = []
    lobar = generator.random() < 0.35
    for number in range(3):
        middle = generator.uniform(0.34, 0.58) * chest.thorax.half_width
        length = generator.uniform(55, 85) + 25 * severity
        level = dome - 12 - 19 * number - generator.uniform(0, 8)
        rise = generator.normal(0.12, 0.14)
        bow = generator.normal(0, 4)
        if number > 0.8 + 2 * severity:
            continue
        ends = sign * (middle + np.array([-0.5, 0, 0.5]) * length)
        heights = level + rise * np.array([0.5, 0, -0.5]) * length + np.array([0, bow, 0])
        curve = spline(np.stack([ends, heights], axis=1))
        bands.append(band(curve, (3.2 + 3 * severity) * np.sin(np.linspace(0.35, 2.8, len(curve)))))
    plates = canvas.blur(canvas.fill(bands), 1.2) * lung
    fill = (0.38 + 0.25 * severity) * plates
    if lobar:
        fill = np.maximum(fill, _collapsed_lobe(chest, finding, bool(generator.random() < 0.5)))
    crowded = 0.16 * severity * smoothstep(canvas.y, dome - 55, dome - 10) * lung
    box = _frame(fill)
    return Effect(fill=1 - (1 - fill) * (1 - crowded), box=box)


def _collapsed_lobe(chest: Chest, finding: Finding, upper: bool) -> Field:
    """Return a wedge against the mediastinum: the upper lobe, or the lower one behind the heart."""
    canvas, thorax, sign = chest.canvas, chest.thorax, SIGN[finding.side]
    dome, severity = thorax.dome[finding.side], finding.severity
    reach = (0.8 - 0.3 * severity) * thorax.half_width
    if upper:
        low = thorax.apex + 75 - 20 * severity
        corners = [
            [0, thorax.apex - 10],
            [reach, thorax.apex + 4],
            [0.9 * reach, low - 22],
            [0, low],
        ]
    else:
        corners = [[0, dome - 85], [10, dome - 82], [0.85 * reach, dome + 12], [0, dome + 30]]
    wedge = canvas.fill([np.array(corners) * (sign, 1)])
    return (0.5 + 0.35 * severity) * canvas.blur(wedge, 2.0) * chest.lungs[finding.side]


def consolidation(chest: Chest, finding: Finding) -> Effect:
    """A lobe or segment filled evenly, cut off by a fissure, with branching air bronchograms."""
    generator, canvas = finding_stream(chest.case, finding), chest.canvas
    lung, severity = chest.lungs[finding.side], finding.severity
    across, down = lesion_place(finding.name, generator)
    upper = down < 0.5
    x, y = _lung_point(chest, finding, across, down)
    rough = 0.4 * canvas.clouds(generator, 26, 3)
    size = 28 + 29 * severity
    distance = canvas.ellipse((x, y), (1.2 * size, 0.95 * size))
    shape = smoothstep(distance + rough, 1.25, 0.55)
    # The fissure: a straight, sharp edge towards the middle of the lung.
    edge = y + 0.34 * size if upper else y - 0.34 * size
    tilt = float(generator.normal(-0.12, 0.1)) * SIGN[finding.side]
    line = canvas.y - np.float32(edge) - np.float32(tilt) * (canvas.x - np.float32(x))
    shape *= smoothstep(line, 1.5, -1.5) if upper else smoothstep(line, -1.5, 1.5)
    bronchi = _bronchogram(chest, finding, (x, y), generator)
    fill = (0.5 + 0.36 * severity) * shape * lung * (1 - 0.4 * bronchi)
    return Effect(fill=fill, markings=1 - 0.8 * shape * lung, box=_frame(fill))


def _bronchogram(
    chest: Chest, finding: Finding, centre: tuple[float, float], generator: np.random.Generator
) -> Field:
    """Return the airways that stay open inside the filled lung: a small tree from the hilum."""
    start, end = np.array(chest.hilum(finding.side)), np.array(centre)
    along = end - start
    across = np.array([-along[1], along[0]])
    lines = [spline([start, start + 0.6 * along, start + 1.3 * along])]
    for fork in (0.45, 0.7, 0.9):
        for side in (-1, 1):
            spread = float(generator.uniform(0.12, 0.5)) * side
            stem = start + fork * along
            lines.append(
                spline(
                    [
                        stem,
                        stem + 0.22 * along + 0.5 * spread * across,
                        stem + 0.42 * along + spread * across,
                    ]
                )
            )
    return chest.canvas.blur(chest.canvas.stroke(lines, 2.0), 0.8)


def pneumonia(chest: Chest, finding: Finding) -> Effect:
    """One fluffy focus of confluent acinar shadows, densest in the middle, without a border."""
    generator, canvas = finding_stream(chest.case, finding), chest.canvas
    lung, severity = chest.lungs[finding.side], finding.severity
    centre = _lung_point(chest, finding, *lesion_place(finding.name, generator))
    size = 21 + 17 * severity
    focus = canvas.blob(centre, (size * 1.1, size), float(generator.uniform(-40, 40)))
    acini = smoothstep(canvas.clouds(generator, 8, 2), -1.2, 1.6)
    fill = (0.42 + 0.36 * severity) * lung * np.clip(focus * (0.75 + 0.5 * acini), 0, 1)
    return Effect(fill=fill, markings=1 - 0.4 * focus * lung, box=_frame(focus * lung, 0.5))


def infiltration(chest: Chest, finding: Finding) -> Effect:
    """Ill-defined streaks and patches over a zone, thin enough for vessels to show through."""
    generator, canvas = finding_stream(chest.case, finding), chest.canvas
    lung, severity = chest.lungs[finding.side], finding.severity
    centre = _lung_point(chest, finding, *lesion_place(finding.name, generator))
    zone = canvas.blob(centre, (38 + 12 * severity, 34 + 22 * severity))
    patches = smoothstep(canvas.clouds(generator, 21, 3), -0.35, 1.3)
    streaks = np.maximum(0, 1 - np.abs(canvas.noise(generator, 7)) * 2.2)
    texture = np.clip(0.22 + 0.75 * patches + 0.4 * streaks, 0, 1.3)
    fill = (0.2 + 0.32 * severity) * zone * texture * lung
    return Effect(fill=fill, box=_frame(zone * lung, 0.6))


def edema(chest: Chest, finding: Finding) -> Effect:
    """Haze from both hila like a bat's wings, peribronchial cuffing, Kerley B lines at the bases.

    Diversion of flow to the upper lobes is drawn with the vessels.
    """
    generator, canvas = finding_stream(chest.case, finding), chest.canvas
    thorax, severity = chest.thorax, finding.severity
    wings = np.zeros_like(canvas.x)
    lines: list[Points] = []
    for side, lung in chest.lungs.items():
        x, y = chest.hilum(side)
        out = SIGN[side] * float(generator.uniform(20, 28))
        wings += lung * canvas.blob((x + out, y + 16), (30 + 9 * severity, 38 + 12 * severity))
        for number in range(6):
            level = thorax.base - 22 - 8.0 * number + float(generator.normal(0, 1.5))
            wall = SIGN[side] * thorax.half_width * 0.985
            length = SIGN[side] * float(generator.uniform(9, 18))
            lines.append(np.array([[wall, level], [wall - length, level + 1.0]]))
    cloud = 0.75 + 0.3 * np.clip(canvas.clouds(generator, 15, 3), -1.5, 1.5)
    haze = 0.13 * severity
    fill = np.clip((0.07 + 0.47 * severity) * wings * cloud + haze * chest.both_lungs, 0, 0.95)
    kerley = 0.05 * (0.4 + severity) * canvas.stroke(lines, 1.5) * chest.both_lungs
    return Effect(fill=fill, attenuation=kerley)


def nodule(chest: Chest, finding: Finding) -> Effect:
    """A round shadow: small and smooth (nodule), or large, lobulated or spiculated (mass).

    `severity` is the conspicuity of the lesion; its size is `diameter`.
    """
    generator, canvas = finding_stream(chest.case, finding), chest.canvas
    x, y = _lung_point(chest, finding, *lesion_place(finding.name, generator))
    radius = 0.5 * finding.diameter
    stretch = float(generator.uniform(0.86, 1.16))
    large = finding.diameter > MASS_FROM_MM
    rough = np.clip(canvas.clouds(generator, max(6.0, 0.55 * radius), 2), -1.5, 1.5)
    uneven = float(generator.uniform(0.1, 0.3)) if large else 0.08
    radii = (radius * stretch, radius / stretch)
    distance = canvas.ellipse((x, y), radii, float(generator.uniform(0, 180)))
    distance *= 1 + uneven * rough
    depth = np.sqrt(np.clip(1.1 - distance, 0, 1))
    edge = smoothstep(distance, 1.1, 0.75)
    calcified = float(generator.random() < 0.2) * (not large)
    spiculated, cavity = bool(generator.random() < 0.35), bool(generator.random() < 0.18)
    lesion = edge * (0.55 + 0.45 * depth)
    if large and cavity:
        lesion *= 1 - 0.7 * smoothstep(distance, 0.42, 0.3)
    if large and spiculated:
        lesion = np.maximum(lesion, 0.5 * _spicules(chest, (x, y), radius, generator))
    contrast = 0.12 + 0.16 * finding.severity + 0.08 * calcified
    # A large lesion takes the place of more lung, so it is denser.
    contrast *= 1.15 if large else 0.8 + 0.02 * (30 - finding.diameter)
    shadow = contrast * canvas.blur(lesion, 0.7) * (0.35 + 0.65 * chest.both_lungs)
    return Effect(attenuation=shadow, box=edge > 0.2)


def _spicules(
    chest: Chest, centre: tuple[float, float], radius: float, generator: np.random.Generator
) -> Field:
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False) + generator.normal(0, 0.12, 14)
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    far = radius * generator.uniform(1.15, 1.6, 14)[:, None]
    lines = np.stack([0.6 * radius * rays, far * rays], axis=1) + np.array(centre)
    return chest.canvas.stroke(list(lines), 1.6)
