"""Features at every stage equal those of the network's own parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cxr_lightning.errors import ConfigError
from cxr_lightning.explanation.features import POOLED, run_network, stage_names
from cxr_lightning.models.network import Network

Make = Callable[..., Network]


def squares(n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 64, 64), dtype=np.uint8)


def test_pooled_features_and_logits(make_network: Make) -> None:
    network, images = make_network(tabular=4, classes=3), squares()
    tabular = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    done: list[int] = []
    features, logits = run_network(
        network,
        [(images[:2], tabular[:2]), (images[2:], tabular[2:])],
        advance=done.append,
    )
    with torch.no_grad():
        pixels = torch.from_numpy(images)[:, None]
        assert np.allclose(features, network.features(pixels).numpy(), atol=1e-5)
        assert np.allclose(logits, network(pixels, torch.from_numpy(tabular)).numpy(), atol=1e-5)
    assert done == [2, 1]


def test_a_stage_in_the_middle(make_network: Make) -> None:
    network, images = make_network("resnet18"), squares()
    assert stage_names(network) == ("stem", "layer1", "layer2", "layer3", "layer4", POOLED)
    found, logits = run_network(network, [(images, None)], "layer2")
    model = network.backbone.model
    with torch.no_grad():
        pixels = torch.from_numpy(images)[:, None]
        x = model.maxpool(model.act1(model.bn1(model.conv1(network.normalise(pixels)))))
        expected = model.layer2(model.layer1(x)).mean(dim=(2, 3))
        assert np.allclose(found, expected.numpy(), atol=1e-5)
        assert np.allclose(logits, network(pixels).numpy(), atol=1e-5)
    assert not any(module._forward_hooks for module in network.modules())


SWIN = {
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "window_size": 4,
    "img_size": 64,
}


@pytest.mark.parametrize(
    ("name", "options", "widths"),
    [
        ("vit_tiny_patch16_224", None, {"stem": 32, "blocks.0": 32, "blocks.1": 32, POOLED: 32}),
        (
            "swin_tiny_patch4_window7_224",
            SWIN,
            {"stem": 16, "layers.0": 16, "layers.1": 32, POOLED: 32},
        ),
    ],
)
def test_tokens_and_maps_with_channels_last(
    make_network: Make, name: str, options: dict[str, object] | None, widths: dict[str, int]
) -> None:
    network = make_network(name, options=options)
    assert set(stage_names(network)) == set(widths)
    for stage, width in widths.items():
        features, _ = run_network(network, [(squares(), None)], stage)
        assert features.shape == (3, width)
        assert features.std() > 0


def test_an_unknown_stage(make_network: Make) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'layer3'") as raised:
        run_network(make_network("resnet18"), [], "layer33")
    assert "pooled" in str(raised.value)
