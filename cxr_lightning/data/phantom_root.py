"""`data.root=phantom`: a synthetic data set in the layout of the real one, made on first use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from cxr_lightning.config.schema import DataConfig, Section
from cxr_lightning.data.storage import cache_home

__all__ = ["PhantomSize", "phantom_folder", "phantom_name"]


class PhantomSize(Section):
    """The synthetic data set that data.root=phantom stands for."""

    images: int = Field(1000, ge=40, le=1_000_000, description="How many radiographs to make.")
    seed: int = Field(0, ge=0, description="Seed of patients, findings and pixels.")
    pixels: int = Field(256, ge=32, le=1024, description="Side of the radiographs, in pixels.")


def phantom_folder(
    config: DataConfig, size: PhantomSize, write: Callable[..., None], *, version: int = 1
) -> Path:
    """Return the folder of the phantom in the layout of `config.name`; it is written if need be."""
    folder = phantom_name(config, size, version=version)
    write(folder, images=size.images, seed=size.seed, size=size.pixels)
    return folder


def phantom_name(config: DataConfig, size: PhantomSize, *, version: int = 1) -> Path:
    """Return where that folder is, or will be; each version of a layout has one of its own."""
    name = f"phantom-{config.name}-{size.images}x{size.pixels}-seed{size.seed}"
    return cache_home(config.cache_dir) / (f"{name}-v{version}" if version > 1 else name)
