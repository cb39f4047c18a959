"""What is frozen does not move: neither by gradient nor by batch statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cxr_lightning.config.schema import ImageConfig, ModelConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.models.freezing import freeze_stages, frozen_parameters, unfreeze_all
from cxr_lightning.models.groups import parameter_groups
from cxr_lightning.models.network import Network, build_network


def network(name: str = "simple_cnn", **model: Any) -> Network:
    torch.manual_seed(0)
    options = {"channels": [8, 8, 16]} if name == "simple_cnn" else {}
    config = ModelConfig(name=name, options=options, **model)
    return build_network(config, ImageConfig(size=32), ["Effusion", "Mass"])


def image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8, generator=generator)


def stages_of(net: Network, names: tuple[str, ...]) -> list[str]:
    return [
        stage
        for stage, parameters in net.backbone.stages.items()
        if {f"backbone.{p}" for p in parameters} & set(names)
    ]


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [
        ("none", []),
        (("none",), []),
        ("backbone", ["stem", "block1", "block2", "block3"]),
        ("all_but_last_1", ["stem", "block1", "block2"]),
        ("all_but_last_4", []),
        ("stem", ["stem"]),
        (("block2", "stem"), ["stem", "block2"]),
    ],
)
def test_what_freeze_means(freeze: str | tuple[str, ...], expected: list[str]) -> None:
    net = network()
    names = frozen_parameters(net, freeze)
    assert stages_of(net, names) == expected
    assert len(names) == len(set(names))
    assert set(names) <= {n for n, _ in net.named_parameters()}
    assert not any(n.startswith(("head", "pool")) for n in names)


@pytest.mark.parametrize("name", ["simple_cnn", "resnet18", "torchvision/mobilenet_v2"])
def test_a_step_moves_what_is_trained_and_nothing_else(name: str) -> None:
    net = network(name, pooling="gem").train()
    frozen = set(freeze_stages(net, "all_but_last_2"))
    net.train()  # as the trainer does before every epoch
    before = {n: t.clone() for n, t in net.state_dict().items()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1)
    net(image()).square().sum().backward()
    optimizer.step()
    assert frozen
    for parameter_name, parameter in net.named_parameters():
        assert (parameter.grad is None) == (parameter_name in frozen), parameter_name
    modules = {n.rsplit(".", 1)[0] for n in frozen}
    for state_name, tensor in net.state_dict().items():
        if state_name.rsplit(".", 1)[0] in modules:
            assert torch.equal(tensor, before[state_name]), state_name
        elif state_name.endswith("running_mean"):
            assert not torch.equal(tensor, before[state_name]), state_name


def test_released_layers_train_again() -> None:
    net = network().train()
    freeze_stages(net, "backbone")
    unfreeze_all(net)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    net(image()).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    moved = [n for n, t in net.state_dict().items() if not torch.equal(t, before[n])]
    assert len([n for n in moved if n.endswith("running_var")]) == len(
        [n for n in before if n.endswith("running_var")]
    )


def test_evaluation_mode_stays_evaluation_mode() -> None:
    net = network().eval()
    freeze_stages(net, "stem")
    assert not any(m.training for m in net.modules())


def test_unknown_stages_are_all_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        freeze_stages(network(), ("blok2", "backbone", "layer9"))
    message = str(error.value)
    assert "'blok2' is no stage of this backbone. Did you mean 'block2'?" in message
    assert "'backbone' stands alone" in message
    assert "'layer9' is no stage" in message
    assert message.endswith("- stem\n  - block1\n  - block2\n  - block3")


@pytest.mark.parametrize("number", [0, 5])
def test_more_stages_than_there_are(number: int) -> None:
    with pytest.raises(ConfigError, match=rf"all_but_last_{number}: this backbone has 4 stages"):
        freeze_stages(network(), f"all_but_last_{number}")


@pytest.mark.parametrize(
    "name", ["simple_cnn", "resnet18", "convnext_atto", "vit_tiny_patch16_224"]
)
@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_groups_hold_every_parameter_once(name: str, layer_decay: float) -> None:
    with torch.device("meta"):
        net = network(name, pooling="gem")
    freeze_stages(net, "backbone")
    groups = parameter_groups(net, lr=1.0, layer_decay=layer_decay, weight_decay=0.1)
    ids = [id(p) for group in groups for p in group["params"]]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in net.parameters()}
    named = dict(net.named_parameters())
    for group in groups:
        assert group["weight_decay"] == (0.0 if group["name"].endswith("/no_decay") else 0.1)
        assert [id(named[n]) for n in group["parameters"]] == [id(p) for p in group["params"]]
    torch.optim.AdamW(groups, lr=1.0)


def test_rates_by_hand() -> None:
    groups = parameter_groups(
        network(), lr=1.0, backbone_lr_factor=0.1, layer_decay=0.5, weight_decay=0.1
    )
    rates = {g["name"]: g["lr"] for g in groups if not g["name"].endswith("/no_decay")}
    assert list(rates) == ["stem", "block1", "block2", "block3", "head"]
    expected = {"stem": 0.1 / 16, "block1": 0.1 / 8, "block2": 0.1 / 4, "block3": 0.05, "head": 1.0}
    assert rates == pytest.approx(expected)


def test_equal_rates_make_few_groups() -> None:
    groups = parameter_groups(network(), lr=1.0, backbone_lr_factor=0.1, weight_decay=0.1)
    assert [g["name"] for g in groups] == [
        "backbone",
        "backbone/no_decay",
        "head",
        "head/no_decay",
    ]
    assert [g["lr"] for g in groups] == pytest.approx([0.1, 0.1, 1.0, 1.0])


def test_what_has_no_weight_decay() -> None:
    with torch.device("meta"):
        net = network("vit_tiny_patch16_224", pooling="gem")
    groups = parameter_groups(net, lr=1.0, weight_decay=0.1)
    exempt = {n for g in groups if g["weight_decay"] == 0 for n in g["parameters"]}
    model = "backbone.model"
    assert {f"{model}.cls_token", f"{model}.pos_embed", "pool.p"} <= exempt
    assert {f"{model}.blocks.0.norm1.weight", f"{model}.blocks.0.attn.qkv.bias"} <= exempt
    assert f"{model}.blocks.0.attn.qkv.weight" not in exempt


def test_biases_of_a_per_label_head_are_biases() -> None:
    from cxr_lightning.config.schema import HeadConfig

    groups = parameter_groups(network(head=HeadConfig(kind="per_label")), lr=1.0, weight_decay=0.1)
    (decayed,) = (g for g in groups if g["name"] == "head")
    assert all(name.endswith("weight") for name in decayed["parameters"])
