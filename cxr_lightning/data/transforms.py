"""Augmentation by albumentations policies, seeded per sample so that it can be repeated."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr_lightning.config.schema import AugmentConfig, TransformConfig
from cxr_lightning.errors import ConfigError, bullet_list, nearest

__all__ = ["Augmentation", "sample_keys"]


def sample_keys(sample_ids: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Return a stable 64-bit hash per sample id: the sample's part of the address of randomness."""
    import pandas as pd

    return pd.util.hash_array(np.asarray(sample_ids, dtype=object), categorize=False)


class Augmentation:
    """Apply a policy to one image; what happens depends on (seed, epoch, sample) alone.

    Each transform has a random stream of its own. (`albumentations.Compose.set_random_seed` gives
    all transforms the same seed, which would tie their probabilities together: of two transforms
    with p=0.5 always both or none would be applied.)

    Raises
    ------
    ConfigError
        Unknown transforms or parameters, all at once.
    """

    def __init__(self, config: AugmentConfig, *, seed: int) -> None:
        self.seed = seed
        problems: list[str] = []
        self.transforms: list[Any] = []
        if config.horizontal_flip:
            flip = TransformConfig(name="HorizontalFlip", p=config.horizontal_flip)
            self.transforms.append(_build(flip, problems))
        self.transforms += [_build(transform, problems) for transform in config.transforms]
        if problems:
            raise ConfigError(f"augment: {len(problems)} problem(s)\n{bullet_list(problems)}")

    def __call__(
        self, image: npt.NDArray[np.uint8], *, epoch: int, key: np.uint64
    ) -> npt.NDArray[np.uint8]:
        """Return the image as augmented in `epoch`; uint8 of shape (H, W), as the input.

        Parameters
        ----------
        image
            uint8 array of shape (H, W); not changed.
        epoch
            Epoch, from 0.
        key
            The sample's own key, see :func:`sample_keys`.
        """
        if not self.transforms:
            return image
        seeds = np.random.SeedSequence((self.seed, epoch, int(key))).generate_state(
            len(self.transforms)
        )
        augmented = image[..., None]
        for transform, seed in zip(self.transforms, seeds, strict=True):
            transform.set_random_seed(int(seed))
            augmented = transform(image=augmented)["image"]
        return np.ascontiguousarray(augmented[..., 0])


def _build(config: TransformConfig, problems: list[str]) -> Any:
    import albumentations

    base = albumentations.ImageOnlyTransform, albumentations.DualTransform
    known = {
        name: value
        for name, value in vars(albumentations).items()
        if isinstance(value, type) and issubclass(value, base)
    }
    if config.name not in known:
        problems.append(
            f"{config.name!r} is not a transform of albumentations.{nearest(config.name, known)}"
        )
        return None
    with warnings.catch_warnings():
        # Albumentations only warns of parameters that it does not know.
        warnings.simplefilter("error")
        try:
            options = config.model_extra or {}
            _try(known[config.name](p=1.0, **options))
            return known[config.name](p=config.p, **options)
        except Exception as error:  # noqa: BLE001  # a transform may raise anything of its own
            problems.append(f"{config.name}: {' '.join(str(error).split())}")
            return None


def _try(transform: Any) -> None:
    """Apply a transform to a grey picture: many of albumentations' need colour, or further inputs.

    Raises
    ------
    ValueError
        It changes the size or the type of the picture.
    """
    picture = np.arange(96 * 96, dtype=np.uint32).reshape(96, 96, 1).astype(np.uint8)
    changed = transform(image=picture)["image"]
    if changed.shape != picture.shape or changed.dtype != picture.dtype:
        raise ValueError(
            f"turns uint8 {picture.shape} into {changed.dtype} {changed.shape}; a policy must keep "
            "size and type"
        )
