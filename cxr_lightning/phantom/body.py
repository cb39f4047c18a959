"""The normal chest in attenuation: soft tissue, lungs, mediastinum, skeleton, vessels."""

from __future__ import annotations

import numpy as np

from cxr_lightning.phantom.anatomy import SIGN, Thorax, lateral_border, mediastinum_outline
from cxr_lightning.phantom.canvas import Canvas, Field, Points, band, smoothstep, spline
from cxr_lightning.phantom.cases import Side
from cxr_lightning.phantom.effects import Chest

__all__ = ["abdomen_gas", "heart_mask", "lung_air", "mediastinum", "skeleton", "soft_tissue"]


def soft_tissue(chest: Chest, generator: np.random.Generator) -> Field:
    """Return the attenuation of the body with airless lungs: 0 outside, about 1 in the middle."""
    canvas, thorax = chest.canvas, chest.thorax
    mask = canvas.fill(_torso(thorax, chest.case.view == "AP", generator))
    depth = canvas.blur(mask, 26)
    tissue = mask * (0.3 + 0.66 * depth * depth)
    domes = 0.5 * (thorax.dome["R"] + thorax.dome["L"])
    tissue *= 0.82 + 0.3 * smoothstep(canvas.y, domes - 70, domes + 60)
    tissue *= 1 - 0.18 * smoothstep(canvas.y, -130, -175)
    if thorax.breast:
        tissue += _breasts(chest, generator)
    pectoral = float(generator.uniform(0.0, 0.05)) * (1.6 if chest.case.sex == "M" else 0.6)
    for side in (-1, 1):
        tissue += pectoral * mask * canvas.blob((side * 105, -75), (42, 38), side * -35)
    tissue += 0.018 * mask * canvas.clouds(generator, 45, 2)
    return tissue * thorax.bulk


def _torso(thorax: Thorax, bedside: bool, generator: np.random.Generator) -> list[Points]:
    flank = thorax.half_width + thorax.fat
    shoulder = thorax.half_width + 62
    neck = 52 + 0.25 * thorax.fat
    lift = float(generator.normal(0, 7)) - (10 if bedside else 0)
    spread = float(generator.uniform(0.15, 1.0)) if bedside else float(generator.uniform(0.5, 1.3))
    halves = []
    for side in (-1, 1):
        uneven = float(generator.normal(0, 3))
        arm = 46 + 0.4 * thorax.fat
        outline: list[list[float]] = [
            [0, -260],
            [side * neck, -250],
            [side * neck, -185 + lift],
            [side * (neck + 26), -165 + lift + uneven],
            [side * (shoulder - 30), -150 + lift + uneven],
            [side * (shoulder + 14), -128 + lift],
            [side * (shoulder + 30 + 26 * spread), -70],
            [side * (shoulder + 26 + 90 * spread), 40],
            [side * (shoulder + 20 + 150 * spread), 150],
            [side * (shoulder + 20 + 150 * spread - arm), 160],
            [side * (shoulder + 10 + 85 * spread - arm), 40],
            [side * (flank + 8 + 10 * spread), -48],
            [side * (flank + 1), -30],
            [side * flank, 30],
            [side * (flank - 4), 110],
            [side * (flank + 2), 260],
            [0, 260],
        ]
        halves.append(spline(outline))
    return halves


def _breasts(chest: Chest, generator: np.random.Generator) -> Field:
    """Return two soft shadows with a sharp lower border, over the lung bases and beyond."""
    canvas, thorax = chest.canvas, chest.thorax
    radius = 44 + 18 * thorax.breast
    low = thorax.dome["R"] - 52 + 16 * thorax.breast
    total = np.zeros_like(canvas.x)
    for side in (-1, 1):
        centre = (side * (0.62 * thorax.half_width + 8), low + float(generator.normal(0, 4)))
        disc = canvas.ellipse(centre, (radius * 1.02, radius))
        inside = smoothstep(disc, 1.03, 0.9)
        fullness = np.sqrt(np.clip(1.02 - disc, 0, 1))
        below = smoothstep(canvas.y, centre[1] - 0.9 * radius, centre[1] + 0.5 * radius)
        total += inside * (0.25 + 0.75 * fullness) * below
    return total * (0.09 + 0.08 * thorax.breast)


