"""Every classification family of torchvision as a backbone; parameter names stay torchvision's."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torchvision.models as tv
from torch import nn

from cxr_lightning.config.schema import ModelConfig
from cxr_lightning.errors import ConfigError, bullet_list, nearest
from cxr_lightning.models.backbone import Backbone

__all__ = ["TorchvisionBackbone", "from_torchvision", "torchvision_factory"]


class _Family(NamedTuple):
    """How a family becomes a feature map.

    children : the model's children that run one after the other; None: all but `_CLASSIFIERS`.
    stages : pattern of the part of a parameter's name that is its stage, or None where stages end
        at a max pooling. Parameters that it does not match belong to the stage before them, or to
        the stem.
    """

    children: tuple[str, ...] | None
    stages: str | None


_CLASSIFIERS = ("avgpool", "dropout", "fc", "classifier", "head", "flatten", "permute")
_NO_AUXILIARY = {"aux_logits": False, "init_weights": True}

_FAMILIES: dict[type[nn.Module], _Family] = {
    tv.AlexNet: _Family(("features",), None),
    tv.VGG: _Family(("features",), None),
    tv.SqueezeNet: _Family(("features",), None),
    tv.DenseNet: _Family(("features",), r"features\.denseblock\d"),
    tv.MobileNetV2: _Family(("features",), r"features\.[1-9]\d*"),
    tv.MobileNetV3: _Family(("features",), r"features\.[1-9]\d*"),
    tv.EfficientNet: _Family(("features",), r"features\.[1-9]\d*"),
    tv.MNASNet: _Family(("layers",), r"layers\.(?:[89]|\d\d)"),
    tv.ConvNeXt: _Family(("features",), r"features\.[1357]"),
    tv.SwinTransformer: _Family(None, r"features\.[1357]"),
    tv.ResNet: _Family(None, r"layer\d"),
    tv.RegNet: _Family(("stem", "trunk_output"), r"trunk_output\.block\d"),
    tv.ShuffleNetV2: _Family(None, r"stage\d"),
    tv.Inception3: _Family(None, r"Mixed_\w+"),
    tv.GoogLeNet: _Family(None, r"inception\w+"),
    tv.MaxVit: _Family(("stem", "blocks"), r"blocks\.\d"),
    tv.VisionTransformer: _Family(("conv_proj", "encoder"), r"encoder\.layers\.encoder_layer_\d+"),
}


class TorchvisionBackbone(Backbone):
    """The convolutional (or windowed) part of a torchvision model, run child by child."""

    def __init__(self, model: nn.Module, family: _Family) -> None:
        names = family.children
        if names is None:
            names = tuple(name for name, _ in model.named_children() if name not in _CLASSIFIERS)
        super().__init__(
            nn.Sequential(OrderedDict((n, _runnable(getattr(model, n))) for n in names))
        )
        self.family = family
        self.channels_last = isinstance(model, tv.SwinTransformer)
        self.relu_last = isinstance(model, tv.DenseNet)  # functional in torchvision's forward
        self.no_weight_decay = frozenset(
            f"model.{n}" for n, _ in self.model.named_parameters() if "relative_position_bias" in n
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.model(x)
        if self.relu_last:
            y = torch.relu(y)
        return y.permute(0, 3, 1, 2) if self.channels_last else y

    def group_stages(self) -> Mapping[str, tuple[str, ...]]:
        stages: dict[str, list[str]] = {"stem": []}
        for name, _ in self.model.named_parameters():
            stage = self._stage_of(name) or next(reversed(stages))
            stages.setdefault(stage, []).append(name)
        return {stage: tuple(names) for stage, names in stages.items()}

    def _stage_of(self, name: str) -> str | None:
        if self.family.stages is None:
            layers = list(self.model.features)[: int(name.split(".")[1])]
            return f"block{1 + sum(isinstance(layer, nn.MaxPool2d) for layer in layers)}"
        found = re.match(self.family.stages, name)
        return found.group() if found else None


class _VisionTransformer(TorchvisionBackbone):
    """torchvision's ViT: its class token is dropped and the others go back to their grid."""

    def __init__(self, model: tv.VisionTransformer, family: _Family) -> None:
        super().__init__(model, family)
        model.heads = nn.Identity()
        self.model = model
        self.no_weight_decay = frozenset({"model.class_token", "model.encoder.pos_embedding"})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patch = self.model.patch_size
        grid = (x.shape[-2] // patch, x.shape[-1] // patch)
        # nn.Module.__call__ of the model would pool; these are the steps before that
        tokens = self.model._process_input(x)
        token = self.model.class_token.expand(len(x), -1, -1)
        tokens = self.model.encoder(torch.cat([token, tokens], dim=1))
        return tokens[:, 1:].unflatten(1, grid).permute(0, 3, 1, 2)


def torchvision_factory(config: ModelConfig, size: int) -> Callable[[], TorchvisionBackbone]:
    """Return a function that builds the backbone; unknown names are refused here."""
    name = config.name.removeprefix("torchvision/")
    known = tv.list_models(module=tv)
    if name not in known:
        allowed = [f"torchvision/{n}" for n in known]
        raise ConfigError(
            f"model.name={config.name!r}: torchvision has no classifier of that name."
            f"{nearest(config.name, allowed)} There are:\n{bullet_list(allowed, limit=100)}"
        )

    def make() -> TorchvisionBackbone:
        backbone = from_torchvision(_create(config, size))
        if config.in_channels != 3:  # torchvision's constructors know colour images only
            _replace_first_conv(backbone.model, config.in_channels)
        return backbone

    return make


def from_torchvision(model: nn.Module) -> TorchvisionBackbone:
    """Cut a model of torchvision to its feature map."""
    family = _FAMILIES[type(model)]
    if isinstance(model, tv.VisionTransformer):
        return _VisionTransformer(model, family)
    return TorchvisionBackbone(model, family)


def _create(config: ModelConfig, size: int) -> nn.Module:
    """Create the whole torchvision model with three input channels and its classifier."""
    name = config.name.removeprefix("torchvision/")
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options = {"image_size": size}
    elif name.startswith("maxvit"):
        options = {"input_size": (size, size)}
    elif name in ("inception_v3", "googlenet"):
        options = dict(_NO_AUXILIARY)
    return tv.get_model(name, weights=None, **options, **config.options)


def _runnable(module: nn.Module) -> nn.Module:
    return nn.Sequential(*module) if isinstance(module, nn.ModuleList) else module


def _replace_first_conv(model: nn.Module, channels: int) -> None:
    """Put a convolution of `channels` inputs where the first one stands."""
    name, conv = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    parent, _, child = name.rpartition(".")
    shape: dict[str, Any] = {k: getattr(conv, k) for k in ("kernel_size", "stride", "padding")}
    new = nn.Conv2d(channels, conv.out_channels, bias=conv.bias is not None, **shape)
    setattr(model.get_submodule(parent), child, new)
