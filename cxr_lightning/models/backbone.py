"""Backbones: one contract for simple_cnn, every timm model and torchvision's classifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any, NamedTuple

import torch
from torch import nn

from cxr_lightning.config.schema import ModelConfig
from cxr_lightning.errors import ConfigError

__all__ = ["Backbone", "FeatureMapError", "build_backbone", "inspect_features"]


class FeatureMapError(Exception):
    """What a model returned is not a feature map; the message continues "MODEL ..."."""


class Backbone(nn.Module):
    """A model without its classifier: (B, C, H, W) to a feature map (B, F, h, w).

    Attributes
    ----------
    model : the wrapped model, with its own parameter names.
    num_features : F.
    stages : ordered from stem to last, the names (as in `named_parameters()` of the backbone) of
        the parameters of each stage; every parameter of the backbone is in exactly one.
    no_weight_decay : names of parameters that the model's authors keep from weight decay, in
        addition to biases and norm layers.
    """

    model: Any
    num_features: int
    stages: dict[str, tuple[str, ...]]
    no_weight_decay: frozenset[str] = frozenset()

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def group_stages(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the parameters of `model` by stage, from stem to last."""
        raise NotImplementedError


class _Inspection(NamedTuple):
    num_features: int
    unused: frozenset[str]  # parameters of `model` that the feature map does not depend on


def build_backbone(config: ModelConfig, size: int) -> Backbone:
    """Build the backbone `config.name` for square inputs of side `size`, with random weights.

    The feature map is computed once on torch's meta device (shapes without numbers): that tells F,
    finds a size that the model cannot take before training starts, and shows which parameters the
    feature map does not depend on. Those belong to the classifier, and are removed.

    Raises
    ------
    ConfigError
        Unknown name or option, an unsuitable size, or a model without a feature map.
    """
    make = _factory(config, size)
    try:
        backbone = make()
    except (TypeError, ValueError, AssertionError, KeyError, RuntimeError) as e:
        raise ConfigError(
            f"model.name={config.name!r} could not be built with "
            f"model.options={config.options} and data.image.size={size}: {_first_line(e)}"
        ) from e
    try:
        found = inspect_features(make, backbone, config.in_channels, size)
    except FeatureMapError as e:
        raise ConfigError(f"model.name={config.name!r} cannot serve as a backbone: it {e}") from e
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as e:
        raise ConfigError(
            f"model.name={config.name!r} cannot take images of {size} x {size} pixels: "
            f"{_first_line(e)}. Choose another data.image.size (many models want 224, or a "
            f"multiple of 32){', or model.in_channels=3' if config.in_channels == 1 else ''}."
        ) from e
    _remove(backbone.model, found.unused)
    backbone.num_features = found.num_features
    stages = {
        stage: tuple(f"model.{name}" for name in names if name not in found.unused)
        for stage, names in backbone.group_stages().items()
    }
    backbone.stages = {stage: names for stage, names in stages.items() if names}
    return backbone


def _factory(config: ModelConfig, size: int) -> Callable[[], Backbone]:
    # imported here: timm and torchvision take seconds, and each family's file imports this one
    if config.name == "simple_cnn":
        from cxr_lightning.models.simple_cnn import simple_cnn_factory

        return simple_cnn_factory(config, size)
    if config.name.startswith("torchvision/"):
        from cxr_lightning.models.torchvision_backbone import torchvision_factory

        return torchvision_factory(config, size)
    from cxr_lightning.models.timm_backbone import timm_factory

    return timm_factory(config, size)


def inspect_features(
    make: Callable[[], Backbone], backbone: Backbone, channels: int, size: int
) -> _Inspection:
    """Return F and the parameters that the feature map does not depend on.

    That the model runs without them, too, is tried on the same occasion.

    Works on a twin on the meta device; a model that looks at values on its way (and so cannot run
    there) is run itself, on a blank image.
    """
    try:
        with torch.device("meta"):
            return _inspect(make(), channels, size)
    except RuntimeError as e:  # NotImplementedError is one
        if "meta" not in str(e).lower():
            raise
    return _inspect(backbone, channels, size)


def _inspect(backbone: Backbone, channels: int, size: int) -> _Inspection:
    training = backbone.training
    backbone.eval()
    image = torch.zeros(2, channels, size, size, device=next(backbone.parameters()).device)
    with torch.enable_grad():
        y = backbone(image)
        if not isinstance(y, torch.Tensor) or y.ndim != 4 or y.shape[0] != 2 or 0 in y.shape:
            shape = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
            raise FeatureMapError(f"returns no map of features (B, F, h, w) but {shape}")
        named = [(n, p) for n, p in backbone.model.named_parameters() if p.requires_grad]
        names, parameters = zip(*named, strict=True)
        grads = torch.autograd.grad(y.sum(), parameters, allow_unused=True)
    unused = frozenset(n for n, g in zip(names, grads, strict=True) if g is None)
    if unused:
        _remove(backbone.model, unused)
        try:
            backbone(image)
        except Exception as e:  # whatever a model does where a part of it is missing
            raise FeatureMapError(
                f"computes with {len(unused)} parameters, such as {min(unused)}, that do not reach "
                "its feature map and so would not be trained"
            ) from e
    backbone.train(training)
    return _Inspection(y.shape[1], unused)


def _remove(module: nn.Module, names: Set[str]) -> None:
    """Take parameters out of the module; a submodule that loses all it had becomes Identity."""
    if not names:
        return
    for name, child in list(module.named_children()):
        inside = {n.removeprefix(f"{name}.") for n in names if n.startswith(f"{name}.")}
        if inside and inside == {n for n, _ in child.named_parameters()}:
            setattr(module, name, nn.Identity())
        else:
            _remove(child, inside)
    for name in names:
        if "." not in name:
            setattr(module, name, None)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}".rstrip(".")
