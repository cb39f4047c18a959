"""How far an image is from those a network was trained on, by its pooled features.

The features of training images are described by a mean, a scale per feature, their leading
principal axes, and one variance for all other directions: probabilistic principal component
analysis (Tipping and Bishop, J. R. Stat. Soc. B 1999). The distance is the Mahalanobis distance
under that covariance (Lee et al., NeurIPS 2018, use the full one, which a few hundred images do not
determine). Validation images, on which nothing was trained, set the limit.

A network may see an inverted radiograph much as it sees an upright one, so polarity has a score of
its own: a linear one over 8 x 8 thumbnails, Fisher's discriminant between the training images and
their negatives, which lie opposite one another about middle grey.

All of this tells what is no chest radiograph, or a negative of one. It does not tell whether a
finding is of a kind that training lacked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_lightning.errors import DataError

__all__ = ["FEWEST", "Familiarity", "fit_familiarity", "nearly_constant", "thumbnails"]

FEWEST = 20
"""So many training images are needed at least."""

MOST_AXES = 64
EXPLAINED = 0.95
FLOOR = 0.05  # of the mean variance: a feature that is silent in training must not decide alone
SIDE = 8
SHRINKAGE = 0.1
MIDDLE_GREY = 127.5
ARRAYS = ("mean", "scale", "axes", "variances", "polarity")


@dataclass(frozen=True, eq=False)
class Familiarity:
    """The description of the training images' features.

    Attributes
    ----------
    mean, scale : float32 (F,), subtracted from the features, and divides them
    axes : float32 (k, F), orthonormal
    variances : float32 (k,), along the axes
    polarity : float32 (64,), weights of a thumbnail less middle grey
    residual : variance along every other direction
    limit : distance up to which an image is familiar
    quantile : share of the validation images within the limit
    train, validation : number of images of each
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    axes: NDArray[np.float32]
    variances: NDArray[np.float32]
    polarity: NDArray[np.float32]
    residual: float
    limit: float
    quantile: float
    train: int
    validation: int

    def distances(self, features: ArrayLike) -> NDArray[np.float64]:
        """Return the distance of each row of features (n, F) as a multiple of the limit.

        Up to 1 is familiar. Features that are not finite are infinitely far away.
        """
        values = np.asarray(features, np.float64)
        if values.ndim != 2 or values.shape[1] != len(self.mean):
            raise ValueError(
                f"features must have shape (n, {len(self.mean)}), given {values.shape}"
            )
        return np.sqrt(self._squared(values)) / self.limit

    def polarity_scores(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the score of each image (n, H, W): about 1 as in training, about -1 a negative."""
        return (thumbnails(images) - MIDDLE_GREY) @ self.polarity.astype(np.float64)

    def _squared(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = (features - self.mean) / self.scale
            along = scaled @ self.axes.T.astype(np.float64)
            rest = np.maximum((scaled**2).sum(1) - (along**2).sum(1), 0)
            squared = (along**2 / self.variances).sum(1) + rest / self.residual
        return np.where(np.isfinite(squared), squared, np.inf)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the arrays by name; `to_dict` holds the rest."""
        return {name: getattr(self, name) for name in ARRAYS}

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a plain JSON object."""
        return {name: value for name, value in vars(self).items() if name not in ARRAYS}

    @classmethod
    def from_parts(
        cls, numbers: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]
    ) -> Familiarity:
        """Return what `to_dict` and `arrays` described."""
        try:
            parts: dict[str, Any] = {name: arrays[name] for name in ARRAYS}
            return cls(**parts, **numbers)
        except (KeyError, TypeError) as error:
            raise DataError(
                f"a stored description of training images is damaged: {error}"
            ) from None


def fit_familiarity(
    train: ArrayLike, validation: ArrayLike, pictures: ArrayLike, *, quantile: float = 0.99
) -> Familiarity | None:
    """Describe the features of training images (n, F); those of validation (m, F) set the limit.

    `pictures` are the `thumbnails` of the training images, (n, 64). With fewer than 100 validation
    images the limit is the largest of their distances.

    Returns
    -------
    Familiarity or None
        None where there are fewer than `FEWEST` training images or no validation image, where a
        feature is not finite, or where all images have the same features.
    """
    known, unseen = np.asarray(train, np.float64), np.asarray(validation, np.float64)
    if known.ndim != 2 or unseen.ndim != 2 or known.shape[1] != unseen.shape[1]:
        raise ValueError(
            f"features must have shape (n, F) and (m, F), given {known.shape}, {unseen.shape}"
        )
    if len(known) < FEWEST or not len(unseen):
        return None
    if not (np.isfinite(known).all() and np.isfinite(unseen).all()):
        return None
    variance = known.var(axis=0)
    if not variance.mean() > 0:
        return None
    mean, scale = known.mean(axis=0), np.sqrt(variance + FLOOR * variance.mean())
    _, singular, axes = np.linalg.svd((known - mean) / scale, full_matrices=False)
    variances = singular**2 / (len(known) - 1)
    explained = np.cumsum(variances) / variances.sum()
    # A fifth of the images: further axes would fit these images rather than their distribution.
    count = min(MOST_AXES, len(known) // 5, int(np.searchsorted(explained, EXPLAINED)) + 1)
    left = variances[count:].sum() / max(1, known.shape[1] - count)
    found = Familiarity(
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        axes=axes[:count].astype(np.float32),
        variances=variances[:count].astype(np.float32),
        polarity=_polarity(np.asarray(pictures, np.float64)).astype(np.float32),
        residual=float(max(left, 1e-3 * variances[:count].min())),
        limit=1.0,
        quantile=quantile,
        train=len(known),
        validation=len(unseen),
    )
    limit = float(np.quantile(found.distances(unseen), quantile, method="higher"))
    return replace(found, limit=limit) if limit > 0 else None


def _polarity(pictures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fisher's discriminant between pictures and their negatives, 1 at the mean picture."""
    centred = pictures - MIDDLE_GREY
    mean = centred.mean(axis=0)
    covariance = np.cov(centred, rowvar=False)
    ridge = SHRINKAGE * np.trace(covariance) / len(mean)
    weights = np.linalg.solve(covariance + max(ridge, 1e-6) * np.eye(len(mean)), mean)
    return weights / max(float(mean @ weights), 1e-12)


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean grey value in each of 8 x 8 fields of images (n, H, W): (n, 64)."""
    total = images.astype(np.float64)
    for axis in (1, 2):
        edges = np.linspace(0, images.shape[axis], SIDE + 1).round().astype(int)
        sizes = np.diff(edges).reshape((-1, 1) if axis == 1 else (1, -1))
        total = np.add.reduceat(total, edges[:-1], axis=axis) / sizes
    return total.reshape(len(images), -1)


def nearly_constant(images: NDArray[np.uint8], *, spread: int = 4) -> NDArray[np.bool_]:
    """Say which of the images (n, H, W) show next to nothing: bool (n,).

    True where the central 98 % of an image's grey values lie within `spread` of one another.
    """
    low, high = np.percentile(images.reshape(len(images), -1), (1, 99), axis=1)
    return np.asarray(high - low <= spread)
