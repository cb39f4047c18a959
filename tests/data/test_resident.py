"""Images on the device: the pixels of the CPU's path, through Lightning's own hooks."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from cxr_lightning.config.compose import compose
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.cache import ImageCache
from cxr_lightning.data.resident import fits, recipe, vary
from cxr_lightning.data.transforms import Augmentation
from cxr_lightning.errors import ConfigError


@pytest.mark.parametrize("policy", ["none", "light", "standard"])
@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_the_device_draws_the_pixels_of_the_cpu(policy: str, flip: float) -> None:
    config = compose([f"augment={policy}", f"augment.horizontal_flip={flip}"])
    augmentation = Augmentation(config.augment, seed=4)
    generator = np.random.default_rng(0)
    grain = generator.normal(128, 200, (40, 64, 64))
    images = np.stack([cv2.GaussianBlur(one, (0, 0), 1.5) for one in grain])
    images = images.clip(0, 255).astype(np.uint8)
    place = generator.permutation(40)
    epochs, keys = np.full(40, 2), generator.integers(0, 2**64, 40, dtype=np.uint64)
    variation = augmentation.variation(epochs=epochs, keys=keys, size=64)
    found = vary(torch.from_numpy(images), recipe(place, variation, 64))
    wanted = augmentation.batch(images[place], epochs=epochs, keys=keys)
    assert found.dtype == torch.uint8
    assert found.shape == (40, 1, 64, 64)
    # A level either side of a rounding, before the tone curve stretches it to at most 1.2 levels.
    difference = np.abs(found[:, 0].numpy().astype(int) - wanted)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 1e-3


class Witness(LightningModule):
    """Keeps all batches."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch)

    def configure_optimizers(self) -> None:
        return None


def batches(root: Path, *words: str) -> list[dict[str, Any]]:
    config = compose(["data=nih", f"data.root={root}", "data.image.size=64", *words])
    data = ChestXrayDataModule(config.data, config.augment, seed=1)
    witness = Witness()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(witness, datamodule=data)
    return witness.seen


@pytest.mark.filterwarnings("ignore:.*(many workers|logging interval|returned `None`)")
@pytest.mark.parametrize("workers", [0, 1])
def test_training_sees_the_same_images(phantom_root: Path, workers: int) -> None:
    disk = batches(phantom_root, "data.residency=disk")
    device = batches(phantom_root, "data.residency=device", f"data.workers={workers}")
    assert len(disk) == len(device) > 2
    for one, other in zip(disk, device, strict=True):
        assert one.keys() == other.keys()
        torch.testing.assert_close(one["row"], other["row"])
        torch.testing.assert_close(one["target"], other["target"], equal_nan=True)
        difference = (one["image"].int() - other["image"].int()).abs()
        assert difference.max() <= 2
        assert (difference > 0).float().mean() < 1e-3
    assert (disk[0]["image"].float().std() > 10).item()


def test_a_run_in_memory_reads_no_file(phantom_root: Path, tmp_path: Path) -> None:
    words = ["data=nih", f"data.root={phantom_root}", "data.image.size=32"]
    config = compose([*words, "data.residency=memory", f"data.cache_dir={tmp_path}"])
    data = ChestXrayDataModule(config.data, config.augment, seed=1)
    data.prepare()
    (pixels,) = tmp_path.rglob("pixels.u8")
    before = data.cache.read(data.cache.rows)
    pixels.write_bytes(bytes(pixels.stat().st_size))
    np.testing.assert_array_equal(data.cache.read(data.cache.rows), before)
    assert before.std() > 10
    # Copied as to a process that is started anew, which maps the file.
    assert not copy(data.cache).read(data.cache.rows).any()


def test_a_policy_that_a_device_cannot_do() -> None:
    config = compose(["augment=strong", "data.residency=device"])
    with pytest.raises(ConfigError) as error:
        ChestXrayDataModule(config.data, config.augment, seed=0)
    assert str(error.value) == (
        "data.residency=device: augment=strong has GaussNoise, which only the CPU can do; use "
        "data.residency=auto, or another policy"
    )


def test_auto_leaves_a_cpu_run_on_its_disk(tmp_path: Path) -> None:
    none = np.zeros(0, np.int64)
    cache = ImageCache(tmp_path, (0, 8, 8), none, none.astype(np.uint64), none, (), 0)
    assert not fits(cache, 1, torch.device("cpu"))
