from __future__ import annotations

import pytest
import torch
from torch import nn

from cxr_lightning.config.compose import compose
from cxr_lightning.config.schema import HeadConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.models.heads import PerLabelHead, PerLabelLinear, build_head


def features() -> torch.Tensor:
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)])
def test_per_label_equals_a_loop_of_mlps(hidden: tuple[int, ...]) -> None:
    head = build_head(HeadConfig(kind="per_label", hidden=hidden), 6, 3)
    layers = [m for m in head.modules() if isinstance(m, PerLabelLinear)]
    assert len(layers) == len(hidden) + 1
    columns = []
    for label in range(3):
        x = features()
        for i, layer in enumerate(layers):
            x = nn.functional.linear(x, layer.weight[label], layer.bias[label])
            x = x.relu() if i < len(layers) - 1 else x
        columns.append(x)
    torch.testing.assert_close(head(features()), torch.cat(columns, dim=1))


def test_labels_share_nothing_in_a_per_label_head() -> None:
    head = PerLabelHead(6, 3, (4,))
    head(features())[:, 1].sum().backward()
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert parameter.grad[1].abs().sum() > 0
        assert parameter.grad[[0, 2]].abs().sum() == 0


def test_dropout_is_drawn_for_each_label_by_itself() -> None:
    torch.manual_seed(0)
    head = PerLabelHead(6, 2, (), dropout=0.5)
    layer = head.layers[2]
    assert isinstance(layer, PerLabelLinear)
    with torch.no_grad():
        layer.weight[1] = layer.weight[0]
        layer.bias[1] = layer.bias[0]
    logits = head(features())
    assert not torch.equal(logits[:, 0], logits[:, 1])
    head.eval()
    torch.testing.assert_close(head(features())[:, 0], head(features())[:, 1])


def test_per_label_initialisation_is_that_of_linear_layers() -> None:
    torch.manual_seed(0)
    layer = PerLabelLinear(50, 64, 32)
    reference = nn.Linear(64, 32)
    assert layer.weight.abs().max() <= 1 / 8
    assert layer.weight.std().item() == pytest.approx(reference.weight.std().item(), rel=0.05)


def test_linear_and_mlp_are_torchs_layers() -> None:
    x = features()
    linear = build_head(HeadConfig(kind="linear"), 6, 3)
    (layer,) = (m for m in linear.modules() if isinstance(m, nn.Linear))
    torch.testing.assert_close(linear(x), layer(x))
    mlp = build_head(HeadConfig(kind="mlp", hidden=(8, 7), dropout=0.3), 6, 3).eval()
    first, second, last = (m for m in mlp.modules() if isinstance(m, nn.Linear))
    assert (first.out_features, second.out_features) == (8, 7)
    torch.testing.assert_close(mlp(x), last(second(first(x).relu()).relu()))
    assert [m.p for m in mlp.modules() if isinstance(m, nn.Dropout)] == [0.3] * 3


def test_a_layer_without_units() -> None:
    with pytest.raises(ConfigError, match=r"model\.head\.hidden\.1=0 .*greater than or equal to 1"):
        compose(["model.head.hidden=[8,0]"])
