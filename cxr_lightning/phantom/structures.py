"""Findings of the pleura, the airways' size, the heart and the hiatus."""

from __future__ import annotations

import numpy as np

from cxr_lightning.phantom.anatomy import SIGN, lateral_border, lung_outline
from cxr_lightning.phantom.canvas import Points, smoothstep
from cxr_lightning.phantom.cases import Finding
from cxr_lightning.phantom.effects import Chest, Effect, finding_stream

__all__ = [
    "broken_ribs",
    "cardiomegaly",
    "effusion",
    "emphysema",
    "fibrosis",
    "fracture",
    "hernia",
    "outline_only",
    "pleural_thickening",
    "pneumothorax",
]


def cardiomegaly(chest: Chest, finding: Finding) -> Effect:
    """An enlarged silhouette; the heart itself is a measure of the thorax, here is only its box."""
    thorax, canvas = chest.thorax, chest.canvas
    width = 2 * thorax.half_width * thorax.ctr
    middle = thorax.shift + 60 * thorax.turn
    low = max(thorax.dome.values()) + 6
    across = (canvas.x > middle - 0.34 * width) & (canvas.x < middle + 0.66 * width)
    return Effect(box=across & (canvas.y > -45) & (canvas.y < low))


def outline_only(chest: Chest, finding: Finding) -> Effect:
    """No change beyond the outline, which is a measure of the thorax."""
    return Effect()


def effusion(chest: Chest, finding: Finding) -> Effect:
    """Fluid that fills the costophrenic angle and climbs the lateral wall as a meniscus.

    At the bedside the patient lies, and part of the fluid spreads as an even haze.
    """
    generator, canvas = finding_stream(chest.case, finding), chest.canvas
    thorax, lung = chest.thorax, chest.lungs[finding.side]
    severity = finding.severity
    dome = thorax.dome[finding.side]
    # From a blunted angle to most of the hemithorax.
    level = thorax.base - 13 - 16 * severity - 128 * severity**1.6
    climb = float(generator.uniform(26, 40)) * (0.6 + 0.6 * severity)
    outwards = np.clip(SIGN[finding.side] * canvas.x / np.float32(thorax.half_width), 0, 1)
    meniscus = level + climb * (1 - smoothstep(outwards, 0.35, 1.0)) * (0.55 + 0.45 * severity)
    # The small, free effusion hides behind the dome medially.
    meniscus = np.maximum(meniscus, dome - 40 - 200 * severity + 0 * canvas.x)
    soft = 5 + (9 if chest.case.view == "AP" else 0)
    fluid = smoothstep(canvas.y - meniscus, -soft, soft)
    fill = 0.93 * fluid
    if chest.case.view == "AP":
        veil = smoothstep(canvas.y, thorax.apex + 20, thorax.base)
        fill = np.maximum(fill, (0.05 + 0.3 * severity) * veil)
    fill = fill * lung
    return Effect(fill=fill, markings=1 - 0.7 * fluid * lung, box=(fluid * lung) > 0.4)


def pneumothorax(chest: Chest, finding: Finding) -> Effect:
    """A thin white pleural line; beyond it black air without vessels, inside it the denser lung."""
    generator, canvas = finding_stream(chest.case, finding), chest.canvas
    lung, severity = chest.lungs[finding.side], finding.severity
    outline = lung_outline(chest.thorax, finding.side)
    x, y = chest.hilum(finding.side)
    centre = np.array([x, y + 18])
    away = outline - centre
    shrink = 0.07 + 0.5 * severity**1.3
    # Air rises to the apex; at the base the lung stays nearer to the wall.
    height = np.clip(
        (chest.thorax.base - outline[:, 1]) / (chest.thorax.base - chest.thorax.apex), 0, 1
    )
    apical = float(generator.uniform(0.35, 0.7))
    part = shrink * (apical + (1 - apical) * height) * np.clip(0.2 + 1.2 * height, 0, 1)
    lateral = np.clip(SIGN[finding.side] * away[:, 0] / 45, 0, 1)
    part *= np.maximum(lateral, np.clip((centre[1] - outline[:, 1]) / 60, 0, 1))
    edge = outline - away * part[:, None]
    collapsed = canvas.blur(canvas.fill([edge]), 0.6) * lung
    beyond = np.clip(lung - collapsed, 0, 1)
    line = canvas.blur(canvas.stroke([edge], 1.9, closed=True), 0.4)
    line *= lung * smoothstep(canvas.blur(beyond, 2.5), 0.12, 0.35)
    fill = -0.24 * beyond + (0.05 + 0.34 * severity**1.5) * collapsed
    return Effect(fill=fill, attenuation=0.085 * line, markings=1 - 0.97 * beyond, box=beyond > 0.5)


