"""Augmentation by albumentations policies, seeded per sample so that it can be repeated.

What of a policy can be computed in one go (see :mod:`cxr_lightning.data.fused`) is; the rest, from
the first transform on that cannot, is left to albumentations itself.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr_lightning.config.schema import AugmentConfig, TransformConfig
from cxr_lightning.data.fused import PLAIN_BORDER, Variation, fuse, uniforms
from cxr_lightning.errors import ConfigError, bullet_list, nearest

__all__ = ["Augmentation", "sample_keys"]


def sample_keys(sample_ids: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Return a stable 64-bit hash per sample id: the sample's part of the address of randomness."""
    import pandas as pd

    return pd.util.hash_array(np.asarray(sample_ids, dtype=object), categorize=False)


class Augmentation:
    """Apply a policy; what happens to an image depends on (seed, epoch, sample) alone.

    Each transform has random numbers of its own. (`albumentations.Compose.set_random_seed` gives
    all transforms the same seed, which would tie their probabilities together: of two transforms
    with p=0.5 always both or none would be applied.)

    Parameters
    ----------
    config
        The policy.
    seed
        Of all that is random.
    size
        Side of a square image, on which each transform is tried.

    Raises
    ------
    ConfigError
        Unknown transforms or parameters, all at once.
    """

    def __init__(self, config: AugmentConfig, *, seed: int, size: int = 96) -> None:
        self.seed = seed
        self.policy = config.name
        problems: list[str] = []
        transforms: list[Any] = []
        if config.horizontal_flip:
            flip = TransformConfig(name="HorizontalFlip", p=config.horizontal_flip)
            transforms.append(_build(flip, size, problems))
        transforms += [_build(transform, size, problems) for transform in config.transforms]
        if problems:
            raise ConfigError(f"augment: {len(problems)} problem(s)\n{bullet_list(problems)}")
        self._fused, count = fuse(transforms)
        self._rest = transforms[count:]

    @property
    def one_by_one(self) -> str | None:
        """The first transform that is left to albumentations, image by image; None: none is."""
        return type(self._rest[0]).__name__ if self._rest else None

    @property
    def unfused(self) -> str | None:
        """The first transform that a device cannot do; None: it can do them all."""
        plain = self._fused.border == PLAIN_BORDER
        return self.one_by_one or (None if plain else "Affine with a border of its own")

    def variation(
        self, *, epochs: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64], size: int
    ) -> Variation:
        """Return what the fused transforms do to square images of side `size`; see `batch`."""
        numbers = uniforms(self.seed, epochs, keys, self._fused.draws)
        return self._fused.variation(numbers, size, size)

    def __call__(
        self, image: npt.NDArray[np.uint8], *, epoch: int, key: np.uint64
    ) -> npt.NDArray[np.uint8]:
        """Return one image as augmented in `epoch`: :meth:`batch` of one."""
        return self.batch(image[None], epochs=np.array([epoch]), keys=np.array([key]))[0]

    def batch(
        self,
        images: npt.NDArray[np.uint8],
        *,
        epochs: npt.NDArray[np.int64],
        keys: npt.NDArray[np.uint64],
    ) -> npt.NDArray[np.uint8]:
        """Return images as augmented, each in its epoch; uint8 of shape (n, H, W), as the input.

        Parameters
        ----------
        images
            uint8 array of shape (n, H, W); not changed.
        epochs
            Epochs, from 0, of shape (n,).
        keys
            The samples' own keys, of shape (n,), see :func:`sample_keys`.
        """
        if self._fused.steps:
            images = self._fused(images, uniforms(self.seed, epochs, keys, self._fused.draws))
        if not self._rest:
            return images
        addresses = zip(epochs.tolist(), keys.tolist(), strict=True)
        return np.stack(
            [
                self._one_by_one(image, (self.seed, *address))
                for image, address in zip(images, addresses, strict=True)
            ]
        )

    def _one_by_one(
        self, image: npt.NDArray[np.uint8], address: tuple[int, ...]
    ) -> npt.NDArray[np.uint8]:
        seeds = np.random.SeedSequence(address).generate_state(len(self._rest))
        augmented = image[..., None]
        for transform, seed in zip(self._rest, seeds, strict=True):
            transform.set_random_seed(int(seed))
            augmented = transform(image=augmented)["image"]
        return np.asarray(augmented[..., 0])


def _build(config: TransformConfig, size: int, problems: list[str]) -> Any:
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
            _try(known[config.name](p=1.0, **options), size)
            return known[config.name](p=config.p, **options)
        except Exception as error:  # noqa: BLE001  # a transform may raise anything of its own
            problems.append(f"{config.name}: {' '.join(str(error).split())}")
            return None


def _try(transform: Any, size: int) -> None:
    """Apply a transform to a grey picture: many of albumentations' need colour, or further inputs.

    Raises
    ------
    ValueError
        It changes the size or the type of the picture.
    """
    picture = np.arange(size * size, dtype=np.uint32).reshape(size, size, 1).astype(np.uint8)
    changed = transform(image=picture)["image"]
    if changed.shape != picture.shape or changed.dtype != picture.dtype:
        raise ValueError(
            f"turns uint8 {picture.shape} into {changed.dtype} {changed.shape}; a policy must keep "
            "size and type"
        )
