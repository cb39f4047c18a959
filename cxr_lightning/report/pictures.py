"""The pictures of examples: a radiograph as the network sees it, and the evidence for a label."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.bundle import Bundle
from cxr_lightning.data.cache import ImageCache
from cxr_lightning.explanation.overlays import overlay_for
from cxr_lightning.report.page import Picture

__all__ = ["heat_maps", "pictures"]


def pictures(table: pd.DataFrame, cache: ImageCache) -> Picture:
    """Return what gives the grey square of a sample of a study table; None: no such sample.

    Rows of the table are rows of the cache.
    """
    rows = pd.Series(np.arange(len(table)), index=table["sample_id"])

    def picture(sample: str, label: str) -> npt.NDArray[np.uint8] | None:
        if sample not in rows.index:  # a study of several images
            return None
        return cache.read([int(cache.rows[rows[sample]])])[0]

    return picture


def heat_maps(table: pd.DataFrame, cache: ImageCache, bundle: Bundle) -> Picture:
    """Return what gives the same square with the Grad-CAM of a label over it, in colour."""
    rows = pd.Series(np.arange(len(table)), index=table["sample_id"])
    plain = pictures(table, cache)
    tabular = bundle.info.tabular.encode(table)

    def picture(sample: str, label: str) -> npt.NDArray[np.uint8] | None:
        image = plain(sample, label)
        if image is None:
            return None
        inputs = tabular[[int(rows[sample])]] if tabular.shape[1] else None
        return overlay_for(bundle, image[None], [label], tabular=inputs)[0, 0]

    return picture
