"""Image features and tabular inputs to one vector, whatever the backbone and the head."""

from __future__ import annotations

import torch
from torch import nn

from cxr_lightning.config.schema import HeadConfig

__all__ = ["Concatenation", "Fusion", "GatedFusion", "ImageOnly", "build_fusion"]


class Fusion(nn.Module):
    """(B, F) features and (B, T) tabular inputs to (B, out_features)."""

    out_features: int

    def __init__(self, num_tabular: int) -> None:
        super().__init__()
        self.num_tabular = num_tabular

    def check(self, tabular: torch.Tensor | None) -> None:
        """Refuse inputs that the network was not built for."""
        given = 0 if tabular is None else tabular.shape[1]
        if given != self.num_tabular:
            raise ValueError(
                f"the network was built for {self.num_tabular} tabular inputs and was given {given}"
            )


class ImageOnly(Fusion):
    """The features as they are: there are no tabular inputs."""

    def __init__(self, num_features: int) -> None:
        super().__init__(0)
        self.out_features = num_features

    def forward(self, features: torch.Tensor, tabular: torch.Tensor | None = None) -> torch.Tensor:
        self.check(tabular)
        return features


class Concatenation(Fusion):
    """Tabular inputs stand behind the features."""

    def __init__(self, num_features: int, num_tabular: int) -> None:
        super().__init__(num_tabular)
        self.out_features = num_features + num_tabular

    def forward(self, features: torch.Tensor, tabular: torch.Tensor | None = None) -> torch.Tensor:
        self.check(tabular)
        assert tabular is not None  # num_tabular is at least 1
        return torch.cat([features, tabular.to(features.dtype)], dim=1)


class GatedFusion(Fusion):
    """A learnt gate between an image branch and a tabular branch, with the image branch past it.

    ``h = g * image + (1 - g) * tabular + image``, where ``g`` is a sigmoid of both branches: the
    gated multimodal unit of Arevalo et al., "Gated multimodal units for information fusion", ICLR
    workshop 2017, with a residual connection. Without the residual a gate that closes on the image
    would also close the way of gradients, and of Grad-CAM, to the backbone.
    """

    def __init__(self, num_features: int, num_tabular: int, units: int) -> None:
        super().__init__(num_tabular)
        self.out_features = units
        self.image = nn.Sequential(nn.Linear(num_features, units), nn.ReLU())
        self.tabular = nn.Sequential(nn.Linear(num_tabular, units), nn.ReLU())
        self.gate = nn.Linear(2 * units, units)

    def forward(self, features: torch.Tensor, tabular: torch.Tensor | None = None) -> torch.Tensor:
        self.check(tabular)
        assert tabular is not None  # num_tabular is at least 1
        image, other = self.image(features), self.tabular(tabular.to(features.dtype))
        gate = torch.sigmoid(self.gate(torch.cat([image, other], dim=1)))
        return gate * image + (1 - gate) * other + image


def build_fusion(config: HeadConfig, num_features: int, num_tabular: int) -> Fusion:
    """Return the fusion that `config` describes; without tabular inputs, none."""
    if num_tabular == 0:
        return ImageOnly(num_features)
    if config.fusion == "gated":
        return GatedFusion(num_features, num_tabular, config.fusion_units)
    return Concatenation(num_features, num_tabular)
