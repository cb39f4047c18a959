"""The fused path: albumentations' pixels from the same numbers; numbers from addresses alone."""

from __future__ import annotations

import random
from typing import Any

import albumentations
import cv2
import numpy as np
import pytest
from scipy import stats

from cxr_lightning.config.schema import AugmentConfig
from cxr_lightning.data.fused import fuse, uniforms
from cxr_lightning.data.transforms import Augmentation

COUNT = 60
_GRAIN = np.random.default_rng(0).normal(128, 60, (COUNT, 72, 64))
PICTURES = np.stack([cv2.GaussianBlur(one, (0, 0), 1.5) for one in _GRAIN])
PICTURES = (128 + 3 * (PICTURES - 128)).clip(0, 255).astype(np.uint8)

FLIP = albumentations.HorizontalFlip(p=0.5)
# What albumentations draws is what is drawn here: p in between, and a shift.
AFFINE = albumentations.Affine(
    rotate=(-20, 12), translate_percent=(-0.1, 0.07), scale=(0.8, 1.3), shear=(-6, 9), p=0.7
)
ONE_SCALE = albumentations.Affine(
    rotate=5,
    translate_percent={"x": 0.2, "y": (0, 0.1)},
    scale=(0.7, 1.1),
    keep_ratio=True,
    border_mode=cv2.BORDER_REFLECT_101,
    p=0.9,
)
FILLED = albumentations.Affine(
    translate_percent=(0.1, 0.2), interpolation=cv2.INTER_CUBIC, fill=77, p=0.6
)
EXPOSURE = albumentations.RandomBrightnessContrast(
    brightness_limit=(-0.3, 0.2), contrast_limit=0.4, p=0.6
)
GAMMA = albumentations.RandomGamma(gamma_limit=(60, 150), p=0.5)


class Told(random.Random):
    """Says the numbers that it is told, in their order."""

    def __init__(self, numbers: Any) -> None:
        super().__init__()
        self.numbers = iter(numbers)

    def random(self) -> float:
        return float(next(self.numbers))


def by_albumentations(
    transforms: list[Any], draws: list[int], image: Any, numbers: Any
) -> np.ndarray:
    image = image[..., None]
    for transform, own in zip(transforms, np.split(numbers, np.cumsum(draws)[:-1]), strict=True):
        transform.py_random = Told(own)
        image = transform(image=image)["image"]
    return image[..., 0]


@pytest.mark.parametrize(
    ("transforms", "draws", "bound"),
    [
        ([FLIP], [1], 0),
        ([AFFINE], [8], 0),
        ([ONE_SCALE], [8], 0),
        ([FILLED], [8], 0),
        ([EXPOSURE], [3], 0),
        ([GAMMA], [2], 0),
        ([AFFINE, EXPOSURE, GAMMA], [8, 3, 2], 0),
        ([GAMMA, EXPOSURE], [2, 3], 0),
        ([FLIP, AFFINE], [1, 8], 1),
        ([AFFINE, FLIP], [8, 1], 1),
    ],
)
def test_same_numbers_give_the_pixels_of_albumentations(
    transforms: list[Any], draws: list[int], bound: int
) -> None:
    fused, count = fuse(transforms)
    assert (count, fused.draws) == (len(transforms), sum(draws))
    numbers = np.random.default_rng(1).random((COUNT, fused.draws))
    found = fused(PICTURES, numbers)
    wanted = np.stack(
        [
            by_albumentations(transforms, draws, *pair)
            for pair in zip(PICTURES, numbers, strict=True)
        ]
    )
    assert found.dtype == np.uint8
    assert (found != PICTURES).any(axis=(1, 2)).mean() > 0.3
    difference = np.abs(found.astype(int) - wanted)
    assert difference.max() <= bound
    assert (difference > 0).mean() < 0.001


@pytest.mark.parametrize(
    ("transforms", "count"),
    [
        ([], 0),
        ([albumentations.GaussNoise(p=0.5), AFFINE], 0),
        ([AFFINE, EXPOSURE, albumentations.GaussNoise(p=0.5), GAMMA], 2),
        ([AFFINE, FILLED], 1),  # what the first moves out of the picture stays out
        ([EXPOSURE, AFFINE], 1),  # what moves in would be toned too
        ([FLIP, AFFINE, FLIP, GAMMA, GAMMA], 5),
        ([albumentations.Affine(rotate=5, fit_output=True)], 0),
        ([albumentations.Affine(scale=(0.5, 2), balanced_scale=True)], 0),
        ([albumentations.Affine(translate_px=(-3, 3))], 0),
        ([albumentations.Affine(translate_px=0)], 1),
        ([albumentations.Affine(fill=(1, 2, 3))], 0),
        ([albumentations.RandomBrightnessContrast(brightness_by_max=False)], 0),
        ([albumentations.RandomBrightnessContrast(ensure_safe_range=True)], 0),
        ([albumentations.SafeRotate(p=0.5)], 0),  # an Affine by inheritance alone
    ],
)
def test_what_is_fused(transforms: list[Any], count: int) -> None:
    fused, fusible = fuse(transforms)
    assert len(fused.steps) == fusible == count


def test_a_batch_is_its_images_one_by_one() -> None:
    # fused and not, in one policy
    config = AugmentConfig.model_validate(
        {
            "name": "both",
            "horizontal_flip": 0.5,
            "transforms": [
                {"name": "Affine", "rotate": [-10, 10], "p": 0.5},
                {"name": "GaussNoise", "p": 0.5},
                {"name": "RandomGamma", "p": 0.5},
            ],
        }
    )
    augmentation = Augmentation(config, seed=3)
    epochs = np.arange(COUNT) % 3
    keys = np.random.default_rng(0).integers(0, 2**64, COUNT, dtype=np.uint64)
    together = augmentation.batch(PICTURES, epochs=epochs, keys=keys)
    for index in range(COUNT):
        alone = augmentation(PICTURES[index], epoch=int(epochs[index]), key=keys[index])
        np.testing.assert_array_equal(together[index], alone)
    assert (together != PICTURES).any(axis=(1, 2)).mean() > 0.5


def split_mix(state: int, count: int) -> list[int]:
    """SplitMix64 in whole numbers, as its authors wrote it."""
    outputs = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        outputs.append(z ^ (z >> 31))
    return outputs


def test_numbers_are_those_of_split_mix() -> None:
    # known outputs of the generator for the seed 1234567
    assert split_mix(1234567, 2) == [6457827717110365317, 3203168211198807973]
    epochs, keys = np.array([0, 5]), np.array([2**63 + 11, 3], np.uint64)
    for numbers, epoch, key in zip(uniforms(7, epochs, keys, 4), epochs, keys, strict=True):
        state = 7
        for part in (int(epoch), int(key)):
            state = (split_mix(state, 1)[0] + part) % 2**64
        wanted = [bits // 2**11 / 2**53 for bits in split_mix(split_mix(state, 1)[0], 4)]
        assert numbers.tolist() == wanted


def test_numbers_are_uniform_and_unrelated() -> None:
    keys = np.arange(4000, dtype=np.uint64)  # the least random keys that there are
    seeds = [uniforms(seed, np.full(4000, 2), keys, 3) for seed in (0, 1)]
    later = uniforms(0, np.full(4000, 3), keys, 3)
    columns = np.column_stack([*seeds, later, np.roll(seeds[0], 1, axis=0)])
    assert columns.min() >= 0
    assert columns.max() < 1
    for column in columns.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    related = np.corrcoef(columns, rowvar=False) - np.eye(columns.shape[1])
    assert np.abs(related).max() < 0.065  # four standard errors
