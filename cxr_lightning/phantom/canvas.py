"""A square detector measured in millimetres of the patient: anti-aliased shapes, blur and noise.

Coordinates are millimetres in the patient's frontal plane: x grows towards the right of the picture
(the patient's left), y downwards, the origin on the spine at the middle of the thorax. All fields
are float32 of shape (size, size). Shapes are drawn directly at the output resolution, so a picture
of another size shows the same anatomy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Canvas", "Field", "Points", "band", "bounding_box", "smoothstep", "spline"]

Field = NDArray[np.floating[Any]]
"""float32 in practice, which NumPy's annotations lose under arithmetic with numbers."""
Points = NDArray[np.float64]

_SUBPIXEL_BITS = 4
_FAR = np.float32(9)


class Canvas:
    """Where the patient stands before the detector, and the means to draw there.

    Parameters
    ----------
    size
        Side of the picture in pixels.
    fov
        Side of the field of view in millimetres.
    centre
        The patient's point at the middle of the detector, in millimetres.
    tilt
        Rotation of the patient in the plane of the picture, in degrees.
    """

    def __init__(
        self, size: int, fov: float, centre: tuple[float, float] = (0.0, 0.0), tilt: float = 0.0
    ) -> None:
        self.size = size
        self.fov = fov
        self.scale = size / fov
        self._centre = np.asarray(centre, dtype=np.float64)
        cos, sin = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
        self._turn = np.array([[cos, -sin], [sin, cos]])
        self._back = self._turn.T / self.scale
        self._axis = np.arange(size) + 0.5 - size / 2
        self.x: Field = self._plane(self._back[0], self._centre[0])
        self.y: Field = self._plane(self._back[1], self._centre[1])

    def _plane(
        self,
        slopes: Points,
        offset: float,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> Field:
        """Return a field with slopes per column and per row, or a window of it."""
        across = (slopes[0] * self._axis[columns] + offset).astype(np.float32)
        down = (slopes[1] * self._axis[rows]).astype(np.float32)
        plane: Field = down[:, None] + across[None, :]
        return plane

    def to_pixels(self, points: ArrayLike) -> Points:
        """Map points (..., 2) in millimetres to pixel coordinates; a pixel's centre is whole."""
        moved = np.asarray(points, dtype=np.float64) - self._centre
        pixels: Points = moved @ self._turn.T * self.scale + (self.size / 2 - 0.5)
        return pixels

    def _fixed_point(self, points: ArrayLike) -> NDArray[np.int32]:
        pixels = np.clip(self.to_pixels(points), -4 * self.size, 5 * self.size)
        return np.rint(pixels * (1 << _SUBPIXEL_BITS)).astype(np.int32)

    def fill(self, polygons: Sequence[ArrayLike] | Points) -> Field:
        """Return the union of filled polygons, 0 to 1."""
        layer = np.zeros((self.size, self.size), np.uint8)
        for polygon in self._all_fixed_point(polygons):
            cv2.fillPoly(layer, [polygon], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        return layer.astype(np.float32) * np.float32(1 / 255)

    def _all_fixed_point(self, shapes: Sequence[ArrayLike] | Points) -> Sequence[NDArray[np.int32]]:
        if isinstance(shapes, np.ndarray):
            return list(self._fixed_point(shapes))
        return [self._fixed_point(shape) for shape in shapes]

    def stroke(
        self, lines: Sequence[ArrayLike] | Points, width: float, *, closed: bool = False
    ) -> Field:
        """Return lines of a width in millimetres; those thinner than a pixel become fainter."""
        layer = np.zeros((self.size, self.size), np.uint8)
        pixels = width * self.scale
        value = round(255 * min(1.0, max(pixels, 0.25)))
        cv2.polylines(
            layer,
            self._all_fixed_point(lines),
            closed,
            value,
            max(1, round(pixels)),
            cv2.LINE_AA,
            _SUBPIXEL_BITS,
        )
        return layer.astype(np.float32) * np.float32(1 / 255)

    def blur(self, field: Field, sigma: float) -> Field:
        """Blur by a Gaussian of `sigma` millimetres; wide ones are computed at lower resolution."""
        pixels = sigma * self.scale
        if pixels < 0.3:
            return field
        factor = 1
        while pixels / factor > 5 and self.size // (2 * factor) >= 16:
            factor *= 2
        coarse = self._resize(field, self.size // factor, cv2.INTER_AREA)
        sigma_coarse = pixels / factor
        cv2.GaussianBlur(coarse, (0, 0), sigma_coarse, coarse, 0, cv2.BORDER_REPLICATE)
        return self._resize(coarse, self.size, cv2.INTER_LINEAR)

    def _resize(self, field: Field, side: int, interpolation: int) -> Field:
        """Return a new field of another size."""
        if field.shape[0] == side:
            return field.copy()
        return np.asarray(cv2.resize(field, (side, side), interpolation=interpolation))

    def noise(self, generator: np.random.Generator, grain: float) -> Field:
        """Return smooth noise of mean 0 and variance about 1, its grain in millimetres."""
        cells = max(4, min(self.size, int(np.ceil(self.fov / grain)) + 1))
        coarse = generator.standard_normal((cells, cells), dtype=np.float32)
        if cells == self.size:
            return coarse
        # Interpolation averages neighbours, which lowers the variance.
        coarse *= np.float32(1.25)
        return self._resize(coarse, self.size, cv2.INTER_CUBIC)

    def clouds(self, generator: np.random.Generator, grain: float, octaves: int = 3) -> Field:
        """Return a pyramid of noise, each octave half as coarse and 0.6 times as strong."""
        power = sum(0.36**octave for octave in range(octaves))
        total = np.zeros((self.size, self.size), np.float32)
        for octave in range(octaves):
            layer = self.noise(generator, grain / 2**octave)
            layer *= np.float32(0.6**octave / np.sqrt(power))
            total += layer
        return total

    def ellipse(
        self, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0
    ) -> Field:
        """Return the squared normalised radius: 0 at the centre, 1 on the ellipse, 9 far outside.

        It is exact up to twice the radii; beyond, it is anything above 4.
        """
        window, inside = self._conic(centre, radii, angle, 2.0)
        field = np.full((self.size, self.size), _FAR, np.float32)
        field[window] = inside
        return field

    def blob(
        self, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0
    ) -> Field:
        """Return a Gaussian of peak 1 whose standard deviations are the radii, in millimetres."""
        window, inside = self._conic(centre, radii, angle, 3.5)
        field = np.zeros((self.size, self.size), np.float32)
        inside *= -0.5
        field[window] = np.exp(inside, out=inside)
        return field

    def _conic(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        angle: float,
        reach: float,
    ) -> tuple[tuple[slice, slice], Field]:
        """Return a window of `reach` radii, and the squared normalised radius inside it."""
        middle = self.to_pixels(centre)
        half = reach * max(radii) * self.scale
        low = np.clip(np.floor(middle - half), 0, self.size).astype(int)
        high = np.clip(np.ceil(middle + half) + 1, 0, self.size).astype(int)
        rows, columns = slice(low[1], high[1]), slice(low[0], high[0])
        cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        main = np.array([[cos, sin], [-sin, cos]]) / np.array(radii)[:, None]
        slopes = main @ self._back
        offsets = main @ (self._centre - np.asarray(centre, dtype=np.float64))
        u = self._plane(slopes[0], offsets[0], rows, columns)
        v = self._plane(slopes[1], offsets[1], rows, columns)
        u *= u
        v *= v
        u += v
        return (rows, columns), u


def smoothstep(field: Field, low: float, high: float) -> Field:
    """Rise smoothly from 0 at `low` to 1 at `high` (which may be below `low`)."""
    t = field * np.float32(1 / (high - low))
    t -= np.float32(low / (high - low))
    np.clip(t, 0, 1, out=t)
    rise = t * np.float32(-2)
    rise += 3
    rise *= t
    rise *= t
    return rise


def spline(
    points: ArrayLike | Sequence[Sequence[float]], *, closed: bool = False, steps: int = 6
) -> Points:
    """Return Catmull-Rom curves (..., n, 2) through control points (..., k, 2)."""
    knots = np.asarray(points, dtype=np.float64)
    first, last = knots[..., :1, :], knots[..., -1:, :]
    if closed:
        padded = np.concatenate([last, knots, knots[..., :2, :]], axis=-2)
    else:
        before, after = 2 * first - knots[..., 1:2, :], 2 * last - knots[..., -2:-1, :]
        padded = np.concatenate([before, knots, after], axis=-2)
    pieces = padded.shape[-2] - 3
    neighbours = np.stack([padded[..., i : i + pieces, :] for i in range(4)], axis=-2)
    curve = np.einsum("si,...pic->...psc", _catmull_rom(steps), neighbours)
    joined: Points = curve.reshape(*knots.shape[:-2], pieces * steps, 2)
    return joined if closed else np.concatenate([joined, last], axis=-2)


@lru_cache(maxsize=8)
def _catmull_rom(steps: int) -> Points:
    """Return the weights (steps, 4) of four neighbouring control points between the middle two."""
    t = np.arange(steps) / steps
    powers = np.stack([np.ones_like(t), t, t**2, t**3], axis=1)
    basis = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]])
    return powers @ basis


def band(curve: Points, width: ArrayLike) -> Points:
    """Return the polygons around curves (..., n, 2); `width` is a number or one for each point."""
    along = np.diff(curve, axis=-2)
    direction = np.concatenate([along[..., :1, :], along], axis=-2)
    direction[..., 1:-1, :] += along[..., 1:, :]
    length = np.maximum(np.hypot(direction[..., 0], direction[..., 1]), 1e-9)
    normal = np.stack([-direction[..., 1], direction[..., 0]], axis=-1) / length[..., None]
    half = (np.asarray(width, dtype=np.float64) * 0.5)[..., None]
    edges = [curve + half * normal, (curve - half * normal)[..., ::-1, :]]
    return np.concatenate(edges, axis=-2)


def bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Return (left, top, right, bottom) in pixels, right and bottom exclusive; None if empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
