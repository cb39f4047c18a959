"""The pulmonary vessels: trees that branch from the hila and taper towards the pleura."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr_lightning.phantom.anatomy import SIGN
from cxr_lightning.phantom.canvas import Field
from cxr_lightning.phantom.cases import Side
from cxr_lightning.phantom.effects import Chest

__all__ = ["vessels"]

_WIDTHS = (5.4, 3.2, 2.0)
_SIDES: tuple[Side, Side] = ("R", "L")


def vessels(chest: Chest, generator: np.random.Generator, upper: float = 0.0) -> Field:
    """Return the density of vessels and hila, about 0 to 1.

    Parameters
    ----------
    upper
        Dilatation of the upper-lobe vessels, 0 to 1: diversion of flow upwards is the first sign of
        a raised left atrial pressure.
    """
    canvas = chest.canvas
    layers = {width: np.zeros((canvas.size, canvas.size), np.uint8) for width in _WIDTHS}
    for side in _SIDES:
        for width, lines in _tree(chest, side, generator, upper):
            pixels = width * canvas.scale
            cv2.polylines(
                layers[width],
                list(np.rint(canvas.to_pixels(lines) * 16).astype(np.int32)),
                False,
                round(255 * min(1.0, max(0.3, 0.8 * pixels))),
                max(1, round(pixels)),
                cv2.LINE_AA,
                4,
            )
    total = np.zeros_like(canvas.x)
    for width, layer in layers.items():
        total += (0.12 + 0.1 * width) * canvas.blur(layer.astype(np.float32), 0.28 * width)
    total *= chest.thorax.vascularity / 255
    for side in _SIDES:
        x, y = chest.hilum(side)
        strength = 1.15 + 0.5 * upper
        total += strength * canvas.blob((x, y), (9, 14), SIGN[side] * -15)
        total += (
            0.8 * strength * canvas.blob((x + SIGN[side] * 6, y + 26), (6, 18), SIGN[side] * -18)
        )
    return total


def _tree(
    chest: Chest, side: Side, generator: np.random.Generator, upper: float
) -> Iterator[tuple[float, NDArray[np.float64]]]:
    """Yield branches (n, 3, 2) of one lung with their width, from the trunks outwards."""
    x, y = chest.hilum(side)
    trunks = 10
    # Degrees from lateral; positive points down.
    angles = np.linspace(-82, 84, trunks) + generator.normal(0, 5, trunks)
    reach = (chest.thorax.half_width - abs(x)) / 100
    starts = np.stack(
        [x + SIGN[side] * 4 * np.cos(np.deg2rad(angles)), y + 16 * np.sin(np.deg2rad(angles))],
        axis=1,
    )
    lengths = generator.uniform(24, 36, trunks) * (1 + 0.25 * np.sin(np.deg2rad(angles)))
    for generation in range(5):
        turn = np.deg2rad(angles)
        step = np.stack([SIGN[side] * np.cos(turn), np.sin(turn)], axis=1)
        ends = starts + reach * lengths[:, None] * step
        middles = 0.5 * (starts + ends) + generator.normal(0, 1.3, starts.shape)
        lines = np.stack([starts, middles, ends], axis=1)
        upwards = angles < -10
        dilated = upwards & (generator.random(len(angles)) < upper)
        rank = np.clip(generation + upwards * 1 - dilated * 1, 0, len(_WIDTHS) - 1)
        for index, width in enumerate(_WIDTHS):
            if (rank == index).any():
                yield width, lines[rank == index]
        fork = generator.uniform(9, 30, (len(angles), 2)) * (-1, 1)
        angles = (angles[:, None] + fork).ravel()
        starts = np.repeat(ends, 2, axis=0)
        lengths = np.repeat(lengths, 2) * generator.uniform(0.62, 0.95, 2 * len(lengths))
        if generation >= 2:
            keep = generator.random(len(angles)) < 0.7
            angles, starts, lengths = angles[keep], starts[keep], lengths[keep]
