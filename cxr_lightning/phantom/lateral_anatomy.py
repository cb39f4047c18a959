"""The chest from the left: outlines and the normal picture in attenuation.

Coordinates are millimetres in the patient's sagittal plane: x grows from the sternum to the spine
(the patient looks to the left of the picture), y downwards as in the frontal plane, so that heights
are those of :mod:`cxr_lightning.phantom.anatomy`. Both lungs lie over one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cxr_lightning.phantom.canvas import Canvas, Field, Points, band, smoothstep, spline
from cxr_lightning.phantom.cases import Case, Side
from cxr_lightning.phantom.effects import Chest
from cxr_lightning.phantom.streams import stream

__all__ = ["LateralChest", "bones", "lung_air", "mediastinum", "soft_tissue", "vessels"]


_HEART = (
    (-0.92, 0.4),
    (-0.98, -0.2),
    (-0.72, -0.8),
    (-0.3, -1.3),
    (0.15, -1.5),
    (0.5, -1.2),
    (0.8, -0.55),
    (0.98, 0.15),
    (0.8, 0.75),
    (0.1, 1.1),
    (-0.65, 0.95),
)
"""Border of the heart in multiples of its radius, from the sternum upwards and back."""


@dataclass(frozen=True)
class LateralChest:
    """One thorax with its left side at the detector."""

    chest: Chest

    @property
    def canvas(self) -> Canvas:
        return self.chest.canvas

    @property
    def depth(self) -> float:
        """Half the inner depth of the thorax; a barrel chest is deep."""
        trapped = self.chest.case.severity("Emphysema")
        return self.chest.thorax.half_width * (0.66 + 0.08 * trapped)

    def outline(self, side: Side) -> Points:
        """Return the outline of one lung (n, 2); behind, it reaches deep below the dome."""
        thorax, d = self.chest.thorax, self.depth
        dome, apex, base = thorax.dome[side], thorax.apex, thorax.base + 8
        return spline(
            [
                [0.05 * d, apex],
                [-0.3 * d, apex + 28],
                [-0.62 * d, apex + 75],
                [-0.88 * d, apex + 140],
                [-0.97 * d, dome + 12],
                [-0.6 * d, dome - 2],
                [-0.12 * d, dome - 4],
                [0.35 * d, dome + 0.3 * (base - dome)],
                [0.72 * d, base - 4],
                [0.86 * d, base],
                [0.95 * d, base - 34],
                [1.0 * d, 0],
                [0.93 * d, -60],
                [0.68 * d, apex + 28],
                [0.35 * d, apex + 2],
            ],
            closed=True,
        )

    @cached_property
    def lungs(self) -> dict[Side, Field]:
        """Mask of each lung, 0 to 1."""
        sides: tuple[Side, Side] = ("R", "L")
        return {side: self.canvas.fill([self.outline(side)]) for side in sides}

    @cached_property
    def aerated(self) -> Field:
        """How much lung a ray meets, 0 to 1: half for each side."""
        return 0.5 * (self.lungs["R"] + self.lungs["L"])

    def point(self, side: Side, depth: float, down: float) -> tuple[float, float]:
        """Return a point of a lung, `depth` from front to back and `down` from apex to dome."""
        thorax = self.chest.thorax
        y = thorax.apex + down * (thorax.dome[side] - thorax.apex)
        outline = self.outline(side)
        level = outline[np.abs(outline[:, 1] - y) < 12, 0]
        front, back = float(level.min()), float(level.max())
        return front + depth * (back - front), y

    def spine(self, y: Field | Points) -> Field:
        """Return x of the middle of the spine at heights y: a kyphosis."""
        d = self.depth
        curve: Field = d * (0.78 - 0.4 * np.square((np.asarray(y) - 5) / 190))
        return curve


def life(case: Case, part: str) -> np.random.Generator:
    """Return the generator of a part of the lateral picture, the same at every visit."""
    return stream(case.seed, case.patient, None, f"lateral {part}")


def soft_tissue(view: LateralChest) -> Field:
    """Return the attenuation of the body with airless lungs; the shoulders are the densest."""
    canvas, thorax, d = view.canvas, view.chest.thorax, view.depth
    generator = life(view.chest.case, "tissue")
    wall = 8 + 0.75 * thorax.fat
    bust = thorax.breast * 30
    front, back = -d - wall, d + 1.35 * wall
    outline: list[list[float]] = [
        [-20, -260],
        [-34, -190],
        [-0.45 * d - 0.5 * wall, -140],
        [-0.75 * d - wall, -80],
        [front - 0.6 * bust, -30],
        [front - bust, 18],
        [front - 0.3 * bust, 62],
        [front + 4, 130],
        [front + 2, 260],
        [back - 10, 260],
        [back - 18, 130],
        [back, 10],
        [back - 4, -70],
        [0.85 * d + wall, -130],
        [58, -185],
        [50, -260],
    ]
    torso = spline(outline)
    # Both arms are raised in front of the face.
    arms = spline([[-0.1 * d, -120], [-0.55 * d, -165], [-1.15 * d, -215], [-1.6 * d, -270]])
    mask = np.maximum(canvas.fill([torso]), 0.85 * canvas.fill([band(arms, 92)]))
    depth = canvas.blur(mask, 22)
    tissue = mask * (0.34 + 0.62 * depth * depth)
    low = 0.5 * (thorax.dome["R"] + thorax.dome["L"])
    tissue *= 0.84 + 0.32 * smoothstep(canvas.y, low - 40, low + 60)
    tissue += 0.3 * canvas.blob((0.1 * d, -150), (0.75 * d, 34), -12) * mask
    tissue += 0.018 * mask * canvas.clouds(generator, 45, 2)
    return tissue * thorax.bulk


def lung_air(view: LateralChest) -> Field:
    """Return the attenuation that air takes away: most behind the sternum and behind the heart."""
    canvas, thorax = view.canvas, view.chest.thorax
    mask = view.aerated
    depth = canvas.blur(mask, 15)
    apices = smoothstep(canvas.y, thorax.apex + 5, thorax.apex + 100)
    low = 0.5 * (thorax.dome["R"] + thorax.dome["L"])
    crowded = thorax.crowding * smoothstep(canvas.y, low - 90, low)
    air: Field = mask * (0.3 + 0.33 * depth) * (0.55 + 0.45 * apices) * (1 - crowded)
    return air


def mediastinum(view: LateralChest) -> tuple[Field, Field]:
    """Return how much of the lungs' air heart and vessels displace, and what they add or remove."""
    canvas, thorax, d = view.canvas, view.chest.thorax, view.depth
    low = 0.5 * (thorax.dome["R"] + thorax.dome["L"])
    radius = 0.78 * thorax.half_width * thorax.ctr
    # The heart lies on the diaphragm, against the sternum, and grows backwards.
    centre = (-0.9 * d + 1.02 * radius, low + 8 - 0.86 * radius)
    border = np.array(_HEART) * radius + np.array(centre)
    heart = canvas.blur(canvas.fill([spline(border, closed=True)]), 2.6)
    thick = canvas.blob((centre[0], centre[1] + 0.1 * radius), (0.75 * radius, 0.75 * radius))
    knob = thorax.aorta
    arch = spline(
        [
            [centre[0] + 2, centre[1] - 0.7 * radius],
            [-0.2 * d, -72],
            [0.08 * d, -90],
            [0.38 * d, -72],
            [0.52 * d, -20],
            [0.5 * d, low],
        ]
    )
    vessel = canvas.blur(canvas.fill([band(arch, 1.7 * knob)]), 3) * (1 - 0.9 * heart)
    behind = canvas.blob((-0.1 * d, -150), (0.4 * d, 40))
    displaced = np.clip(heart * (0.5 + 0.32 * thick) + 0.22 * vessel + 0.25 * behind, 0, 0.9)
    windpipe = spline([[0.0, -220], [0.06 * d, -130], [0.16 * d, -84], [0.2 * d, -48]])
    added = -0.13 * canvas.blur(canvas.fill([band(windpipe, 17)]), 1.8)
    added += 0.05 * vessel
    return displaced, added


