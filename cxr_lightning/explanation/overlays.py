"""Heat maps over radiographs, as pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import matplotlib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_lightning.bundle import Bundle
from cxr_lightning.data.images import Box, Placement
from cxr_lightning.evaluation.localisation import on_picture
from cxr_lightning.explanation.heat_maps import Method, compute_heat_maps

__all__ = ["draw_boxes", "overlay", "overlay_for"]

OPACITY = 0.6
CYAN = (86, 235, 255)  # told apart from the heat and from grey by every kind of colour vision


def overlay(picture: ArrayLike, heat: ArrayLike) -> NDArray[np.uint8]:
    """Lay a heat map over a radiograph.

    The colours run from red to yellow (of matplotlib's "hot", which orders by lightness as well).
    The less heat, the more transparent: what carries no evidence stays a radiograph.

    Parameters
    ----------
    picture : uint8 array-like of shape (H, W)
    heat : array-like of shape (H, W), from 0 to 1

    Returns
    -------
    uint8 array of shape (H, W, 3), R, G, B
    """
    grey = np.asarray(picture, np.uint8)
    warmth = np.clip(np.asarray(heat, np.float64), 0, 1)
    colours = np.asarray(matplotlib.colormaps["hot"](0.3 + 0.45 * warmth))[..., :3] * 255
    opacity = (OPACITY * warmth)[..., None]
    return np.rint(grey[..., None] * (1 - opacity) + colours * opacity).astype(np.uint8)


def draw_boxes(picture: NDArray[np.uint8], boxes: Iterable[Sequence[float]]) -> NDArray[np.uint8]:
    """Return a copy of an R, G, B picture with boxes (x, y, width, height, in its pixels)."""
    drawn = np.ascontiguousarray(picture).copy()
    thick = max(1, round(max(picture.shape[:2]) / 256))
    for x, y, width, height in boxes:
        corners = (round(x), round(y)), (round(x + width) - 1, round(y + height) - 1)
        cv2.rectangle(drawn, *corners, (0, 0, 0), 2 * thick)  # an edge that shows on white
        cv2.rectangle(drawn, *corners, CYAN, thick)
    return drawn


def overlay_for(
    bundle: Bundle,
    images: NDArray[np.uint8],
    labels: Sequence[str] | None = None,
    method: Method = "gradcam",
    *,
    tabular: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Explain radiographs that are already the network's squares, e.g. for a report.

    Parameters
    ----------
    images : uint8 array of shape (n, size, size)
    labels
        Some of the bundle's; None: all.
    tabular : float32 array of shape (n, inputs)
        For a bundle that takes inputs beside the image.

    Returns
    -------
    uint8 array of shape (n, labels, size, size, 3), R, G, B
        Where a map is empty the radiograph shows as it is.

    Raises
    ------
    ConfigError
        A label that the bundle does not have, or a method that does not suit its network.
    """
    maps = compute_heat_maps(bundle.network, images, labels, method, tabular=tabular)
    size = images.shape[-1]
    square = Box(0, 0, size, size)
    heat = on_picture(maps.values, Placement(square, square), size, (size, size), (size, size))
    return np.stack(
        [[overlay(image, one) for one in row] for image, row in zip(images, heat, strict=True)]
    )
