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
from cxr_lightning.data.resident import Recipe, fits, recipe, stays, to_device, vary
from cxr_lightning.data.transforms import Augmentation
from cxr_lightning.errors import ConfigError

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("policy", ["none", "light", "standard"])
@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_the_device_draws_the_pixels_of_the_cpu(device: str, policy: str, flip: float) -> None:
    config = compose([f"augment={policy}", f"augment.horizontal_flip={flip}"])
    augmentation = Augmentation(config.augment, seed=4)
    generator = np.random.default_rng(0)
    grain = generator.normal(128, 200, (40, 64, 64))
    images = np.stack([cv2.GaussianBlur(one, (0, 0), 1.5) for one in grain])
    images = images.clip(0, 255).astype(np.uint8)
    place = generator.permutation(40)
    epochs, keys = np.full(40, 2), generator.integers(0, 2**64, 40, dtype=np.uint64)
    variation = augmentation.variation(epochs=epochs, keys=keys, size=64)
    there = Recipe(*(part.to(device) for part in recipe(place, variation, 64)))
    found = vary(torch.from_numpy(images).to(device), there).cpu()
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


def data_module(*words: str) -> ChestXrayDataModule:
    config = compose(words)
    return ChestXrayDataModule(config.data, config.augment, seed=1)


def batches(root: Path, *words: str, accelerator: str = "cpu") -> list[dict[str, Any]]:
    data = data_module("data=nih", f"data.root={root}", "data.image.size=64", *words)
    witness = Witness()
    trainer = Trainer(
        accelerator=accelerator,
        devices=1,
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
@pytest.mark.parametrize(
    ("residency", "workers", "accelerator"),
    [
        ("device", 0, "cpu"),
        ("device", 1, "cpu"),
        ("auto", 0, "cpu"),
        pytest.param("device", 1, "cuda", marks=pytest.mark.gpu),
        pytest.param("auto", 0, "cuda", marks=pytest.mark.gpu),
    ],
)
def test_training_sees_the_same_images(
    phantom_root: Path, residency: str, workers: int, accelerator: str
) -> None:
    disk = batches(phantom_root, "data.residency=disk")
    words = [f"data.residency={residency}", f"data.workers={workers}"]
    found = batches(phantom_root, *words, accelerator=accelerator)
    assert len(disk) == len(found) > 2
    for one, other in zip(disk, found, strict=True):
        assert one.keys() == other.keys()
        torch.testing.assert_close(one["row"], other["row"].cpu())
        torch.testing.assert_close(one["target"], other["target"].cpu(), equal_nan=True)
        difference = (one["image"].int() - other["image"].cpu().int()).abs()
        # On a CPU `auto` is `disk`.
        assert difference.max() <= (0 if (residency, accelerator) == ("auto", "cpu") else 2)
        assert (difference > 0).float().mean() < 1e-3
    assert (disk[0]["image"].float().std() > 10).item()


def test_a_run_in_memory_reads_no_file(phantom_root: Path, tmp_path: Path) -> None:
    words = ["data=nih", f"data.root={phantom_root}", "data.image.size=32"]
    data = data_module(*words, "data.residency=memory", f"data.cache_dir={tmp_path}")
    data.prepare()
    (pixels,) = tmp_path.rglob("pixels.u8")
    before = data.cache.read(data.cache.rows)
    pixels.write_bytes(bytes(pixels.stat().st_size))
    np.testing.assert_array_equal(data.cache.read(data.cache.rows), before)
    assert before.std() > 10
    # Copied as to a process that is started anew, which maps the file.
    assert not copy(data.cache).read(data.cache.rows).any()
    # Of memory that is taken already no second copy is made.
    for residency in ("memory", "disk"):
        again = data_module(*words, f"data.residency={residency}", f"data.cache_dir={tmp_path}")
        again.reuse(data)
        assert again.cache is data.cache


def test_memory_is_taken_for_the_images_of_another_module(
    phantom_root: Path, tmp_path: Path
) -> None:
    words = ["data=nih", f"data.root={phantom_root}", "data.image.size=32"]
    disk = data_module(*words, "data.residency=disk", f"data.cache_dir={tmp_path}")
    disk.prepare()
    memory = data_module(*words, "data.residency=memory", f"data.cache_dir={tmp_path}")
    memory.reuse(disk)
    (pixels,) = tmp_path.rglob("pixels.u8")
    pixels.write_bytes(bytes(pixels.stat().st_size))
    assert memory.cache.read(memory.cache.rows).std() > 10
    assert not disk.cache.read(disk.cache.rows).any()  # its own is left as it was


def test_a_policy_that_a_device_cannot_do() -> None:
    with pytest.raises(ConfigError) as error:
        data_module("augment=strong", "data.residency=device")
    assert str(error.value) == (
        "data.residency=device: augment=strong has GaussNoise, which only the CPU can do; use "
        "data.residency=auto, or another policy"
    )


def cache_of(folder: Path, size: int) -> ImageCache:
    none = np.zeros(0, np.int64)
    return ImageCache(folder, (0, size, size), none, none.astype(np.uint64), none, (), 0)


def free(monkeypatch: pytest.MonkeyPatch, there: int) -> torch.device:
    """Return a CUDA device that says so many bytes are free."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (there, 10 * there))
    return torch.device("cuda", 0)


def test_auto_takes_a_quarter_of_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, needed = cache_of(tmp_path, 8), 100 * 8 * 8
    roomy = free(monkeypatch, 4 * needed)
    assert fits(cache, 100, roomy)
    assert stays("auto", None, cache, 100, roomy)
    assert not stays("disk", None, cache, 100, roomy)
    assert not stays("memory", None, cache, 100, roomy)
    strong = compose(["augment=strong"])
    unfused = Augmentation(strong.augment, seed=0).unfused
    assert not stays("auto", unfused, cache, 100, roomy)
    tight = free(monkeypatch, 4 * needed - 1)
    assert not fits(cache, 100, tight)
    assert not stays("auto", None, cache, 100, tight)
    assert stays("device", None, cache, 100, tight)


def test_auto_leaves_a_cpu_run_on_its_disk(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    assert not fits(cache_of(tmp_path, 8), 1, cpu)
    assert not stays("auto", None, cache_of(tmp_path, 8), 1, cpu)


def test_a_device_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = np.zeros(1500, np.int64)
    with pytest.raises(ConfigError) as error:
        to_device(cache_of(tmp_path, 8), slots, free(monkeypatch, 95_999))
    assert str(error.value) == (
        "data.residency=device: 1,500 training images of 8 x 8 pixels take 96,000 bytes, and "
        "cuda:0 has 95,999 bytes free; use data.residency=auto, or a smaller data.image.size"
    )


@pytest.mark.gpu
def test_a_gpu_without_room(tmp_path: Path) -> None:
    device = torch.device("cuda", 0)
    count = torch.cuda.mem_get_info(device)[0] // 2048**2 + 1
    with pytest.raises(ConfigError, match=r"data.residency=device: .* use data.residency=auto"):
        to_device(cache_of(tmp_path, 2048), np.zeros(count, np.int64), device)
