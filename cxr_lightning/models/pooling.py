"""From a feature map (B, F, h, w) to a vector per image, always accumulated in float32 or wider."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from cxr_lightning.errors import ConfigError, bullet_list, nearest

__all__ = ["AvgMaxPool", "AvgPool", "GemPool", "MaxPool", "PoolName", "build_pool", "gem"]

PoolName = Literal["avg", "max", "gem", "avg+max"]


def gem(feature_map: torch.Tensor, p: torch.Tensor | float, eps: float = 1e-6) -> torch.Tensor:
    """Return the generalised mean over positions (Radenovic et al., TPAMI 2019, eq. 3).

    Parameters
    ----------
    feature_map : (B, F, h, w), any floating dtype; values below `eps` count as `eps`.
    p : exponent, 1 for the average, towards infinity for the maximum.

    Returns
    -------
    (B, F), float32 or wider. The map is divided by its maximum before the power is taken, which
    changes nothing mathematically (the mean is homogeneous) but keeps x**p from underflowing, so
    large exponents stay finite in value and gradient.
    """
    x = _wide(feature_map).clamp(min=eps)
    peak = x.detach().amax((-2, -1), keepdim=True)
    p = p.to(x.dtype) if isinstance(p, torch.Tensor) else p
    mean = (x / peak).pow(p).mean((-2, -1))
    return peak[..., 0, 0] * mean.pow(1 / p)


class AvgPool(nn.Module):
    """Mean over positions."""

    multiplier = 1

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        return _wide(feature_map).mean((-2, -1))


class MaxPool(nn.Module):
    """Maximum over positions."""

    multiplier = 1

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        return _wide(feature_map.amax((-2, -1)))


class GemPool(nn.Module):
    """Generalised mean with one learnt exponent, kept at 1 or above."""

    multiplier = 1

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        return gem(feature_map, self.p.clamp(min=1.0))


class AvgMaxPool(nn.Module):
    """Mean and maximum side by side: (B, 2F), the means first."""

    multiplier = 2

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        mean = _wide(feature_map).mean((-2, -1))
        return torch.cat([mean, _wide(feature_map.amax((-2, -1)))], dim=1)


_POOLS: dict[str, type[AvgPool | MaxPool | GemPool | AvgMaxPool]] = {
    "avg": AvgPool,
    "max": MaxPool,
    "gem": GemPool,
    "avg+max": AvgMaxPool,
}


def build_pool(name: str) -> AvgPool | MaxPool | GemPool | AvgMaxPool:
    """Return the pooling called `name`; its `multiplier` times F features leave it."""
    if name not in _POOLS:
        raise ConfigError(
            f"model.pooling={name!r} does not exist.{nearest(name, _POOLS)} Choose one of:\n"
            f"{bullet_list(_POOLS)}"
        )
    return _POOLS[name]()


def _wide(x: torch.Tensor) -> torch.Tensor:
    """Bring float16 and bfloat16 to float32, whose sums keep their digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
