"""Heat maps against the papers' formulas, computed here by autograd alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.layers import set_fused_attn
from timm.utils import AttentionExtract
from torch import nn

from cxr_lightning.config.schema import HeadConfig, ImageConfig
from cxr_lightning.data.images import placement, resize_to_square
from cxr_lightning.errors import ConfigError
from cxr_lightning.evaluation.localisation import localise, on_picture
from cxr_lightning.explanation.heat_maps import compute_heat_maps, warnings_of
from cxr_lightning.models.backbone import Backbone
from cxr_lightning.models.fusion import build_fusion
from cxr_lightning.models.heads import build_head
from cxr_lightning.models.network import Network, Normalise
from cxr_lightning.models.pooling import build_pool

Make = Callable[..., Network]
METHODS: list[Any] = ["gradcam", "gradcam++", "rollout", "gradient_rollout"]


def squares(n: int = 3, size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size), dtype=np.uint8)


def scaled(values: np.ndarray) -> np.ndarray:
    low = values.min(axis=(-2, -1), keepdims=True)
    high = values.max(axis=(-2, -1), keepdims=True)
    return (values - low) / np.where(high > low, high - low, 1)


def map_and_gradient(
    network: Network, images: np.ndarray, tabular: np.ndarray | None, label: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of the logit with respect to the last feature map, in float64."""
    twin = network.double()
    beside = None if tabular is None else torch.from_numpy(tabular)
    maps = twin.feature_map(torch.from_numpy(images)[:, None]).detach().requires_grad_()
    outputs = twin.classify(twin.pool(maps), beside)
    logit = outputs[:, label] if outputs.ndim == 2 else outputs[:, label, 1] - outputs[:, label, 0]
    (gradient,) = torch.autograd.grad(logit.sum(), maps)
    network.float()
    return maps.detach().numpy(), gradient.numpy()


KINDS: list[dict[str, Any]] = [
    {},
    {"name": "simple_cnn", "tabular": 4, "classes": 3},
    {"name": "resnet18"},
    {"name": "vit_tiny_patch16_224"},
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
@pytest.mark.parametrize("plus_plus", [False, True])
def test_the_papers_formulas(make_network: Make, kind: dict[str, Any], plus_plus: bool) -> None:
    network, images = make_network(**kind), squares()
    inputs = kind.get("tabular", 0)
    rng = np.random.default_rng(1)
    tabular = rng.normal(size=(3, inputs)).astype(np.float32) if inputs else None
    found = compute_heat_maps(
        network, images, ["C", "A"], "gradcam++" if plus_plus else "gradcam", tabular=tabular
    )
    assert found.labels == ("C", "A")
    for place, label in enumerate((2, 0)):
        maps, gradient = map_and_gradient(network, images, tabular, label)
        if plus_plus:  # Chattopadhay et al., equations 19 and 20, of exp(logit)
            total = maps.sum(axis=(2, 3), keepdims=True)
            below = 2 * gradient**2 + total * gradient**3
            alpha = np.divide(gradient**2, below, out=np.zeros_like(maps), where=gradient != 0)
            weights = (alpha * np.maximum(gradient, 0)).sum(axis=(2, 3))
        else:  # Selvaraju et al., equations 1 and 2
            weights = gradient.mean(axis=(2, 3))
        expected = np.maximum(np.einsum("nf,nfhw->nhw", weights, maps), 0)
        assert np.allclose(found.values[:, place], scaled(expected), atol=2e-3)
        assert np.array_equal(found.empty[:, place], scaled(expected).max(axis=(1, 2)) == 0)


def test_of_a_linear_head_after_mean_pooling_it_is_the_class_activation_map(
    make_network: Make,
) -> None:
    """Zhou et al., "Learning deep features for discriminative localization", CVPR 2016."""
    network, images = make_network(), squares()
    with torch.no_grad():
        maps = network.feature_map(torch.from_numpy(images)[:, None]).numpy()
    (weights,) = [p for p in network.head.parameters() if p.ndim == 2]
    expected = np.einsum("lf,nfhw->nlhw", weights.detach().numpy(), maps)
    found = compute_heat_maps(network, images)
    assert np.allclose(found.values, scaled(np.maximum(expected, 0)), atol=1e-4)


def reference_attention(network: Network, images: np.ndarray) -> list[torch.Tensor]:
    """Attention weights of each layer by timm's own tracer, from a model built without fusion."""
    set_fused_attn(False)
    try:
        size = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
        plain = timm.create_model(
            "vit_tiny_patch16_224", in_chans=1, num_classes=0, global_pool="", **size
        )
    finally:
        set_fused_attn(True)
    plain.load_state_dict(network.backbone.model.state_dict(), strict=False)
    plain.double().eval()
    pixels = network.normalise(torch.from_numpy(images)[:, None], torch.float64)
    return list(AttentionExtract(plain, method="fx")(pixels).values())


def test_rollout_is_that_of_abnar_and_zuidema(make_network: Make) -> None:
    network, images = make_network("vit_tiny_patch16_224"), squares()
    layers = [a.detach().mean(dim=1).numpy() for a in reference_attention(network, images)]
    assert len(layers) == 2
    flow = (layers[1] / 2 + np.eye(17) / 2) @ (layers[0] / 2 + np.eye(17) / 2)
    expected = flow[:, 1:, 1:].mean(axis=1).reshape(-1, 4, 4)  # token 0 is the class token
    found = compute_heat_maps(network, images, method="rollout")
    assert np.allclose(found.values[:, 0], scaled(expected), atol=1e-3)
    assert np.array_equal(found.values[:, 0], found.values[:, 2])  # the same for every label


def test_gradient_rollout_is_that_of_chefer(make_network: Make) -> None:
    network, images = make_network("vit_tiny_patch16_224"), squares(1)
    kept: list[torch.Tensor] = []
    layers = [module for module in network.backbone.modules() if hasattr(module, "fused_attn")]
    for layer in layers:
        layer.fused_attn = False  # type: ignore[assignment]
        layer.attn_drop.register_forward_hook(  # type: ignore[union-attr]
            lambda module, given, output: kept.append(output)
        )
    logit = network(torch.from_numpy(images)[:, None])[0, 1]
    gradients = torch.autograd.grad(logit, kept)
    relevance = torch.eye(17)
    for attention, gradient in zip(kept, gradients, strict=True):
        step = (attention * gradient).clamp(min=0).mean(dim=1)[0]
        relevance = relevance + step @ relevance
    expected = relevance[1:, 1:].mean(dim=0).reshape(1, 4, 4).detach().numpy()
    found = compute_heat_maps(network, images, ["B"], "gradient_rollout")
    assert np.allclose(found.values[:, 0], scaled(expected), atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_maps_do_not_depend_on_the_batch_and_leave_no_trace(
    make_network: Make, method: Any
) -> None:
    network, images = make_network("vit_tiny_patch16_224"), squares(5)
    network.train()
    before = {name: p.clone() for name, p in network.state_dict().items()}
    done: list[int] = []
    one = compute_heat_maps(network, images, method=method, batch_size=2, advance=done.append)
    other = compute_heat_maps(network, images, method=method, batch_size=5)
    assert np.allclose(one.values, other.values, atol=1e-4)
    assert one.values.min() >= 0
    assert np.allclose(one.values.max(axis=(2, 3)), 1)
    assert done == [2, 2, 1]
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert all(torch.equal(before[name], p) for name, p in network.state_dict().items())
    assert not any(m._forward_hooks for m in network.modules())
    assert all(getattr(module, "fused_attn", True) for module in network.modules())


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "gradient_rollout"])
def test_where_gradients_vanish_it_is_counted_and_said(make_network: Make, method: Any) -> None:
    network = make_network("vit_tiny_patch16_224")
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter[1] = 0  # label B depends on nothing any more
    found = compute_heat_maps(network, squares(4), method=method)
    assert found.vanished[:, 1].all()
    assert not found.vanished[:, [0, 2]].any()
    assert not found.values[:, 1].any()
    assert warnings_of(found) == [
        "no gradient reaches the feature map, and the maps say nothing: B in 4 of 4 images"
    ]