def lung_air(chest: Chest) -> Field:
    """Return the attenuation that air takes away, thinner towards the edges and the apices."""
    canvas = chest.canvas
    mask = chest.both_lungs
    depth = canvas.blur(mask, 15)
    apices = smoothstep(canvas.y, chest.thorax.apex - 5, chest.thorax.apex + 90)
    low = 0.5 * (chest.thorax.dome["R"] + chest.thorax.dome["L"])
    crowded = chest.thorax.crowding * smoothstep(canvas.y, low - 110, low)
    air: Field = mask * (0.26 + 0.33 * depth) * (0.78 + 0.22 * apices) * (1 - crowded)
    return air


def heart_mask(chest: Chest) -> Field:
    """Return the silhouette of heart and great vessels, 0 to 1, its edge blurred by the beat."""
    return chest.canvas.blur(chest.canvas.fill([mediastinum_outline(chest.thorax)]), 1.3)


def mediastinum(chest: Chest, silhouette: Field) -> tuple[Field, Field]:
    """Return how much of the lungs' air the mediastinum displaces, and what it adds or removes."""
    canvas, thorax = chest.canvas, chest.thorax
    centre = (0.16 * thorax.half_width + thorax.shift, thorax.dome["L"] - 40)
    size = thorax.ctr * thorax.half_width
    heart = canvas.blob(centre, (0.62 * size, 0.62 * size))
    displaced = silhouette * (0.74 + 0.16 * heart)

    lean = 60 * thorax.turn + 0.6 * thorax.shift
    windpipe = spline([[lean, -220], [lean - 1, -120], [lean - 4, -80], [lean - 4, -62]])
    bronchi = [
        band(windpipe, 17.0),
        band(spline([[lean - 4, -64], [lean - 16, -48], [lean - 30, -30]]), 12.0),
        band(spline([[lean - 4, -64], [lean + 14, -52], [lean + 36, -42]]), 11.0),
    ]
    airway = canvas.blur(canvas.fill(bronchi), 1.6)
    vertical = smoothstep(canvas.y, -45, -75)
    added = -(0.07 + 0.07 * vertical) * airway
    stripe = canvas.blob((20 + thorax.aorta * 0.4 + lean, 0), (9, 70))
    added += 0.035 * stripe * silhouette
    added += 0.05 * canvas.blob((18 + 0.6 * thorax.aorta + lean, -87), (thorax.aorta, thorax.aorta))
    return displaced, added


def skeleton(chest: Chest, generator: np.random.Generator) -> Field:
    """Return the attenuation of ribs, spine, clavicles, scapulae and upper arms."""
    thorax, canvas = chest.thorax, chest.canvas
    bones = _ribs(chest) * 0.12
    bones += _spine(canvas, thorax) * 0.2
    bones += _shoulder_girdle(canvas, thorax, generator) * 0.13
    return canvas.blur(bones, 0.7) * thorax.bone


def _shell(canvas: Canvas, curves: Points, width: float) -> Field:
    """Return tubes with a dense cortex around a lighter marrow."""
    tubes = canvas.fill(band(curves, width))
    tubes -= 0.36 * canvas.fill(band(curves, max(0.5, width - 4.6)))
    return tubes


def _ribs(chest: Chest) -> Field:
    """Return posterior ribs, nearly level, and anterior ribs, running down towards the midline."""
    thorax, canvas = chest.thorax, chest.canvas
    posterior: list[Points] = []
    anterior: list[Points] = []
    sides: tuple[Side, Side] = ("R", "L")
    for side in sides:
        border = lateral_border(thorax, side, 40)
        apex_reach = 0.3 * thorax.half_width
        for number in range(11):
            start = thorax.apex - 6 + thorax.rib_gap * number
            slope = thorax.rib_slope + 0.03 * number
            turn_y = start + 12 + slope * thorax.half_width * min(1.0, 0.45 + 0.11 * number)
            reach = np.interp(-turn_y, -border[:, 1], np.abs(border[:, 0]), right=apex_reach)
            wall = 1.012 * SIGN[side] * float(reach)
            rise = 7 - 0.4 * number
            back = np.array(
                [
                    [SIGN[side] * 14, start + 2],
                    [0.28 * wall, start - rise],
                    [0.62 * wall, start - rise + 0.3 * (turn_y - start)],
                    [0.9 * wall, turn_y - 0.36 * (turn_y - start + rise)],
                    [wall, turn_y],
                ]
            )
            posterior.append(back)
            if number < 8:
                drop = 26 + 5.5 * number
                inward = SIGN[side] * (0.36 + 0.03 * number) * thorax.half_width
                front = np.array(
                    [
                        [wall, turn_y],
                        [0.97 * wall, turn_y + 0.3 * drop],
                        [0.74 * wall, turn_y + 0.78 * drop],
                        [inward, turn_y + 1.05 * drop],
                    ]
                )
                anterior.append(front)
    behind = _shell(canvas, spline(np.stack(posterior), steps=7), 10.5)
    return behind + 0.34 * _shell(canvas, spline(np.stack(anterior), steps=7), 12.5)


