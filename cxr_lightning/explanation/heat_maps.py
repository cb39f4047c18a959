"""Heat maps of images and labels by any method, in batches, and what there is to say of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_lightning.errors import ConfigError, bullet_list, nearest
from cxr_lightning.explanation.gradcam import class_activation
from cxr_lightning.explanation.rollout import attention_rollout
from cxr_lightning.models.network import Network

__all__ = ["HeatMaps", "Method", "choose_labels", "compute_heat_maps", "warnings_of"]

Method = Literal["gradcam", "gradcam++", "rollout", "gradient_rollout"]

_METHODS: dict[Method, Callable[..., tuple[NDArray[np.float32], NDArray[np.bool_]]]] = {
    "gradcam": partial(class_activation, plus_plus=False),
    "gradcam++": partial(class_activation, plus_plus=True),
    "rollout": partial(attention_rollout, by_gradient=False),
    "gradient_rollout": partial(attention_rollout, by_gradient=True),
}


@dataclass(frozen=True)
class HeatMaps:
    """Where each label's evidence lies, over the network's square.

    Attributes
    ----------
    labels : the labels, in the order of the second axis.
    values : float32 of shape (n, labels, h, w), cells of the last feature map, scaled from 0 to 1
        for each map by itself: maps say where, not how much.
    vanished : bool of shape (n, labels), no gradient reached the map: it is all 0.
    """

    labels: tuple[str, ...]
    values: NDArray[np.float32]
    vanished: NDArray[np.bool_]

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Bool of shape (n, labels): the map is all 0, whatever the reason."""
        return np.asarray(self.values.max(axis=(2, 3)) == 0)


def compute_heat_maps(
    network: Network,
    images: NDArray[np.uint8],
    labels: Sequence[str] | None = None,
    method: Method = "gradcam",
    *,
    tabular: NDArray[np.float32] | None = None,
    batch_size: int = 32,
    advance: Callable[[int], object] = lambda images: None,
) -> HeatMaps:
    """Explain some outputs of a network in evaluation mode, which is left as it was.

    Parameters
    ----------
    images : uint8 array of shape (n, size, size)
        Grey squares, as the network takes them.
    labels
        Some of the network's; None: all.
    tabular : float32 array of shape (n, inputs)
        For a network that takes inputs beside the image.
    advance
        Called with the number of images of each batch that is done.

    Raises
    ------
    ConfigError
        A label that the network does not have, or a method that does not suit it.
    """
    names, indices = choose_labels(network.labels, labels)
    device = next(network.parameters()).device
    values, vanished = [], []
    with _frozen(network):
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            batch = torch.from_numpy(images[part])[:, None].to(device)
            beside = None if tabular is None else torch.from_numpy(tabular[part]).to(device)
            one, gone = _METHODS[method](network, batch, beside, indices)
            values.append(_scaled(one))
            vanished.append(gone)
            advance(len(batch))
    if not values:
        raise ValueError("no images to explain")
    return HeatMaps(names, np.concatenate(values), np.concatenate(vanished))


def choose_labels(
    known: Sequence[str], labels: Sequence[str] | None
) -> tuple[tuple[str, ...], list[int]]:
    """Return the chosen labels, None: all, and their places among `known`."""
    if labels is None:
        return tuple(known), list(range(len(known)))
    unknown = [f"{name!r}.{nearest(name, known)}" for name in labels if name not in known]
    if unknown:
        raise ConfigError(
            f"labels: not among the bundle's:\n{bullet_list(unknown)}\nAllowed: {', '.join(known)}"
        )
    return tuple(labels), [list(known).index(name) for name in labels]


def warnings_of(maps: HeatMaps) -> list[str]:
    """Say of which labels maps are empty, how many, and why: a line for each reason."""
    vanished = maps.vanished.sum(axis=0)
    one_sided = (maps.empty & ~maps.vanished).sum(axis=0)
    images = f"of {len(maps.values):,} images"
    lines = []
    if vanished.any():
        lines.append(
            f"no gradient reaches the feature map, and the maps say nothing: "
            f"{_counted(maps.labels, vanished)} {images}"
        )
    if one_sided.any():
        lines.append(
            "no place speaks for the label, or all do equally, and the maps are empty (usual where "
            f"a finding is absent): {_counted(maps.labels, one_sided)} {images}"
        )
    return lines


def _counted(labels: Sequence[str], counts: NDArray[np.integer]) -> str:
    return ", ".join(f"{label} in {n:,}" for label, n in zip(labels, counts, strict=True) if n)


def _scaled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    low = values.min(axis=(2, 3), keepdims=True)
    span = values.max(axis=(2, 3), keepdims=True) - low
    scaled = np.divide(values - low, span, out=np.zeros_like(values), where=span > 0)
    return scaled.astype(np.float32)


@contextmanager
def _frozen(network: Network) -> Iterator[None]:
    """Keep gradients out of the parameters, which are not what is explained."""
    trained = [p for p in network.parameters() if p.requires_grad]
    training = network.training
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        network.eval()
        yield
    finally:
        network.train(training)
        for parameter in trained:
            parameter.requires_grad_(True)