def test_maps_that_are_empty_for_another_reason_are_said_too(make_network: Make) -> None:
    network = make_network()
    (weights,) = [p for p in network.head.parameters() if p.ndim == 2]
    with torch.no_grad():
        weights[0] = -weights[0].abs()  # features after ReLU then only speak against A
    found = compute_heat_maps(network, squares(2), ["A"])
    assert found.empty.all()
    assert not found.vanished.any()
    (line,) = warnings_of(found)
    assert line.startswith("no place speaks for the label")
    assert line.endswith("A in 2 of 2 images")


SWIN = {
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "window_size": 4,
    "img_size": 64,
}


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("simple_cnn", None, "layers of a timm transformer"),
        ("swin_tiny_patch4_window7_224", SWIN, "within windows"),
    ],
)
@pytest.mark.parametrize("method", ["rollout", "gradient_rollout"])
def test_rollout_is_refused_where_it_has_no_meaning(
    make_network: Make, name: str, options: Any, words: str, method: Any
) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        compute_heat_maps(make_network(name, options=options), squares(1), method=method)
    assert "use method=gradcam" in str(raised.value)


def test_unknown_labels_are_all_named(make_network: Make) -> None:
    labels: Sequence[str] = ["A", "Bee", "D"]
    with pytest.raises(ConfigError) as raised:
        compute_heat_maps(make_network(), squares(1), labels)
    assert "'Bee'" in str(raised.value)
    assert "'D'" in str(raised.value)
    assert "Allowed: A, B, C" in str(raised.value)


class Brightness(Backbone):
    """A backbone whose only feature is how far each of 16 x 16 places is above mid-grey."""

    def __init__(self) -> None:
        super().__init__(nn.Identity())
        self.level = nn.Parameter(torch.zeros(()))
        self.num_features = 1
        self.stages = {"stem": ("level",)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d((x - self.level).relu(), 16)


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_a_network_that_sees_brightness_finds_the_bright_box(fit: Any, method: Any) -> None:
    """From pixels to the hit, through preprocessing, network, map and box space."""
    config = ImageConfig(size=128, fit=fit)
    head = build_head(HeadConfig(), 1, 1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.fill_(1.0)
    network = Network(
        Normalise((0.5,), (0.25,)),
        Brightness(),
        build_pool("avg"),
        build_fusion(HeadConfig(), 1, 0),
        head,
        ("A",),
    ).eval()
    rng = np.random.default_rng(0)
    for shape in ((512, 400), (256, 300)):
        picture = rng.integers(0, 100, shape, dtype=np.uint8)
        top, left, side = shape[0] // 3, shape[1] // 2, shape[1] // 4
        picture[top : top + side, left : left + side] = 250
        maps = compute_heat_maps(network, resize_to_square(picture, config)[None], method=method)
        placed = placement(*shape, config)
        heat = on_picture(maps.values[0, 0], placed, 128, shape, (1024, 1024))
        box = np.array([left / shape[1], top / shape[0], side / shape[1], side / shape[0]]) * 1024
        found = localise(heat, [box])
        assert found.iou.max() > 0.6  # one of 16 cells is a quarter of the box
        x, y = found.point or (-1, -1)
        assert box[0] < x < box[0] + box[2]
        assert box[1] < y < box[1] + box[3]