def _spine(canvas: Canvas, thorax: Thorax) -> Field:
    """Return vertebral bodies with darker discs between them, and the spinous processes."""
    across = np.abs(canvas.x + np.float32(18 * thorax.turn))
    column = smoothstep(across, 20, 16.5)
    discs = np.cos(canvas.y * np.float32(2 * np.pi / (thorax.rib_gap + 1)))
    pedicles = smoothstep(np.abs(across - 11), 4, 2) * smoothstep(discs, -0.2, 0.5)
    process = smoothstep(across, 4, 2.5) * smoothstep(discs, 0.1, 0.7)
    spine: Field = column * (0.72 + 0.16 * discs) + 0.16 * pedicles + 0.2 * process
    return spine


def _shoulder_girdle(canvas: Canvas, thorax: Thorax, generator: np.random.Generator) -> Field:
    clavicles, arms, scapulae = [], [], []
    for side in (-1, 1):
        lift = float(generator.normal(0, 4))
        out = thorax.half_width
        level = thorax.clavicle + side * 40 * thorax.turn
        clavicles.append(
            spline(
                [
                    [side * 13, level + 6],
                    [side * 0.36 * out, level - 4],
                    [side * 0.72 * out, level - 20 + lift],
                    [side * (out + 20), level - 31 + lift],
                    [side * (out + 46), level - 28 + lift],
                ]
            )
        )
        joint = np.array([side * (out + 44), -118 + lift])
        arms.append(spline(joint + np.array([[0, 0], [side * 14, 40], [side * 34, 130]])))
        inward = 6 + 46 * thorax.scapula
        scapulae.append(
            spline(
                [
                    [side * (out + 26), -128 + lift],
                    [side * (out - inward * 0.7), -118 + lift],
                    [side * (out + 8 - inward), -60 + lift],
                    [side * (out + 16 - inward * 0.6), 8 + lift],
                    [side * (out + 26 - inward * 0.3), -20 + lift],
                    [side * (out + 30), -80 + lift],
                ],
                closed=True,
            )
        )
    heads = [canvas.ellipse((float(arm[0, 0]), float(arm[0, 1])), (23, 24)) for arm in arms]
    girdle = _shell(canvas, np.stack(clavicles), 11.5) * 1.5
    girdle += _shell(canvas, np.stack(arms), 24.0) * 1.2
    blade = canvas.fill(scapulae)
    girdle += 0.22 * blade + 0.35 * canvas.stroke(scapulae, 2.2, closed=True)
    for head in heads:
        girdle = np.maximum(girdle, 0.85 * smoothstep(head, 1.08, 0.7))
    return girdle


def abdomen_gas(chest: Chest, generator: np.random.Generator) -> Field:
    """Return the (negative) attenuation of the gastric bubble and of gas in the colon."""
    canvas, thorax = chest.canvas, chest.thorax
    top = thorax.dome["L"] + 8 + float(generator.uniform(0, 6))
    radius = 10 + 24 * thorax.bubble
    place = (0.46 * thorax.half_width + float(generator.normal(0, 8)), top + 0.6 * radius)
    bubble = smoothstep(canvas.ellipse(place, (1.35 * radius, 0.75 * radius)), 1.1, 0.75)
    if chest.case.view == "PA":
        bubble *= smoothstep(canvas.y, place[1] + 5, place[1] + 3)
    gas = float(generator.uniform(0.12, 0.36)) * min(1.0, 5 * thorax.bubble) * bubble
    loops = canvas.clouds(generator, 26, 2)
    below = smoothstep(canvas.y, top + 14, top + 50) * smoothstep(np.abs(canvas.x), 24, 60)
    gas += 0.16 * below * smoothstep(loops, 1.1, 2.8)
    return -gas
