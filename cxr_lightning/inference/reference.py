"""What the training images of a run look like to its network, for the bundle."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.evaluation.familiarity import Familiarity, fit_familiarity, thumbnails
from cxr_lightning.models.network import Network

__all__ = ["describe_training_images"]

MOST_IMAGES = 500  # of each split: the axes are 64 at most, the limit a quantile of 1 in 100
BATCH = 32


def describe_training_images(
    network: Network, data: ChestXrayDataModule, *, device: str | torch.device = "cpu"
) -> Familiarity | None:
    """Describe up to 500 training images, drawn by the run's seed; None where there are too few.

    The network comes back in evaluation mode, on the device it was on.
    """
    generator = np.random.default_rng(data.seed)
    before = next(network.parameters()).device
    network.eval().to(device)
    try:
        train, pictures = _features(network, data, "train", generator)
        validation, _ = _features(network, data, "val", generator)
    finally:
        network.to(before)
    return fit_familiarity(train, validation, pictures)


def _features(
    network: Network, data: ChestXrayDataModule, split: str, generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Features (n, F) and thumbnails (n, 64) of some images of a split, without augmentation."""
    rows = data.cohort.rows(split)
    if len(rows) > MOST_IMAGES:
        rows = np.sort(generator.choice(rows, MOST_IMAGES, replace=False))
    slots = data.cache.rows[rows]
    device = next(network.parameters()).device
    features, pictures = [], []
    for start in range(0, len(slots), BATCH):
        images = data.cache.read(slots[start : start + BATCH])
        with torch.inference_mode():
            found = network.features(torch.from_numpy(images)[:, None].to(device))
        features.append(found.float().cpu().numpy())
        pictures.append(thumbnails(images))
    return np.concatenate(features), np.concatenate(pictures)
