"""Affine maps, flips and tone curves of a policy as one warp and one table lookup per image.

Albumentations draws, warps and looks up for each transform and image by itself. Here a batch's
parameters are drawn at once, by the same formulas in the same order, from numbers that depend on
(seed, epoch, sample) alone; matrices are multiplied, tables looked up in one another. Given the
same uniform numbers both give the same pixels: equal for one affine map and any curves; where a
flip is multiplied in, within one grey value before the curves. Normalisation is no part of it: it
belongs to the network, which the bundle carries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["PLAIN_BORDER", "Fused", "Variation", "fuse", "uniforms"]

Floats = NDArray[np.float64]
Matrices = Callable[[Floats, int, int], Floats]
Tables = Callable[[Floats], NDArray[np.uint8]]

_LEVELS = np.arange(256, dtype=np.uint8)
PLAIN_BORDER = (cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, 0.0)
"""Interpolation, and what lies outside: albumentations' defaults."""


def uniforms(
    seed: int, epochs: NDArray[np.int64], keys: NDArray[np.uint64], count: int
) -> NDArray[np.float64]:
    """Draw `count` numbers from [0, 1) for each (seed, epoch, key).

    Every address seeds a SplitMix64 of its own (Steele, Lea and Flood, "Fast splittable
    pseudorandom number generators", OOPSLA 2014), of which these are the first outputs.

    Parameters
    ----------
    seed
        At least 0.
    epochs, keys
        Of shape (n,).

    Returns
    -------
    float64 array of shape (n, count)
    """
    address = _mix(np.array([seed], np.uint64))
    for part in (epochs.astype(np.uint64), keys):
        address = _mix(address + part)
    steps = np.arange(count, dtype=np.uint64) * _GOLDEN
    bits = _mix(address[:, None] + steps)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output of SplitMix64 after `state`."""
    z = state + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class _Step(NamedTuple):
    """One transform: how many numbers it takes, and what it makes of them.

    The first decides whether it is applied. `matrices` maps the others (n, draws - 1), a height
    and a width to (n, 3, 3); `tables` maps them to (n, 256). A step has one of the two.
    """

    p: float
    draws: int
    matrices: Matrices | None = None
    tables: Tables | None = None
    border: tuple[int, int, float] | None = None  # interpolation, border mode and its value


def fuse(transforms: Sequence[Any]) -> tuple[Fused, int]:
    """Return what does the first transforms of a policy in one go, and how many they are.

    Of albumentations' transforms those are: HorizontalFlip and at most one Affine (a second one
    would see what the first had cut off), then RandomBrightnessContrast and RandomGamma, with
    options that decide nothing by the pixels.
    """
    steps: list[_Step] = []
    for transform in transforms:
        step = _step(transform)
        if step is None or (step.matrices and any(done.tables for done in steps)):
            break
        if step.border and any(done.border for done in steps):
            break
        steps.append(step)
    return Fused(tuple(steps)), len(steps)


class Variation(NamedTuple):
    """What happens to n images.

    Attributes
    ----------
    matrices : float64 of shape (n, 3, 3), from the pixels of an image to those of its result
    tables : uint8 of shape (n, 256), what becomes of each grey value afterwards
    warped, toned : bool of shape (n,), where they are not just identities
    """

    matrices: Floats
    tables: NDArray[np.uint8]
    warped: NDArray[np.bool_]
    toned: NDArray[np.bool_]


class Fused:
    """The first transforms of a policy, applied to batches."""

    def __init__(self, steps: tuple[_Step, ...]) -> None:
        self.steps = steps
        self.draws = sum(step.draws for step in steps)
        borders = [step.border for step in steps if step.border]
        self.border = borders[0] if borders else PLAIN_BORDER

    def __call__(self, images: NDArray[np.uint8], numbers: Floats) -> NDArray[np.uint8]:
        """Return images (n, H, W) as varied by `numbers` from [0, 1), of shape (n, self.draws)."""
        return self.apply(images, self.variation(numbers, *images.shape[1:]))

    def variation(self, numbers: Floats, height: int, width: int) -> Variation:
        """Return what `numbers` mean for images of that size."""
        count = len(numbers)
        matrices = np.tile(np.eye(3), (count, 1, 1))
        tables = np.tile(_LEVELS, (count, 1))
        warped, toned = np.zeros(count, bool), np.zeros(count, bool)
        start = 0
        for step in self.steps:
            applied = numbers[:, start] < step.p
            drawn = numbers[applied, start + 1 : start + step.draws]
            start += step.draws
            if step.matrices is not None:
                matrices[applied] = step.matrices(drawn, height, width) @ matrices[applied]
                warped |= applied
            if step.tables is not None:
                before = tables[applied].astype(np.intp)
                tables[applied] = np.take_along_axis(step.tables(drawn), before, axis=1)
                toned |= applied
        return Variation(matrices, tables, warped, toned)

    def apply(self, images: NDArray[np.uint8], variation: Variation) -> NDArray[np.uint8]:
        """Return images (n, H, W) so varied."""
        interpolation, mode, value = self.border
        size = images.shape[:0:-1]
        result = np.empty_like(images)
        rows = zip(images, result, *variation, strict=True)
        for image, out, matrix, table, warped, toned in rows:
            if warped:
                cv2.warpAffine(image, matrix[:2], size, out, interpolation, mode, value)
            if toned:
                cv2.LUT(out if warped else image, table, out)
            elif not warped:
                out[:] = image
        return result


def _step(transform: Any) -> _Step | None:
    known: dict[str, Callable[[Any], _Step | None]] = {
        "HorizontalFlip": _flip,
        "Affine": _affine,
        "RandomBrightnessContrast": _brightness_contrast,
        "RandomGamma": _gamma,
    }
    make = known.get(type(transform).__name__)
    return make(transform) if make else None


def _between(number: Floats, limits: tuple[float, float]) -> Floats:
    low, high = limits
    return low + (high - low) * number


def _flip(transform: Any) -> _Step:
    def matrices(drawn: Floats, height: int, width: int) -> Floats:
        mirror = np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        return np.broadcast_to(mirror, (len(drawn), 3, 3))

    return _Step(transform.p, 1, matrices=matrices)


def _affine(transform: Any) -> _Step | None:
    shift, pixels = transform.translate_percent, transform.translate_px
    still = {"x": (0, 0), "y": (0, 0)}
    plain = isinstance(transform.fill, int | float)
    moves = shift is None and pixels != still
    if transform.fit_output or transform.balanced_scale or moves or not plain:
        return None
    shift = shift or still

    def matrices(drawn: Floats, height: int, width: int) -> Floats:
        by_x, by_y, shear_x, shear_y, scale_x, scale_y, angle = drawn.T
        centre, moved, shear, turn, scale = np.tile(np.eye(3), (5, len(drawn), 1, 1))
        middle = (width / 2 - 0.5, height / 2 - 0.5)
        centre[:, :2, 2] = np.negative(middle)
        scale[:, 0, 0] = _between(scale_x, transform.scale["x"])
        scale[:, 1, 1] = _between(scale_y, transform.scale["y"])
        if transform.keep_ratio:
            scale[:, 1, 1] = scale[:, 0, 0]
        radians = np.deg2rad(_between(angle, transform.rotate) % 360)
        turn[:, 0, 0] = turn[:, 1, 1] = np.cos(radians)
        turn[:, 0, 1], turn[:, 1, 0] = np.sin(radians), -np.sin(radians)
        shear[:, 0, 1] = np.tan(np.deg2rad(-_between(shear_x, transform.shear["x"])))
        shear[:, 1, 0] = np.tan(np.deg2rad(-_between(shear_y, transform.shear["y"])))
        # whole pixels, cut off towards zero
        moved[:, 0, 2] = np.trunc(_between(by_x, shift["x"]) * width) + middle[0]
        moved[:, 1, 2] = np.trunc(_between(by_y, shift["y"]) * height) + middle[1]
        return moved @ shear @ turn @ scale @ centre

    border = (transform.interpolation, transform.border_mode, float(transform.fill))
    return _Step(transform.p, 8, matrices=matrices, border=border)


def _brightness_contrast(transform: Any) -> _Step | None:
    if not transform.brightness_by_max or transform.ensure_safe_range:
        return None

    def tables(drawn: Floats) -> NDArray[np.uint8]:
        factor = (1.0 + _between(drawn[:, :1], transform.contrast_limit)).astype(np.float32)
        value = (_between(drawn[:, 1:], transform.brightness_limit) * 255).astype(np.float32)
        return np.clip(_LEVELS.astype(np.float32) * factor + value, 0, 255).astype(np.uint8)

    return _Step(transform.p, 3, tables=tables)


def _gamma(transform: Any) -> _Step:
    shares = np.arange(0, 256.0 / 255, 1.0 / 255)[:256]  # as albumentations divides, to the bit

    def tables(drawn: Floats) -> NDArray[np.uint8]:
        return (shares ** (_between(drawn, transform.gamma_limit) / 100) * 255).astype(np.uint8)

    return _Step(transform.p, 2, tables=tables)
