"""Synthetic chest radiographs in NIH's layout: the embedded default. Of no clinical meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data import nih
from cxr_lightning.data.reading import Reading
from cxr_lightning.data.storage import cache_home

__all__ = ["Config", "boxes_folder", "read_studies"]


class Config(DataConfig):
    """Synthetic radiographs."""

    root: Path | None = Field(
        None, description="Folder to write them to; none named: one in ~/.cache/cxr_lightning."
    )
    split: Literal["official", "patient"] = Field(
        "official",
        description="official: the phantom's own test list, validation cut by patient; patient: "
        "all three are cut anew.",
    )
    images: int = Field(2000, ge=20, le=1_000_000, description="How many radiographs to make.")
    phantom_seed: int = Field(0, ge=0, description="Seed of patients, findings and pixels.")
    pixels: int = Field(256, ge=64, le=1024, description="Side of the radiographs, in pixels.")


def read_studies(config: Config) -> Reading:
    """Write the radiographs where they are not there yet, and read them as NIH's are read."""
    # The drawing code imports OpenCV; `--help` reads this file for its fields only.
    from cxr_lightning.phantom import write_phantom

    root = boxes_folder(config)
    write_phantom(root, images=config.images, seed=config.phantom_seed, size=config.pixels)
    shared = set(nih.Config.model_fields) & set(Config.model_fields)
    fields = {key: getattr(config, key) for key in shared}
    return nih.read_studies(nih.Config(**(fields | {"root": root})))


def boxes_folder(config: Config) -> Path:
    """Return the folder of the radiographs, which holds their boxes too."""
    name = f"phantom-{config.images}x{config.pixels}-seed{config.phantom_seed}"
    return config.root or cache_home(config.cache_dir) / name
