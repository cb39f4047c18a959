"""The LightningDataModule of every data set: cohort, cache, loaders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from cxr_lightning.config.schema import AugmentConfig, DataConfig
from cxr_lightning.data.cache import ImageCache, open_cache
from cxr_lightning.data.cohort import Cohort, build_cohort, leave_out, refuse_leaks
from cxr_lightning.data.dataset import Batch, RadiographDataset
from cxr_lightning.data.order import EpochOrder, expected_uses, training_order
from cxr_lightning.data.resident import refuse_unfused, stays, to_device, vary
from cxr_lightning.data.sampler import BatchSampler
from cxr_lightning.data.tabular import TabularEncoder, fit_tabular
from cxr_lightning.data.targets import Targets, scored_targets, training_targets
from cxr_lightning.data.transforms import Augmentation, sample_keys
from cxr_lightning.errors import DataError, bullet_list
from cxr_lightning.labels import LabelSpace
from cxr_lightning.losses.weights import LabelCounts

__all__ = ["ChestXrayDataModule", "decode"]


def _images(config: DataConfig) -> dict[str, Any]:
    """Return what decides on the table and the pictures of a module."""
    later = ("batch_size", "workers", "residency", "sampling", "uncertain", "first_model")
    return config.model_dump(exclude={**dict.fromkeys(later, True), "image": {"mean", "std"}})


def decode(cohort: Cohort, config: DataConfig, *, progress: bool) -> ImageCache:
    """Return the cache of a cohort's images, after decoding what it lacks."""
    return open_cache(
        list(cohort.table["image_path"]),
        all_paths=list(cohort.all_images),
        image=config.image,
        cache_dir=config.cache_dir,
        progress=progress,
    )


