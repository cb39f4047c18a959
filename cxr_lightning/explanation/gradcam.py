"""Grad-CAM and Grad-CAM++ at the last feature map, by the library pytorch-grad-cam.

Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
localization", ICCV 2017; Chattopadhay et al., "Grad-CAM++", WACV 2018.

The library is given what follows the backbone alone, with the feature map as its input. So the
backbone runs once for all labels, no gradient passes through it, and the bytes, the tabular inputs
and the three classes of a network are none of the library's concern. A transformer's tokens are a
map already (:mod:`cxr_lightning.models.timm_backbone`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cxr_lightning.models.network import Network, decision_logits

if TYPE_CHECKING:
    from pytorch_grad_cam import GradCAM

__all__ = ["class_activation"]


class _Tail(nn.Module):
    """From the last feature map, divided by `scale`, to logits (B, L)."""

    def __init__(self, network: Network, tabular: torch.Tensor | None, scale: float) -> None:
        super().__init__()
        self.network = network
        self.tabular = tabular
        self.scale = scale
        self.entry = nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        pooled = self.network.pool(self.entry(maps) * self.scale)
        return decision_logits(self.network.classify(pooled, self.tabular))


class _Logit:
    """The library's "target": the output that is explained."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output[self.index]


def class_activation(
    network: Network,
    images: torch.Tensor,
    tabular: torch.Tensor | None,
    labels: Sequence[int],
    *,
    plus_plus: bool,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the maps of some outputs, and where no gradient reached the feature map.

    Parameters
    ----------
    images : uint8 tensor of shape (B, 1, H, W)
    tabular : float32 tensor of shape (B, T), or None
    labels
        Indices of the outputs.

    Returns
    -------
    float32 array of shape (B, len(labels), h, w), from 0 to 1 each, or all 0
    bool array of shape (B, len(labels))
    """
    from pytorch_grad_cam import GradCAM, GradCAMPlusPlus  # takes seconds

    with torch.no_grad():
        maps = network.feature_map(images).float()
    # The library's Grad-CAM++ adds 1e-6 to a denominator of squared gradients, which pooling over
    # many cells makes as small as that. A smaller input with a larger gradient gives the same maps
    # by the paper's formula, and keeps the denominator large.
    scale = float(maps.shape[-2] * maps.shape[-1])
    tail = _Tail(network, tabular, scale)
    with (GradCAMPlusPlus if plus_plus else GradCAM)(tail, [tail.entry]) as cam:
        explained = [_explain(cam, maps / scale, index) for index in labels]
    values, vanished = zip(*explained, strict=True)
    return np.stack(values, axis=1), np.stack(vanished, axis=1)


def _explain(
    cam: GradCAM, maps: torch.Tensor, index: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    values = cam(maps.clone().requires_grad_(), [_Logit(index)] * len(maps))
    gradients: list[torch.Tensor] = cam.activations_and_grads.gradients
    if not gradients:  # the output does not depend on the image at all
        return np.zeros_like(values), np.ones(len(maps), bool)
    return values, (gradients[0] == 0).flatten(1).all(dim=1).numpy()