def bones(view: LateralChest) -> Field:
    """Return the attenuation of spine, sternum and ribs."""
    canvas, thorax, d = view.canvas, view.chest.thorax, view.depth
    across = canvas.x - view.spine(canvas.y).astype(np.float32)
    gap = thorax.rib_gap + 2
    discs = np.cos(canvas.y * np.float32(2 * np.pi / gap))
    bodies = smoothstep(np.abs(across), 18, 14.5) * (0.6 + 0.4 * smoothstep(discs, -0.9, -0.35))
    arches = smoothstep(np.abs(across - 30), 16, 8) * smoothstep(discs, -0.3, 0.8)
    total = 0.19 * bodies + 0.07 * arches
    sternum = spline(
        [
            [-0.34 * d, thorax.apex + 18],
            [-0.72 * d, thorax.apex + 75],
            [-0.99 * d, thorax.apex + 140],
            [-1.03 * d, thorax.apex + 175],
        ]
    )
    total += 0.13 * canvas.fill([band(sternum, 11)])
    curves = []
    for side in (-1, 1):
        for number in range(10):
            y = thorax.apex + 4 + thorax.rib_gap * number
            back = float(view.spine(np.asarray(y))) + 12
            reach = -d * min(0.96, 0.2 + 0.16 * number)
            drop = 34 + 7.5 * number + 3 * side
            curves.append(
                np.array(
                    [
                        [back, y + 2 * side],
                        [0.5 * (back + d) + 4, y + 12],
                        [0.3 * d, y + 0.42 * drop],
                        [0.5 * reach, y + 0.82 * drop],
                        [reach, y + 1.05 * drop],
                    ]
                )
            )
    tubes = spline(np.stack(curves), steps=7)
    shell = canvas.fill(band(tubes, 9.5)) - 0.45 * canvas.fill(band(tubes, 5.0))
    total += 0.06 * shell
    return canvas.blur(total, 0.7) * thorax.bone


def vessels(view: LateralChest) -> Field:
    """Return the density of hila and vessels, about 0 to 1."""
    canvas, d = view.canvas, view.depth
    generator = life(view.chest.case, "vessels")
    hilum = np.array([0.14 * d, -38.0])
    angles = np.linspace(0, 2 * np.pi, 22, endpoint=False) + generator.normal(0, 0.12, 22)
    lengths = generator.uniform(45, 95, 22) * (1 + 0.3 * np.abs(np.sin(angles)))
    along = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    bend = np.stack([-along[:, 1], along[:, 0]], axis=1) * generator.normal(0, 7, 22)[:, None]
    starts = hilum + 7 * along
    ends = hilum + lengths[:, None] * along
    curves = spline(np.stack([starts, 0.5 * (starts + ends) + bend, ends], axis=1))
    taper = np.linspace(4.6, 0.8, curves.shape[-2])
    total = 0.5 * canvas.blur(canvas.fill(band(curves, taper)), 0.9)
    total += canvas.blob((float(hilum[0]), -36), (13, 19), -10)
    return total * view.chest.thorax.vascularity