class ChestXrayDataModule(LightningDataModule):
    """Radiographs with labels, from any data set that has a `read_studies`.

    Reading, splitting, auditing and caching are done by :meth:`read` and :meth:`prepare`, which the
    constructor does not call: a module can be made, and its configuration checked, without touching
    a file.

    Parameters
    ----------
    config
        The data set's own configuration; its `name` says which module reads it.
    augment
        Policy for training images.
    seed
        Seed of data order and augmentation.

    Attributes
    ----------
    tabular
        Makes the inputs beside the image, by statistics of the training part.
    targets
        What training aims at: the labels after the uncertainty policies.
    resident
        The training images, while they are on the device; None: batches bring them there.
    """

    tabular: TabularEncoder
    targets: Targets

    def __init__(self, config: DataConfig, augment: AugmentConfig, *, seed: int) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        self.augmentation = Augmentation(augment, seed=seed, size=config.image.size)
        self._cohort: Cohort | None = None
        self._cache: ImageCache | None = None
        self.resident: torch.Tensor | None = None
        refuse_unfused(config.residency, augment.name, self.augmentation.unfused)

    def read(self) -> Cohort:
        """Read, split and check the table, once; no image is opened.

        Raises
        ------
        ConfigError, DataError
            Everything that is wrong with the tables or the configuration.
        """
        if self._cohort is None:
            cohort = build_cohort(self.config)
            refuse_leaks(cohort, self.config.name)
            self._use(cohort)
        assert self._cohort is not None  # just set
        return self._cohort

    def prepare(self, *, progress: bool = False) -> Cohort:
        """Decode what the cache lacks, and refuse or leave out bad images; once.

        Raises
        ------
        ConfigError, DataError
            Before anything is trained.
        """
        cohort = self.read()
        if self._cache is None:
            cache = decode(cohort, self.config, progress=progress)
            if cache.bad:
                cohort, cache = self._without_bad(cohort, cache)
                self._use(cohort)
            if self.config.on_duplicate == "skip":
                cohort, cache = _without_duplicates(cohort, cache)
                self._use(cohort)
            refuse_leaks(cohort, self.config.name, cache.content_hash)
            self._cache = cache.held() if self.config.residency == "memory" else cache
        return cohort

    def reuse(self, other: ChestXrayDataModule) -> None:
        """Take over what another module has read and decoded, where both mean the same images.

        What they make of them, such as labels and inputs beside the image, may differ.
        """
        if other.serves(self.config):
            self._use(other.cohort)
            copied = self.config.residency == "memory" != other.config.residency
            self._cache = other.cache.held() if copied else other.cache

    def serves(self, config: DataConfig) -> bool:
        """Whether this module has read and decoded the images that a configuration means."""
        return self._cache is not None and _images(self.config) == _images(config)

    def _use(self, cohort: Cohort) -> None:
        self.tabular = fit_tabular(cohort.table, self.config.tabular, cohort.labels)
        self.targets = training_targets(cohort.table, cohort.labels, self.config, cohort.sources)
        self._cohort = cohort

    def _without_bad(self, cohort: Cohort, cache: ImageCache) -> tuple[Cohort, ImageCache]:
        reasons = [f"{path}: {reason}" for path, reason in cache.bad]
        if self.config.on_bad_image == "refuse":
            raise DataError(
                f"{len(reasons):,} of {len(cohort.table):,} images cannot be used:\n"
                f"{bullet_list(reasons, limit=50)}\n"
                "Restore them, or leave them out with data.on_bad_image=skip."
            )
        return _without(cohort, cache, cache.rows < 0, "missing or unreadable image")

    @property
    def cohort(self) -> Cohort:
        return self.prepare()

    @property
    def cache(self) -> ImageCache:
        self.prepare()
        assert self._cache is not None  # set by it
        return self._cache

    @property
    def labels(self) -> LabelSpace:
        return self.read().labels

    def label_counts(self) -> LabelCounts:
        """Return the label counts of an epoch of training, for weights.

        Those of the sampler's draws, on average: rare labels that it balances are not balanced a
        second time.
        """
        order = self.order()
        positives, negatives = self.targets.counts(order.rows, expected_uses(order))
        return LabelCounts(torch.from_numpy(positives), torch.from_numpy(negatives))

    def order(self) -> EpochOrder:
        """Return which training images an epoch uses, in which order."""
        cohort = self.read()
        rows = cohort.rows("train")
        return training_order(
            cohort.table,
            rows,
            self.targets.values[rows],
            self.labels,
            self.config.sampling,
            seed=self.seed,
        )

    def sampling(self) -> dict[str, float]:
        """Return how many images an epoch of training uses, and how many with each label."""
        order = self.order()
        positives, _ = self.targets.counts(order.rows, expected_uses(order))
        named = zip(self.labels.names, positives.tolist(), strict=True)
        return {"images": float(len(order))} | dict(named)

    def train_dataloader(self) -> DataLoader[Batch]:
        self.prepare()
        return self._loader(self.order(), self.targets, self.augmentation, self._settle())

    def _settle(self) -> npt.NDArray[np.int64] | None:
        """Copy the training images to the device, if they are to be there; return their places."""
        self.resident = None  # an earlier copy makes room
        if self.trainer is None:
            return None
        rows, device = self.cohort.rows("train"), self.trainer.strategy.root_device
        residency, unfused = self.config.residency, self.augmentation.unfused
        if not stays(residency, unfused, self.cache, len(rows), device):
            return None
        self.resident = to_device(self.cache, self.cache.rows[rows], device)
        places = np.full(len(self.cohort.table), -1)
        places[rows] = np.arange(len(rows))
        return places

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Called by Lightning once a batch is on the device: what is there joins it."""
        if self.resident is None or "recipe" not in batch:
            return batch
        whole = batch.copy()
        whole["image"] = vary(self.resident, whole.pop("recipe"))
        return whole

    def teardown(self, stage: str) -> None:
        """Called by Lightning after training: gives the device's memory back."""
        self.resident = None

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> DataLoader[Batch]:
        scored = scored_targets(self.cohort.table, self.labels)
        return self._loader(self.cohort.rows(split), scored, None)

    def _loader(
        self,
        rows: npt.NDArray[np.int64] | EpochOrder,
        targets: Targets,
        augmentation: Augmentation | None,
        places: npt.NDArray[np.int64] | None = None,
    ) -> DataLoader[Batch]:
        table = self.cohort.table
        sampler = BatchSampler(
            rows,
            batch_size=self.config.batch_size,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )
        dataset = RadiographDataset(
            self.cache,
            self.cache.rows,
            targets,
            sample_keys(table["sample_id"]),
            seed=self.seed,
            augmentation=augmentation,
            tabular=self.tabular.encode(table),
            places=places,
        )
        return DataLoader(
            dataset,
            sampler=sampler,  # yields whole batches
            batch_size=None,
            num_workers=self.config.workers,
            persistent_workers=self.config.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


def _without(
    cohort: Cohort, cache: ImageCache, bad: npt.NDArray[np.bool_], reason: str
) -> tuple[Cohort, ImageCache]:
    kept = replace(
        cache,
        rows=cache.rows[~bad],
        content_hash=cache.content_hash[~bad],
        source_shape=cache.source_shape[~bad],
        bad=(),
    )
    return leave_out(cohort, bad, reason), kept


def _without_duplicates(cohort: Cohort, cache: ImageCache) -> tuple[Cohort, ImageCache]:
    """Leave out what is also in a later split: the test set stays as it is."""
    place = cohort.table["split"].map({"train": 0, "val": 1, "test": 2}).to_numpy(np.int64)
    last = pd.Series(place).groupby(cache.content_hash).transform("max").to_numpy(np.int64)
    bad = place < last
    if not bad.any():
        return cohort, cache
    return _without(cohort, cache, bad, "identical pixels in a later split")
