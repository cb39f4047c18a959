"""Image and table fused over convolutions and a vision transformer: gradients and heat maps."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch

from cxr_lightning.config.schema import HeadConfig, ImageConfig, ModelConfig
from cxr_lightning.explanation.heat_maps import compute_heat_maps
from cxr_lightning.models.fusion import GatedFusion
from cxr_lightning.models.network import Network, build_network

SIZE = 64
OPTIONS: dict[str, dict[str, Any]] = {
    "simple_cnn": {"channels": [8, 16], "convs_per_block": 1},
    "resnet18": {},
    "mobilenetv3_small_050": {},  # of timm
    "vit_tiny_patch16_224": {
        "embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 16, "img_size": SIZE,
    },
}  # fmt: skip
INPUTS = 3
Kind = Literal["concat", "gated"]


def fused(name: str, kind: Kind) -> Network:
    torch.manual_seed(0)
    head = HeadConfig(fusion=kind, fusion_units=8)
    config = ModelConfig(name=name, options=OPTIONS[name], head=head)
    return build_network(config, ImageConfig(size=SIZE), ("A", "B"), tabular=INPUTS).eval()


def a_batch() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (2, SIZE, SIZE), dtype=np.uint8)
    return images, generator.normal(size=(2, INPUTS)).astype(np.float32)


def close_gate(network: Network) -> GatedFusion:
    """Let nothing of the image through the gate: it is 0, whatever comes in."""
    fusion = network.fusion
    assert isinstance(fusion, GatedFusion)
    with torch.no_grad():
        fusion.gate.weight.zero_()
        fusion.gate.bias.fill_(-200.0)
    return fusion


def first_layer(network: Network) -> torch.nn.Parameter:
    """Return the kernel that meets the pixels; of a transformer, that which embeds its patches."""
    return next(p for p in network.backbone.parameters() if p.ndim == 4 and p.shape[1] == 1)


def gradient_at_the_pixels(network: Network) -> torch.Tensor:
    images, inputs = a_batch()
    network.zero_grad()
    logits = network(torch.from_numpy(images)[:, None], torch.from_numpy(inputs))
    logits.sum().backward()
    gradient = first_layer(network).grad
    assert gradient is not None
    return gradient.clone()


@pytest.mark.parametrize("name", OPTIONS)
class TestEveryBackbone:
    @pytest.mark.parametrize("kind", ["concat", "gated"])
    def test_both_inputs_reach_the_logits(self, name: str, kind: Kind) -> None:
        network = fused(name, kind)
        images, tabular = a_batch()
        pixels, inputs = torch.from_numpy(images)[:, None], torch.from_numpy(tabular)
        with torch.no_grad():
            logits = network(pixels, inputs)
            assert logits.shape == (2, 2)
            assert logits.isfinite().all()
            # All images at once or one by one, and each input by itself makes a difference.
            alone = torch.cat([network(pixels[i : i + 1], inputs[i : i + 1]) for i in range(2)])
            torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5)
            for changed in (network(pixels, inputs + 1), network(255 - pixels, inputs)):
                assert ((changed - logits).abs() > 1e-5).any()

    @pytest.mark.parametrize("kind", ["concat", "gated"])
    def test_gradients_reach_the_first_layer(self, name: str, kind: Kind) -> None:
        gradient = gradient_at_the_pixels(fused(name, kind))
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 1e-7

    def test_past_a_closed_gate_by_the_residual_alone(self, name: str) -> None:
        network = fused(name, "gated")
        fusion = close_gate(network)
        assert gradient_at_the_pixels(network).abs().max() > 1e-7
        images, tabular = a_batch()
        with torch.no_grad():
            features = network.features(torch.from_numpy(images)[:, None])
            image, other = fusion.image(features), fusion.tabular(torch.from_numpy(tabular))
            torch.testing.assert_close(
                fusion(features, torch.from_numpy(tabular)), other + image, rtol=0, atol=1e-6
            )

        # Take the residual away, and nothing of the image is left.
        class WithoutResidual(GatedFusion):
            def forward(
                self, features: torch.Tensor, tabular: torch.Tensor | None = None
            ) -> torch.Tensor:
                return super().forward(features, tabular) - self.image(features)

        fusion.__class__ = WithoutResidual
        assert gradient_at_the_pixels(network).abs().max() < 1e-20

    @pytest.mark.parametrize(
        ("kind", "closed"), [("concat", False), ("gated", False), ("gated", True)]
    )
    def test_grad_cam_is_the_papers(self, name: str, kind: Kind, closed: bool) -> None:
        """Selvaraju et al., ICCV 2017, equations 1 and 2, by autograd alone."""
        network = fused(name, kind)
        if closed:
            close_gate(network)
        images, tabular = a_batch()
        found = compute_heat_maps(network, images, ["B"], "gradcam", tabular=tabular)
        assert not found.vanished.any()
        maps = network.feature_map(torch.from_numpy(images)[:, None]).detach().requires_grad_()
        logits = network.classify(network.pool(maps), torch.from_numpy(tabular))
        (gradient,) = torch.autograd.grad(logits[:, 1].sum(), maps)
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        expected = (weights * maps).sum(dim=1).clamp(min=0).detach().numpy()
        low, high = (edge(expected, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
        expected = (expected - low) / np.where(high > low, high - low, 1)
        np.testing.assert_allclose(found.values[:, 0], expected, atol=2e-3)

    def test_the_table_moves_the_map_by_the_head_alone(self, name: str) -> None:
        """Concatenation is linear here: what stands beside the image cannot move its map."""
        network = fused(name, "concat")
        images, tabular = a_batch()
        one, other = (
            compute_heat_maps(network, images, ["A"], "gradcam", tabular=given).values
            for given in (tabular, tabular + 5)
        )
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("kind", ["concat", "gated"])
@pytest.mark.parametrize("method", ["rollout", "gradient_rollout"])
def test_attention_of_a_fused_transformer(
    kind: Kind, method: Literal["rollout", "gradient_rollout"]
) -> None:
    network = fused("vit_tiny_patch16_224", kind)
    if kind == "gated":
        close_gate(network)
    images, tabular = a_batch()
    found = compute_heat_maps(network, images, method=method, tabular=tabular)
    assert found.values.shape == (2, 2, 4, 4)
    assert not found.vanished.any()
    assert not found.empty.any()
