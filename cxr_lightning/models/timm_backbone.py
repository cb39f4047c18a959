"""Any timm model as a backbone: convolutional, channels-last or made of tokens."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import timm
import torch
import torchvision.models
from timm.layers.norm import LayerNorm2d
from timm.models import get_pretrained_cfg, group_parameters
from torch import nn

from cxr_lightning.config.schema import ModelConfig
from cxr_lightning.errors import ConfigError, bullet_list, nearest
from cxr_lightning.models.backbone import Backbone, FeatureMapError

__all__ = ["TimmBackbone", "create_timm_model", "timm_factory", "tokens_to_map"]


class TimmBackbone(Backbone):
    """A timm model up to its pooling, as a map in NCHW order.

    timm's own facilities decide the layout: `output_fmt` for models that work channels-last,
    `num_prefix_tokens` for the class, distillation and register tokens that stand before the grid,
    and `forward_intermediates` for the few models whose `forward_features` gives no map. A norm
    layer that timm keeps in the classifier (ConvNeXt, DaViT, CAFormer) is applied to the map, as
    timm itself does when pooling is off.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        listed = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
        self.no_weight_decay = frozenset(f"model.{name}" for name in listed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.model.forward_features(x)
        if isinstance(y, torch.Tensor) and y.ndim == 3:
            prefix = getattr(self.model, "num_prefix_tokens", None)
            y = tokens_to_map(y, x.shape[-2:], prefix)
        elif isinstance(y, torch.Tensor) and y.ndim == 4:
            if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
                y = y.permute(0, 3, 1, 2)
        else:
            y = None
        if y is None:
            y = self._last_intermediate(x)
        return _apply_norm(getattr(getattr(self.model, "head", None), "norm", None), y)

    def _last_intermediate(self, x: torch.Tensor) -> torch.Tensor:
        if not hasattr(self.model, "forward_intermediates"):
            raise FeatureMapError("returns no map of features and offers no other way to one")
        maps = self.model.forward_intermediates(
            x, indices=1, norm=False, output_fmt="NCHW", intermediates_only=True
        )
        return maps[-1]

    def group_stages(self) -> Mapping[str, tuple[str, ...]]:
        names = [name for name, _ in self.model.named_parameters()]
        matcher = _matcher(self.model)
        groups = group_parameters(self.model, matcher)
        ordered = [groups[i] for i in sorted(groups)]
        if len(ordered) > 1 and not any(_is_matched(matcher, name) for name in ordered[-1]):
            ordered[-2:] = [[*ordered[-2], *ordered[-1]]]  # a last norm belongs to the last stage
        position = {name: i for i, name in enumerate(names)}
        stages: dict[str, tuple[str, ...]] = {}
        for i, group in enumerate(ordered):
            group.sort(key=position.__getitem__)
            name = _stage_name(matcher, group, first=i == 0)
            stages[name if name not in stages else f"{name}.{i}"] = tuple(group)
        return stages


def tokens_to_map(
    tokens: torch.Tensor, image_size: tuple[int, int] | torch.Size, prefix: int | None
) -> torch.Tensor | None:
    """Tokens (B, N, F) of an image (H, W) to (B, F, h, w) with h : w as H : W.

    `prefix` tokens stand before the grid and are dropped; where it is None, the fewest (0 to 2)
    that leave a grid. None is returned where the rest is no grid.
    """
    ratio = image_size[0] / image_size[1]
    for extra in (0, 1, 2) if prefix is None else (prefix,):
        count = tokens.shape[1] - extra
        h = round(math.sqrt(count * ratio)) if count > 0 else 0
        if h > 0 and count % h == 0 and abs(count / h * ratio - h) < 1 and count > 1:
            grid = tokens[:, extra:].unflatten(1, (h, count // h))
            return grid.permute(0, 3, 1, 2)
    return None


def timm_factory(config: ModelConfig, size: int) -> Callable[[], TimmBackbone]:
    """Return a function that builds the backbone; unknown names are refused here."""
    _check_name(config.name)

    def make() -> TimmBackbone:
        return TimmBackbone(create_timm_model(config, size))

    return make


def create_timm_model(config: ModelConfig, size: int, *, pretrained: bool = False) -> nn.Module:
    """Create the timm model without classifier; models that need their input size are told it."""
    options: dict[str, Any] = dict(config.options)
    cfg = get_pretrained_cfg(config.name)
    if cfg is not None and cfg.fixed_input_size:
        options.setdefault("img_size", size)
    options.update(pretrained=pretrained, in_chans=config.in_channels, num_classes=0)
    try:
        return timm.create_model(config.name, global_pool="", **options)
    except AssertionError:  # a few families insist on a pooling; it is removed with the head
        return timm.create_model(config.name, **options)


def _check_name(name: str) -> None:
    arch, _, tag = name.partition(".")
    if timm.is_model(arch):  # timm itself ignores the tag here
        if not tag:
            return
        tags = timm.list_models(f"{arch}.*", pretrained=True)
        if name in tags:
            return
        raise ConfigError(
            f"model.name={name!r}: timm knows {arch}, but no weights of it called {tag!r}."
            f"{nearest(name, tags)} Choose one of:\n{bullet_list([arch, *tags])}"
        )
    known = timm.list_models()
    close = get_close_matches(name.lower(), known, n=5, cutoff=0.6)
    close += [m for m in known if name.lower() in m and m not in close][: 5 - len(close)]
    if name in torchvision.models.list_models():
        close = [f"torchvision/{name}", *close]
    raise ConfigError(
        f"model.name={name!r} is neither simple_cnn, a timm model, nor torchvision/NAME."
        + (f" Nearest names:\n{bullet_list(close)}" if close else "")
        + "\nAll names: python -c 'import timm; print(*timm.list_models(), sep=chr(10))'"
    )


def _apply_norm(norm: nn.Module | None, y: torch.Tensor) -> torch.Tensor:
    """Apply a norm over channels to a map (B, F, h, w), whichever axis it was written for."""
    if not isinstance(norm, nn.LayerNorm) or norm.normalized_shape != (y.shape[1],):
        return y
    if isinstance(norm, LayerNorm2d):
        return norm(y)
    return norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


_Matcher = Mapping[str, Any] | Callable[[str], Any]


def _matcher(model: Any) -> _Matcher:
    """Return timm's grouping of parameters; for the few models without, by module and number."""
    if hasattr(model, "group_matcher"):
        for coarse in (True, False):
            try:
                return model.group_matcher(coarse=coarse)
            except AssertionError:  # some models offer only one of the two
                continue
    blocks: list[str] = []
    for name, _ in model.named_parameters():
        block = re.match(r"[^.]+(\.\d+)?", name)
        if block and block.group() not in (*blocks, "head"):
            blocks.append(block.group())
    return {block: rf"^{re.escape(block)}(?:\.|$)" for block in blocks}


def _patterns(matcher: _Matcher) -> list[tuple[str, str]]:
    items = matcher.items() if isinstance(matcher, Mapping) else ()
    return [
        (key, pattern if isinstance(pattern, str) else pattern[0])
        for key, spec in items
        for pattern in ([spec] if isinstance(spec, str) else spec or ())
    ]


def _is_matched(matcher: _Matcher, name: str) -> bool:
    if not isinstance(matcher, Mapping):
        return True
    return any(re.match(pattern, name) for _, pattern in _patterns(matcher))


def _stage_name(matcher: _Matcher, group: list[str], *, first: bool) -> str:
    """Name a stage by the part of a name that timm groups by, or by what its names share."""
    for key, pattern in _patterns(matcher):
        if found := re.match(pattern, group[0]):
            return "stem" if key == "stem" else found.group().rstrip("._")
    shared = []
    for parts in zip(*(name.split(".")[:-1] for name in group), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared) or ("stem" if first else group[0].split(".")[0])
