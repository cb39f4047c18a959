"""From pooled features to one logit per label."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn

from cxr_lightning.config.schema import HeadConfig

__all__ = ["Head", "PerLabelHead", "PerLabelLinear", "SharedHead", "build_head"]


class Head(nn.Module):
    """(B, F) features to (B, L) logits, by `layers`."""

    layers: nn.Module

    def __init__(self, num_features: int, num_labels: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.num_labels = num_labels

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(features)
        return result


class SharedHead(Head):
    """One stack of linear layers for all labels; without hidden layers, a linear classifier."""

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        hidden: tuple[int, ...] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_features, num_labels)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise((num_features, *hidden, num_labels)):
            layers += [nn.Dropout(dropout), nn.Linear(n_in, n_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])


class PerLabelLinear(nn.Module):
    """A linear layer of its own for every label, computed as one batched product.

    (L, B, n_in) to (L, B, n_out); `weight` is (L, n_out, n_in), `bias` (L, n_out).
    """

    def __init__(self, num_labels: int, n_in: int, n_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_in)  # as nn.Linear, for each label by itself
        self.weight = nn.Parameter(torch.empty(num_labels, n_out, n_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_labels, n_out).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT)


class PerLabelHead(Head):
    """An MLP of its own for every label; labels share nothing behind the pooled features."""

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        hidden: tuple[int, ...] = (256,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_features, num_labels)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise((num_features, *hidden, 1)):
            layers += [nn.Dropout(dropout), PerLabelLinear(num_labels, n_in, n_out), nn.ReLU()]
        self.layers = nn.Sequential(_RepeatPerLabel(num_labels), *layers[:-1], _LabelsLast())


class _RepeatPerLabel(nn.Module):
    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.num_labels = num_labels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.expand(self.num_labels, *x.shape)  # (B, F) -> (L, B, F), without a copy


class _LabelsLast(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.squeeze(-1).T  # (L, B, 1) -> (B, L)


def build_head(config: HeadConfig, num_features: int, num_labels: int) -> Head:
    """Return the head that `config` describes: (B, F) -> (B, L).

    `hidden` belongs to the kinds mlp and per_label; dropout stands before each linear layer.
    """
    match config.kind:
        case "linear":
            return SharedHead(num_features, num_labels, (), config.dropout)
        case "mlp":
            return SharedHead(num_features, num_labels, config.hidden, config.dropout)
        case "per_label":
            return PerLabelHead(num_features, num_labels, config.hidden, config.dropout)
