"""Training images as augmentation shows them to the network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.transforms import sample_keys

__all__ = ["augmented_examples"]


def augmented_examples(
    data: ChestXrayDataModule, images: int, epochs: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return training images as they are and as the first epochs of training see them.

    Returns
    -------
    tuple of uint8 arrays
        Of shape (images, H, W) and (images, epochs, H, W): images spread over the training part,
        fewer where it has fewer.
    """
    rows = data.cohort.rows("train")
    chosen = rows[np.linspace(0, len(rows) - 1, min(images, len(rows))).astype(np.int64)]
    keys = sample_keys(data.cohort.table["sample_id"].iloc[chosen])
    originals = data.cache.read(data.cache.rows[chosen])
    seen = [
        data.augmentation.batch(originals, epochs=np.full(len(chosen), epoch), keys=keys)
        for epoch in range(epochs)
    ]
    return originals, np.stack(seen, axis=1)
