"""Training images that stay on the device as bytes, and are varied there.

The drawn numbers, and what they mean, are those of :mod:`cxr_lightning.data.fused`; only warp and
table are computed by torch. Its warp differs from OpenCV's by at most one grey value, in a pixel of
a thousand; the table makes of that as much as it makes of neighbouring grey values, which is two at
most with the shipped policies, and more with a steep curve such as a gamma of 0.6.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import affine_grid, grid_sample

from cxr_lightning.data.cache import ImageCache
from cxr_lightning.data.fused import Variation
from cxr_lightning.errors import ConfigError

__all__ = ["Recipe", "fits", "recipe", "refuse_unfused", "stays", "to_device", "vary"]

CHUNK = 1024  # images that are copied at once
SHARE = 0.25  # of a device's free memory that `auto` takes; steps, and another trial, need more


class Recipe(NamedTuple):
    """What a batch's images are made of on the device.

    Attributes
    ----------
    place : int64 of shape (batch,), rows of the images on the device
    maps : float32 of shape (batch, 2, 3), from the result's coordinates to the image's, both from
        -1 (centre of the first pixel) to 1 (of the last), as `affine_grid` takes them
    tables : uint8 of shape (batch, 256)
    """

    place: torch.Tensor
    maps: torch.Tensor
    tables: torch.Tensor


def recipe(place: NDArray[np.int64], variation: Variation, size: int) -> Recipe:
    """Return the recipe of square images of side `size`."""
    to_pixels = np.array([[1.0, 0, 1], [0, 1, 1], [0, 0, 2 / (size - 1)]]) * (size - 1) / 2
    maps = np.linalg.inv(to_pixels) @ np.linalg.inv(variation.matrices) @ to_pixels
    return Recipe(
        torch.from_numpy(place),
        torch.from_numpy(maps[:, :2].astype(np.float32)),
        torch.from_numpy(variation.tables),
    )


def vary(images: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Return a batch, uint8 (batch, 1, H, W), from all images, uint8 (n, H, W)."""
    chosen = images[recipe.place][:, None]
    grid = affine_grid(recipe.maps, list(chosen.shape), align_corners=True)
    warped = grid_sample(chosen.float(), grid, padding_mode="zeros", align_corners=True)
    levels = warped.round_().clamp_(0, 255).long().flatten(1)
    return recipe.tables.gather(1, levels).view_as(chosen)


def to_device(cache: ImageCache, slots: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    """Copy slots of a cache to a device: uint8 of shape (len(slots), size, size).

    Raises
    ------
    ConfigError
        A CUDA device has no room for them.
    """
    if device.type == "cuda":
        needed, free = _room(cache, len(slots), device)
        if needed > free:
            raise ConfigError(
                f"data.residency=device: {len(slots):,} training images of {cache.shape[1]} x "
                f"{cache.shape[2]} pixels take {needed:,} bytes, and {device} has {free:,} bytes "
                "free; use data.residency=auto, or a smaller data.image.size"
            )
    images = torch.empty((len(slots), *cache.shape[1:]), dtype=torch.uint8, device=device)
    for start in range(0, len(slots), CHUNK):
        part = slots[start : start + CHUNK]
        images[start : start + len(part)] = torch.from_numpy(cache.read(part))
    return images


def refuse_unfused(residency: str, policy: str, unfused: str | None) -> None:
    """Refuse `residency=device` for a policy that has a transform which devices cannot do.

    Raises
    ------
    ConfigError
        There is one.
    """
    if residency == "device" and unfused:
        raise ConfigError(
            f"data.residency=device: augment={policy} has {unfused}, which only the CPU can do; "
            "use data.residency=auto, or another policy"
        )


def stays(
    residency: str, unfused: str | None, cache: ImageCache, count: int, device: torch.device
) -> bool:
    """Whether `residency` means that so many training images stay on the device."""
    if residency == "auto":
        return unfused is None and fits(cache, count, device)
    return residency == "device"


def fits(cache: ImageCache, count: int, device: torch.device) -> bool:
    """Whether so many images take at most a quarter of a CUDA device's free memory; others: no."""
    if device.type != "cuda":
        return False
    needed, free = _room(cache, count, device)
    return needed <= SHARE * free


def _room(cache: ImageCache, count: int, device: torch.device) -> tuple[int, int]:
    """Return the bytes that so many images take, and those that a CUDA device has free."""
    torch.cuda.empty_cache()  # what torch keeps of an earlier fit is free as well
    free, _ = torch.cuda.mem_get_info(device)
    return count * cache.shape[1] * cache.shape[2], free
