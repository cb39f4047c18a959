"""Heat maps against boxes: where a network looked, and where the radiologist drew.

Everything is compared in the space in which the boxes are given (for NIH ChestX-ray14 1024 x 1024
pixels, whatever the size of the files), never in the network's square: a heat map is drawn onto
that space first, so that neither the input size nor padding, cropping or stretching matters.

The rules are those of Wang et al., "ChestX-ray8", CVPR 2017, section 4.3: a heat map is scaled to
0..255 and cut at 60 and at 180; each isolated region of either cut gives a box. A drawn box is hit
where one of them has IoU, or IoBB (intersection over the detected box), above T. The pointing game
(Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016; here without a
tolerance) asks whether the hottest point lies in a drawn box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from cxr_lightning.evaluation.calibration import wilson_interval

if TYPE_CHECKING:
    from cxr_lightning.data.images import Placement

__all__ = [
    "ALL",
    "CUTS",
    "OVERLAPS",
    "Localised",
    "hottest_point",
    "localisation_table",
    "localise",
    "on_picture",
    "overlaps",
    "regions",
]

CUTS = (60 / 255, 180 / 255)
OVERLAPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
ALL = "all labels"
COLUMNS = (
    *("label", "measure", "threshold", "hits", "n", "share", "low", "high"),
    *("false_per_image", "chance", "other_images", "images", "empty_maps"),
)
EIGHT_NEIGHBOURS = np.ones((3, 3))

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Localised:
    """What the heat map of one label says about one image that has boxes of it.

    Attributes
    ----------
    boxes : float64 of shape (boxes, 4), as drawn: x, y, width, height.
    iou, iobb : float64 of shape (boxes, detected), between each drawn and each detected box.
    point : x, y of the hottest point, or None where the map is empty: everything is missed.
    chance : share of the picture that the boxes cover, which is the chance of a random point.
    """

    boxes: Floats
    iou: Floats
    iobb: Floats
    point: tuple[float, float] | None
    chance: float


def on_picture(
    heat: ArrayLike,
    placed: Placement,
    size: int,
    picture: tuple[int, int],
    space: tuple[int, int],
) -> NDArray[np.float32]:
    """Draw a heat map over the network's square onto a picture.

    Parameters
    ----------
    heat : array-like of shape (..., h, w)
        Cells that divide the square evenly.
    placed
        How the picture lies in the square (:func:`cxr_lightning.data.images.placement`).
    size
        Side of the square.
    picture
        Height and width of the picture, in its own pixels.
    space
        Height and width of the result, over all of the picture.

    Returns
    -------
    float32 array of shape (..., *space)
        Linear between the cells' centres; 0 where the picture lies outside the square (cropped).
    """
    source, target = placed
    values = np.asarray(heat, np.float64)
    rows = _weights(
        values.shape[-2],
        size,
        (source.top, source.height),
        (target.top, target.height),
        picture[0] / space[0] * (np.arange(space[0]) + 0.5),
    )
    columns = _weights(
        values.shape[-1],
        size,
        (source.left, source.width),
        (target.left, target.width),
        picture[1] / space[1] * (np.arange(space[1]) + 0.5),
    )
    return (rows @ values @ columns.T).astype(np.float32)


def _weights(
    cells: int, size: int, source: tuple[int, int], target: tuple[int, int], at: NDArray
) -> Floats:
    """Linear weights (len(at), cells) of the cells at coordinates `at` along one axis."""
    square = target[0] + (at - source[0]) * target[1] / source[1]
    position = np.clip(square * cells / size - 0.5, 0, cells - 1)
    low = np.minimum(position.astype(int), max(cells - 2, 0))
    row = np.arange(len(at))
    weights = np.zeros((len(at), cells))
    weights[row, low] = 1 - (position - low)
    if cells > 1:
        weights[row, low + 1] = position - low
    weights[(at < source[0]) | (at >= source[0] + source[1])] = 0
    return weights


def regions(heat: ArrayLike, *, cuts: Sequence[float] = CUTS) -> Floats:
    """Return the boxes around the isolated regions of a heat map (H, W).

    A region is what hangs together, corners included, at or above a cut, which is a share of the
    way from the map's minimum to its maximum.

    Returns
    -------
    float64 array of shape (detected, 4)
        x, y, width, height; none where the map is constant, in particular zero.
    """
    values = np.asarray(heat, np.float64)
    low, high = values.min(), values.max()
    found: set[tuple[int, int, int, int]] = set()
    if high > low:
        for cut in cuts:
            parts, _ = ndimage.label(values >= low + cut * (high - low), EIGHT_NEIGHBOURS)
            for rows, columns in ndimage.find_objects(parts):
                size = columns.stop - columns.start, rows.stop - rows.start
                found.add((columns.start, rows.start, *size))
    return np.array(sorted(found), np.float64).reshape(-1, 4)


def overlaps(drawn: ArrayLike, detected: ArrayLike) -> tuple[Floats, Floats]:
    """Return IoU and IoBB of all pairs: two arrays of shape (drawn, detected).

    Boxes are x, y, width, height. IoBB divides by the area of the detected box.
    """
    a = np.asarray(drawn, np.float64).reshape(-1, 1, 4)
    b = np.asarray(detected, np.float64).reshape(1, -1, 4)
    sides = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(
        a[..., :2], b[..., :2]
    )
    shared = np.clip(sides, 0, None).prod(axis=-1)
    area_a, area_b = a[..., 2:].prod(axis=-1), b[..., 2:].prod(axis=-1)
    return shared / (area_a + area_b - shared), shared / area_b


def hottest_point(heat: ArrayLike) -> tuple[float, float] | None:
    """Return x, y of the hottest point of a map (H, W); None where the map is constant.

    Maps of few cells are flat at their maximum where it lies at an edge: of all points that are as
    hot (to 1 part in a million of the range) the one nearest to their mean is taken.
    """
    values = np.asarray(heat, np.float64)
    low, high = values.min(), values.max()
    if not high > low:
        return None
    rows, columns = np.nonzero(values >= high - 1e-6 * (high - low))
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5


def localise(heat: ArrayLike, boxes: ArrayLike, *, cuts: Sequence[float] = CUTS) -> Localised:
    """Compare one heat map (H, W) with the boxes (n, 4) drawn in the same space."""
    values = np.asarray(heat, np.float64)
    drawn = np.asarray(boxes, np.float64).reshape(-1, 4)
    iou, iobb = overlaps(drawn, regions(values, cuts=cuts))
    covered = np.zeros(values.shape, bool)
    for x, y, width, height in drawn:
        covered[_pixels(y, height, values.shape[0]), _pixels(x, width, values.shape[1])] = True
    return Localised(drawn, iou, iobb, hottest_point(values), float(covered.mean()))


def _pixels(start: float, length: float, limit: int) -> slice:
    return slice(max(round(start), 0), min(round(start + length), limit))


def localisation_table(
    found: Mapping[str, Sequence[Localised]],
    *,
    thresholds: Sequence[float] = OVERLAPS,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return a row per label, measure and threshold, and the same over all labels.

    Parameters
    ----------
    found
        The images with boxes of each label; an empty sequence gives rows of NaN with n = 0.
    level
        Level of the Wilson intervals. They take images as independent.

    Returns
    -------
    DataFrame
        `label`, `measure` (IoU, IoBB, pointing), `threshold` (NaN for pointing), `hits`, `n` (boxes
        for IoU and IoBB, images for pointing), `share` with `low` and `high`; `false_per_image`,
        the detected boxes per image that overlap no drawn one so much; for pointing `chance` (of a
        point anywhere) and `other_images` (share of hits of the hottest points of the label's other
        images: what a network that always looks at the usual place gets); `images` and
        `empty_maps`, of which nothing can be hit.
    """
    rows = []
    everything = [one for images in found.values() for one in images]
    for label, images in [*found.items(), (ALL, everything)]:
        common = {
            "label": label,
            "images": len(images),
            "empty_maps": sum(one.point is None for one in images),
        }
        rows += [
            common | _overlap_row(images, measure, threshold)
            for measure in ("IoU", "IoBB")
            for threshold in thresholds
        ]
        others = _of_others(images) if label != ALL else _mean_of_others(found)
        rows.append(common | _pointing_row(images) | {"other_images": others})
    table = pd.DataFrame(rows)
    low, high = wilson_interval(table["share"].to_numpy(), table["n"].to_numpy(), level=level)
    table = table.assign(low=low, high=high)
    return table[list(COLUMNS)]


