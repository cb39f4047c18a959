"""The network: grey bytes in, one logit per label out; normalisation is part of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from cxr_lightning.config.schema import ImageConfig, ModelConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.models.backbone import Backbone, build_backbone
from cxr_lightning.models.fusion import Fusion, build_fusion
from cxr_lightning.models.heads import Head, build_head
from cxr_lightning.models.hub import hub_weights, published_statistics
from cxr_lightning.models.pooling import build_pool
from cxr_lightning.models.weights import assign_weights

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Network",
    "Normalise",
    "build_network",
    "decision_logits",
    "suited_image",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalise(nn.Module):
    """Grey bytes (B, 1, H, W) to (x / 255 - mean) / std, one output channel per entry of `mean`.

    The constants are plain numbers rather than buffers, so that no precision or state dict can
    change them: what a network was trained with is what it serves with.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean = tuple(float(m) for m in mean)
        self.std = tuple(float(s) for s in std)
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise ValueError(f"one mean and one positive std per channel: {mean}, {std}")

    def forward(self, image: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        full = torch.promote_types(dtype, torch.float32)
        channels = [  # in place, on a copy: each further array of this size costs as much again
            image.to(full, copy=True).mul_(1 / (255 * s)).sub_(m / s)
            for m, s in zip(self.mean, self.std, strict=True)
        ]
        return (channels[0] if len(channels) == 1 else torch.cat(channels, dim=1)).to(dtype)

    def extra_repr(self) -> str:
        return f"mean={self.mean}, std={self.std}"


class Network(nn.Module):
    """`normalise`, `backbone`, `pool`, `fusion` and `head`, in that order.

    The head has one output per label, or three (absent, present, uncertain) where uncertain labels
    are learnt as a class of their own.

    Batch-norm layers whose weights are frozen stay in evaluation mode whatever `train()` says: a
    frozen stage whose running statistics moved would not be frozen.
    """

    def __init__(
        self,
        normalise: Normalise,
        backbone: Backbone,
        pool: nn.Module,
        fusion: Fusion,
        head: Head,
        labels: Sequence[str],
    ) -> None:
        super().__init__()
        if head.num_labels not in (len(labels), 3 * len(labels)):
            raise ValueError(f"the head has {head.num_labels} outputs for {len(labels)} labels")
        self.normalise = normalise
        self.backbone = backbone
        self.pool = pool
        self.fusion = fusion
        self.head = head
        self.labels = tuple(labels)
        self.classes = head.num_labels // len(labels)

    def feature_map(self, image: torch.Tensor) -> torch.Tensor:
        """Grey images (B, 1, H, W) uint8 to the last feature map (B, F, h, w)."""
        if image.dtype != torch.uint8 or image.ndim != 4 or image.shape[1] != 1:
            raise ValueError(
                "the network takes grey images as uint8 (B, 1, H, W) and normalises them itself; "
                f"got {image.dtype} {tuple(image.shape)}"
            )
        dtype = next(self.backbone.parameters()).dtype
        return self.backbone(self.normalise(image, dtype))

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Grey images (B, 1, H, W) uint8 to pooled features (B, F), F doubled by avg+max."""
        return self.pool(self.feature_map(image))

    def classify(self, features: torch.Tensor, tabular: torch.Tensor | None = None) -> torch.Tensor:
        """Pooled features (B, F) to the head's outputs, (B, L) or (B, L, 3).

        They are computed outside autocast: bfloat16 logits would tie.
        """
        dtype = next(self.head.parameters()).dtype
        with torch.autocast(features.device.type, enabled=False):
            outputs = self.head(self.fusion(features.to(dtype), tabular))
        outputs = outputs.to(torch.promote_types(dtype, torch.float32))
        return outputs if self.classes == 1 else outputs.unflatten(1, (-1, self.classes))

    def outputs(self, image: torch.Tensor, tabular: torch.Tensor | None = None) -> torch.Tensor:
        """Grey images (B, 1, H, W) uint8 to what the loss takes: (B, L) or (B, L, 3)."""
        return self.classify(self.features(image), tabular)

    def forward(self, image: torch.Tensor, tabular: torch.Tensor | None = None) -> torch.Tensor:
        """Grey images (B, 1, H, W) uint8 to logits (B, L): float32, or float64 in double."""
        return decision_logits(self.outputs(image, tabular))

    def train(self, mode: bool = True) -> Network:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and is_frozen(module):
                module.eval()
        return self


def decision_logits(outputs: torch.Tensor) -> torch.Tensor:
    """Outputs (B, L) or (B, L, 3) to the logit of "present" against "absent", (B, L).

    Of three classes the uncertain one is left out and the other two are renormalised, as in Irvin
    et al., "CheXpert", AAAI 2019, section 4.
    """
    return outputs if outputs.ndim == 2 else outputs[..., 1] - outputs[..., 0]


def is_frozen(module: nn.Module) -> bool:
    """Whether the module has parameters and none of them is trained."""
    parameters = list(module.parameters(recurse=False))
    return bool(parameters) and not any(p.requires_grad for p in parameters)


def build_network(
    config: ModelConfig,
    image: ImageConfig,
    labels: Sequence[str],
    *,
    tabular: int = 0,
    classes: int = 1,
) -> Network:
    """Build the network for square images of side `image.size` and `tabular` further inputs.

    Its weights are random, or the hub's with `pretrained`; those of a file are loaded afterwards
    by :func:`cxr_lightning.models.weights.load_weights`, whose report is worth showing.

    The grey value is normalised by `image.mean` and `image.std`. With in_channels=3 it is repeated,
    and where these are the defaults, each channel has ImageNet's own of it instead. Every random
    number comes from torch's global generator, so `torch.manual_seed` before the call decides the
    initial weights.

    Raises
    ------
    ConfigError
        Unknown backbone or option, an input size it cannot take, weights that the hub did not
        give, or no label.
    """
    if not labels:
        raise ConfigError("the network needs at least one label; data.labels named none")
    normalise = Normalise((image.mean,) * config.in_channels, (image.std,) * config.in_channels)
    if config.in_channels == 3 and _is_default(image):
        normalise = Normalise(IMAGENET_MEAN, IMAGENET_STD)
    backbone = build_backbone(config, image.size)
    pool = build_pool(config.pooling)
    fusion = build_fusion(config.head, pool.multiplier * backbone.num_features, tabular)
    head = build_head(config.head, fusion.out_features, classes * len(labels))
    network = Network(normalise, backbone, pool, fusion, head, labels)
    if config.pretrained:
        assign_weights(network, hub_weights(config, image.size), source=f"{config.name} of the hub")
    return network


def suited_image(model: ModelConfig, image: ImageConfig) -> ImageConfig:
    """Return the image's configuration with the scale that pretrained weights expect.

    Most take ImageNet's mean and standard deviation, which are the defaults; some, such as those
    that come from TensorFlow and many transformers, take values from -1 to 1. What was set to
    anything but the defaults stays.
    """
    if not model.pretrained or not _is_default(image):
        return image
    expected = published_statistics(model)
    if expected is None or max(abs(expected[0] - image.mean), abs(expected[1] - image.std)) < 0.05:
        return image
    mean, std = (round(value, 4) for value in expected)
    return image.model_copy(update={"mean": mean, "std": std})


def _is_default(image: ImageConfig) -> bool:
    fields = ImageConfig.model_fields
    return (image.mean, image.std) == (fields["mean"].default, fields["std"].default)