def emphysema(chest: Chest, finding: Finding) -> Effect:
    """Too much air: dark upper lungs with few vessels, and bullae with hair-thin walls.

    Flat domes, long wide lungs and the narrow heart are measures of the thorax.
    """
    generator, canvas = finding_stream(chest.case, finding), chest.canvas
    severity = finding.severity
    lungs = chest.both_lungs
    upper = smoothstep(canvas.y, 40, -80)
    fill = -(0.05 + 0.22 * severity) * (0.55 + 0.45 * upper) * lungs
    markings = 1 - (0.15 + 0.5 * severity) * (0.5 + 0.5 * upper) * lungs
    walls = np.zeros_like(canvas.x)
    for side, lung in chest.lungs.items():
        for _ in range(2):
            place = (
                SIGN[side] * float(generator.uniform(0.45, 0.72)) * chest.thorax.half_width,
                chest.thorax.apex + float(generator.uniform(26, 75)),
            )
            radius = float(generator.uniform(12, 26))
            if generator.random() > 0.25 + 0.6 * severity:
                continue
            ring = canvas.ellipse(place, (radius, 1.15 * radius))
            inside = smoothstep(ring, 1.05, 0.9) * lung
            fill = fill - 0.1 * inside
            markings = markings * (1 - 0.8 * inside)
            walls += 0.045 * smoothstep(np.abs(ring - 1.02), 0.2, 0.05) * lung
    return Effect(fill=np.maximum(fill, -0.5), attenuation=walls, markings=markings)


def fibrosis(chest: Chest, finding: Finding) -> Effect:
    """A net of fine lines with small cysts between them, at the bases and along the pleura.

    Loss of volume raises both domes (a measure of the thorax).
    """
    generator, canvas = finding_stream(chest.case, finding), chest.canvas
    severity, lungs = finding.severity, chest.both_lungs
    rim = lungs * (1 - smoothstep(canvas.blur(lungs, 13), 0.55, 0.95))
    if generator.random() < 0.75:
        zone = smoothstep(canvas.y, -70 + 30 * (1 - severity), 50)
    else:
        zone = smoothstep(canvas.y, 0, -75)
    where = lungs * zone * (0.55 + 0.45 * rim) + 0.3 * rim
    first = np.maximum(0, 1 - 2.6 * np.abs(canvas.noise(generator, 10)))
    second = np.maximum(0, 1 - 2.6 * np.abs(canvas.noise(generator, 7)))
    net = np.maximum(first, 0.8 * second)
    fill = np.clip((0.42 + 0.5 * severity) * where * (0.3 + 0.9 * net), 0, 0.9)
    return Effect(fill=canvas.blur(fill, 0.6), markings=1 - 0.4 * where)


def fracture(chest: Chest, finding: Finding) -> Effect:
    """Broken ribs, one above the other: each with a dark gap, and callus or overlap around it."""
    canvas, sign = chest.canvas, SIGN[finding.side]
    callus, gaps = np.zeros_like(canvas.x), []
    for x, y in broken_ribs(chest, finding):
        callus += canvas.blob((x, y), (9, 6), sign * 50)
        gaps.append(np.array([[x - 6, y - 7.0], [x + 6, y + 7.0]]))
    strength = 0.16 + 0.16 * finding.severity
    gap = canvas.blur(canvas.stroke(gaps, 2.2), 0.5)
    return Effect(attenuation=strength * callus - 0.16 * gap)


