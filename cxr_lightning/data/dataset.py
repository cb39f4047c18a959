"""Batches from the cache: pixels, targets and rows, a function of addresses alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from cxr_lightning.data.cache import ImageCache
from cxr_lightning.data.resident import Recipe, recipe
from cxr_lightning.data.sampler import Address
from cxr_lightning.data.targets import Targets
from cxr_lightning.data.transforms import Augmentation

__all__ = ["Batch", "RadiographDataset"]


class Batch(TypedDict):
    """What a step gets.

    image : uint8 of shape (batch, 1, size, size), grey; where images stay on the device, `recipe`
        stands for it until the batch is there
    target : float32 of shape (batch, labels), 1, 0, NaN (unknown); in training also what the
        uncertainty policies make of an uncertain label
    row : int64 of shape (batch,), rows of the study table
    tabular : float32 of shape (batch, inputs), only where the network takes any
    """

    image: NotRequired[torch.Tensor]
    recipe: NotRequired[Recipe]
    target: torch.Tensor
    row: torch.Tensor
    tabular: NotRequired[torch.Tensor]


class RadiographDataset(Dataset[Batch]):
    """Whole batches by their addresses; the loader gets lists of addresses and collates nothing.

    Parameters
    ----------
    cache
        Decoded images.
    slots : int64 array of shape (rows,)
        Slot of each row's image in the cache.
    targets
        Of all rows.
    keys : uint64 array of shape (rows,)
        Keys of the samples' random streams.
    seed
        Seed of what is drawn for a target.
    augmentation
        Applied to each image, or None.
    tabular : float32 array of shape (rows, inputs)
        Inputs beside the image; none where `inputs` is 0.
    places : int64 array of shape (rows,)
        Where the images of rows are on the device; None: batches carry the images themselves.
    """

    def __init__(
        self,
        cache: ImageCache,
        slots: npt.NDArray[np.int64],
        targets: Targets,
        keys: npt.NDArray[np.uint64],
        *,
        seed: int,
        augmentation: Augmentation | None = None,
        tabular: npt.NDArray[np.float32] | None = None,
        places: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.cache = cache
        self.slots = slots
        self.targets = targets
        self.keys = keys
        self.seed = seed
        self.augmentation = augmentation
        self.places = places
        self.tabular = tabular if tabular is not None and tabular.shape[1] else None

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, addresses: Sequence[Address]) -> Batch:
        epochs, rows = np.array(addresses, dtype=np.int64).T
        batch = Batch(
            target=torch.from_numpy(
                self.targets.of(rows, seed=self.seed, epochs=epochs, keys=self.keys[rows])
            ),
            row=torch.from_numpy(rows),
        )
        if self.places is None:
            images = self.cache.read(self.slots[rows])
            if self.augmentation is not None:
                images = self.augmentation.batch(images, epochs=epochs, keys=self.keys[rows])
            batch["image"] = torch.from_numpy(images)[:, None]
        elif self.augmentation is not None:
            size = self.cache.shape[1]
            variation = self.augmentation.variation(epochs=epochs, keys=self.keys[rows], size=size)
            batch["recipe"] = recipe(self.places[rows], variation, size)
        if self.tabular is not None:
            batch["tabular"] = torch.from_numpy(self.tabular[rows])
        return batch
