"""Others' loaders, as their own documentation shows them, for the same files at 224 pixels.

Each function returns a DataLoader; augmentation, where there is any, turns by 10 degrees, shifts by
5 % and zooms by 10 % in eight of ten images, and changes the exposure by 20 % in five of ten, as
`augment=standard` does. MONAI's shifts nothing, and changes the exposure by a gamma.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations
import cv2
import torch
import torchxrayvision as xrv
from monai.data import CacheDataset, PersistentDataset, ThreadDataLoader
from monai.transforms import (
    Compose,
    EnsureChannelFirst,
    LoadImage,
    RandAdjustContrast,
    RandRotate,
    RandZoom,
    Resize,
    ScaleIntensity,
)
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

SIZE = 224


class Files(Dataset[Any]):
    """The usual dataset of a list of files: open, transform."""

    def __init__(self, paths: list[Path], read: Callable[[Path], Any]) -> None:
        self.paths, self.read = paths, read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return self.read(self.paths[index])


def loader(dataset: Any, workers: int) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_size=32,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
        worker_init_fn=one_thread,
    )


def one_thread(worker: int) -> None:
    """As Albumentations' page on performance asks; torch does the same for its own threads."""
    cv2.setNumThreads(0)


def torchxrayvision(root: Path, workers: int, engine: str) -> DataLoader[Any]:
    """https://github.com/mlmed/torchxrayvision, "dataset tools"; no augmentation there."""
    transform = transforms.Compose(
        [xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(SIZE, engine=engine)]
    )
    dataset = xrv.datasets.NIH_Dataset(
        imgpath=str(root / "images"),
        csvpath=str(root / "Data_Entry_2017.csv"),
        views=["PA", "AP"],
        unique_patients=False,
        transform=transform,
    )
    return loader(dataset, workers)


def monai(
    root: Path, workers: int, *, cache: Path | None = None, threaded: bool = False
) -> DataLoader[Any]:
    """MONAI's MedNIST tutorial with a resize; CacheDataset, or PersistentDataset in `cache`.

    `threaded`: by the loader of https://github.com/Project-MONAI/tutorials,
    acceleration/fast_model_training_guide.md: what is cached need not pass between processes.
    """
    transform = Compose(
        [
            LoadImage(image_only=True),
            EnsureChannelFirst(),
            Resize((SIZE, SIZE)),
            ScaleIntensity(),
            RandRotate(range_x=0.17, prob=0.8, keep_size=True),
            RandZoom(min_zoom=0.9, max_zoom=1.1, prob=0.8),
            RandAdjustContrast(prob=0.5, gamma=(0.8, 1.25)),
        ]
    )
    paths = [str(path) for path in sorted((root / "images").iterdir())]
    if cache is not None:
        return loader(PersistentDataset(paths, transform, cache_dir=cache), workers)
    held = CacheDataset(paths, transform, num_workers=workers, progress=False)
    if threaded:
        return ThreadDataLoader(held, batch_size=32, shuffle=True, num_workers=0)
    return loader(held, workers)


def torchvision(root: Path, workers: int) -> DataLoader[Any]:
    """torchvision's "Getting started with transforms v2", on PIL as its datasets open images."""
    transform = v2.Compose(
        [
            v2.Resize((SIZE, SIZE)),
            v2.RandomApply([v2.RandomAffine(10, translate=(0.05, 0.05), scale=(0.9, 1.1))], p=0.8),
            v2.RandomApply([v2.ColorJitter(brightness=0.2, contrast=0.2)], p=0.5),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean=[0.449], std=[0.226]),
        ]
    )

    def read(path: Path) -> Any:
        with Image.open(path) as image:
            return transform(image.convert("L"))

    return loader(Files(sorted((root / "images").iterdir()), read), workers)


def by_albumentations(root: Path, workers: int) -> DataLoader[Any]:
    """Albumentations' "PyTorch classification" example: cv2.imread, Compose, ToTensorV2."""
    transform = albumentations.Compose(
        [
            albumentations.Resize(SIZE, SIZE, interpolation=cv2.INTER_AREA),
            albumentations.Affine(
                rotate=(-10, 10), translate_percent=(-0.05, 0.05), scale=(0.9, 1.1), p=0.8
            ),
            albumentations.RandomBrightnessContrast(0.2, 0.2, p=0.5),
            albumentations.Normalize(mean=0.449, std=0.226),
            albumentations.ToTensorV2(),
        ]
    )

    def read(path: Path) -> Any:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        return transform(image=image)["image"]

    return loader(Files(sorted((root / "images").iterdir()), read), workers)