def _overlap_row(images: Sequence[Localised], measure: str, threshold: float) -> dict[str, object]:
    scores = [one.iou if measure == "IoU" else one.iobb for one in images]
    hits = sum(int((score > threshold).any(axis=1).sum()) for score in scores)
    n = sum(len(score) for score in scores)
    false = sum(int((~(score > threshold).any(axis=0)).sum()) for score in scores)
    return {
        "measure": measure,
        "threshold": threshold,
        "hits": hits,
        "n": n,
        "share": hits / n if n else np.nan,
        "false_per_image": false / len(images) if images else np.nan,
        "chance": np.nan,
        "other_images": np.nan,
    }


def _pointing_row(images: Sequence[Localised]) -> dict[str, object]:
    hits = sum(one.point is not None and _inside(one.point, one.boxes) for one in images)
    return {
        "measure": "pointing",
        "threshold": np.nan,
        "hits": hits,
        "n": len(images),
        "share": hits / len(images) if images else np.nan,
        "false_per_image": np.nan,
        "chance": float(np.mean([one.chance for one in images])) if images else np.nan,
    }


def _of_others(images: Sequence[Localised]) -> float:
    points = [(i, one.point) for i, one in enumerate(images) if one.point is not None]
    hits = [
        _inside(point, one.boxes) for i, one in enumerate(images) for j, point in points if i != j
    ]
    return float(np.mean(hits)) if hits else np.nan


def _mean_of_others(found: Mapping[str, Sequence[Localised]]) -> float:
    """Over labels by their images; those with a single one have no others."""
    shares = np.array([_of_others(images) for images in found.values()])
    weights = np.array([len(images) for images in found.values()], np.float64)
    known = ~np.isnan(shares)
    return float(np.average(shares[known], weights=weights[known])) if known.any() else np.nan


def _inside(point: tuple[float, float], boxes: Floats) -> bool:
    x, y = point
    left, top, width, height = boxes.T
    return bool(((left <= x) & (x < left + width) & (top <= y) & (y < top + height)).any())
