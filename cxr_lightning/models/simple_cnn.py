"""A small residual network for training from scratch, fast on a CPU; the default backbone.

A strided stem and one residual block per entry of `channels`, each halving the resolution but the
first, so that four blocks see 1/16 of the input's side: the width of ResNet (He et al., CVPR 2016)
halved, with the average-pooled shortcut of ResNet-D (He et al., CVPR 2019).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import nn

from cxr_lightning.config.schema import ModelConfig, Section
from cxr_lightning.errors import ConfigError, bullet_list, nearest
from cxr_lightning.models.backbone import Backbone

__all__ = ["ResidualBlock", "SimpleCnn", "SimpleCnnOptions", "simple_cnn_factory"]


class SimpleCnnOptions(Section):
    """`model.options` of simple_cnn."""

    channels: tuple[int, ...] = Field(
        (32, 64, 128, 256), min_length=1, max_length=6, description="Channels of each block."
    )
    convs_per_block: int = Field(2, ge=1, le=8, description="3 x 3 convolutions in each block.")
    norm: Literal["batch", "group"] = Field(
        "batch", description="Norm after each convolution; group does not depend on the batch."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout of whole channels after a block.")


class ResidualBlock(nn.Module):
    """`convs` 3 x 3 convolutions with norm and ReLU around a shortcut; the first may be strided."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        stride: int = 1,
        *,
        convs: int = 2,
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(convs):
            layers += [
                _conv(n_in if i == 0 else n_out, n_out, 3, stride if i == 0 else 1),
                _norm(norm, n_out),
                nn.ReLU(inplace=True),
            ]
        self.convs = nn.Sequential(*layers[:-1])
        shortcut: list[nn.Module] = []
        if stride > 1:
            shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if stride > 1 or n_in != n_out:
            shortcut += [_conv(n_in, n_out, 1), _norm(norm, n_out)]
        self.shortcut = nn.Sequential(*shortcut)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(torch.relu(self.convs(x) + self.shortcut(x)))


class SimpleCnn(Backbone):
    """The network: `stem`, then `block1`, `block2`, ..."""

    def __init__(self, in_channels: int, options: SimpleCnnOptions) -> None:
        widths = options.channels
        stem = nn.Sequential(
            _conv(in_channels, widths[0], 5, 2), _norm(options.norm, widths[0]), nn.ReLU()
        )
        model = nn.Sequential(OrderedDict(stem=stem))
        for i, width in enumerate(widths):
            block = ResidualBlock(
                widths[max(i - 1, 0)],
                width,
                stride=1 if i == 0 else 2,
                convs=options.convs_per_block,
                norm=options.norm,
                dropout=options.dropout,
            )
            model.add_module(f"block{i + 1}", block)
        super().__init__(model)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)

    def group_stages(self) -> Mapping[str, tuple[str, ...]]:
        return {
            stage: tuple(f"{stage}.{name}" for name, _ in module.named_parameters())
            for stage, module in self.model.named_children()
        }


def simple_cnn_factory(config: ModelConfig, size: int) -> Callable[[], SimpleCnn]:
    """Return a function that builds the network; wrong options are refused here, all at once."""
    options = parse_options(config.options)
    return lambda: SimpleCnn(config.in_channels, options)


def parse_options(options: Mapping[str, Any]) -> SimpleCnnOptions:
    try:
        parsed = SimpleCnnOptions(**options)
    except ValidationError as e:
        problems = []
        for problem in e.errors():
            key = ".".join(str(part) for part in problem["loc"])
            hint = nearest(key, SimpleCnnOptions.model_fields)
            problems.append(f"model.options.{key}={problem['input']!r}: {problem['msg']}.{hint}")
        allowed = [
            f"{name}: {field.description} Default: {field.default}."
            for name, field in SimpleCnnOptions.model_fields.items()
        ]
        raise ConfigError(
            f"model.name='simple_cnn' cannot use its options:\n{bullet_list(problems)}\n"
            f"Its options are:\n{bullet_list(allowed)}"
        ) from None
    if bad := [width for width in parsed.channels if width < 1]:
        raise ConfigError(f"model.options.channels: widths must be positive, got {bad[0]}")
    return parsed


def _conv(n_in: int, n_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    groups = next(g for g in range(min(16, channels), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)