def broken_ribs(chest: Chest, finding: Finding) -> list[tuple[float, float]]:
    """Return where the ribs are broken, in millimetres of the frontal plane."""
    generator, thorax = finding_stream(chest.case, finding), chest.thorax
    border = lateral_border(thorax, finding.side, 40)
    first, count = int(generator.integers(2, 5)), 3 + round(2 * finding.severity)
    places = []
    for number in range(first, first + count):
        y = thorax.apex + 22 + thorax.rib_gap * number + float(generator.normal(0, 2))
        wall = float(np.interp(-y, -border[:, 1], border[:, 0]))
        places.append((wall * float(generator.uniform(0.84, 0.94)), y))
    return places


def pleural_thickening(chest: Chest, finding: Finding) -> Effect:
    """A cap over the apex, a band between ribs and lung, or both; now and then calcified."""
    generator, canvas = finding_stream(chest.case, finding), chest.canvas
    lung, severity = chest.lungs[finding.side], finding.severity
    thorax = chest.thorax
    thick = 9 + 18 * severity
    border = lateral_border(thorax, finding.side, 40)
    apical, basal = ((True, False), (False, True), (True, True))[int(generator.integers(3))]
    uneven = 1 + 0.35 * canvas.noise(generator, 30)
    inside = canvas.fill([_inset(border, thick, SIGN[finding.side], thorax.base)])
    peel = np.clip(lung - canvas.blur(inside, 2.2), 0, 1) * np.clip(uneven, 0.3, 1.6)
    where = np.zeros_like(canvas.x)
    if apical:
        where += smoothstep(canvas.y, thorax.apex + 70 + 25 * severity, thorax.apex + 30)
    if basal:
        where += smoothstep(canvas.y, -75, -40)
    where = np.minimum(where, 1)
    fill = np.clip((0.75 + 0.22 * severity) * peel * where, 0, 0.95)
    plaque = smoothstep(canvas.noise(generator, 12), 0.9, 1.5) * float(generator.random() < 0.3)
    return Effect(fill=fill, attenuation=0.12 * plaque * fill, markings=1 - 0.8 * peel * where)


def _inset(border: Points, thick: float, sign: int, base: float) -> Points:
    """Return the outline of what is left inside a rind of so many millimetres."""
    inner = border - np.array([sign * thick, 0.0])
    inner[:, 1] += thick * np.clip((base - border[:, 1] - 120) / 90, 0, 1.2)
    closing = np.array([[-sign * 20, inner[-1, 1] + 10], [-sign * 20, base + 60]])
    foot = np.array([[inner[0, 0], base + 60]])
    return np.concatenate([foot, inner, closing])


def hernia(chest: Chest, finding: Finding) -> Effect:
    """The stomach behind the heart: a round shadow with air above a level of fluid."""
    generator, canvas = finding_stream(chest.case, finding), chest.canvas
    severity = finding.severity
    radius = 27 + 21 * severity
    x = float(generator.normal(8, 14)) + 0.5 * chest.thorax.shift
    low = 0.5 * (chest.thorax.dome["R"] + chest.thorax.dome["L"])
    y = low - 0.55 * radius
    distance = canvas.ellipse((x, y), (radius * 1.2, radius), float(generator.normal(0, 12)))
    distance = distance * (1 + 0.12 * canvas.noise(generator, 24))
    body = smoothstep(distance, 1.1, 0.8)
    level = y + float(generator.uniform(-0.3, 0.15)) * radius
    lumen = smoothstep(distance, 0.95, 0.6)
    sharp = 1.2 if chest.case.view == "PA" else 9.0
    air = lumen * smoothstep(canvas.y, level + sharp, level - sharp)
    aerated = float(generator.uniform(0.2, 1.0))
    attenuation = 0.13 * body - (0.16 + 0.2 * aerated) * air
    return Effect(fill=0.75 * body * chest.both_lungs, attenuation=attenuation)
