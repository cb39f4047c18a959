"""Fusion of image and table: shapes, and gradients that keep reaching the backbone."""

from __future__ import annotations

import pytest
import torch

from cxr_lightning.config.schema import HeadConfig, ImageConfig, ModelConfig
from cxr_lightning.models.fusion import Concatenation, GatedFusion, ImageOnly, build_fusion
from cxr_lightning.models.network import build_network

LABELS = ("Effusion", "Mass")


def test_without_tabular_inputs_there_is_nothing_to_fuse() -> None:
    for kind in ("concat", "gated"):
        fusion = build_fusion(HeadConfig(fusion=kind), 6, 0)
        assert isinstance(fusion, ImageOnly)
        assert not list(fusion.parameters())
        features = torch.randn(3, 6)
        assert fusion(features) is features


def test_concatenation_by_hand() -> None:
    fused = Concatenation(2, 1)(torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0]]))
    assert fused.tolist() == [[1, 2, 5]]


def test_gate_by_hand() -> None:
    fusion = GatedFusion(1, 1, 1)
    with torch.no_grad():
        for layer, weight in ((fusion.image[0], 2.0), (fusion.tabular[0], 3.0)):
            layer.weight.fill_(weight)
            layer.bias.zero_()
        fusion.gate.weight.zero_()
        fusion.gate.bias.fill_(torch.logit(torch.tensor(0.25)))
    # branches 2 and 3, gate 0.25, and the image branch once more
    fused = fusion(torch.tensor([[1.0]]), torch.tensor([[1.0]]))
    assert fused.item() == pytest.approx(0.25 * 2 + 0.75 * 3 + 2)


@pytest.mark.parametrize("closed", [-100.0, 0.0, 100.0])
def test_gradients_reach_the_backbone_even_where_the_gate_is_closed(closed: float) -> None:
    torch.manual_seed(0)
    net = build_network(
        ModelConfig(options={"channels": [8, 16]}, head=HeadConfig(fusion="gated")),
        ImageConfig(size=32),
        LABELS,
        tabular=3,
    )
    assert isinstance(net.fusion, GatedFusion)
    with torch.no_grad():
        net.fusion.gate.weight.zero_()
        net.fusion.gate.bias.fill_(closed)
    image = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8)
    feature_map = net.feature_map(image)
    feature_map.retain_grad()
    net.classify(net.pool(feature_map), torch.randn(4, 3)).sum().backward()
    assert feature_map.grad is not None  # what Grad-CAM weighs
    assert (feature_map.grad.abs().amax(dim=(1, 2, 3)) > 1e-4).all()
    for name, parameter in net.backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", ["concat", "gated"])
@pytest.mark.parametrize("head", ["linear", "mlp", "per_label"])
def test_tabular_inputs_matter_under_any_head(kind: str, head: str) -> None:
    torch.manual_seed(0)
    net = build_network(
        ModelConfig(options={"channels": [8, 16]}, head=HeadConfig(kind=head, fusion=kind)),
        ImageConfig(size=32),
        LABELS,
        tabular=2,
    ).eval()
    image = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    assert not torch.equal(net(image, torch.zeros(2, 2)), net(image, torch.ones(2, 2)))
    with pytest.raises(ValueError, match="built for 2 tabular inputs and was given 0"):
        net(image)
