"""Every backbone keeps one contract, whichever library it comes from."""

from __future__ import annotations

import pytest
import torch
import torchvision.models as tv

from cxr_lightning.config.schema import ModelConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.models.backbone import Backbone, build_backbone
from cxr_lightning.models.timm_backbone import tokens_to_map
from cxr_lightning.models.torchvision_backbone import from_torchvision

# name, side of the input: the smallest that the family takes
BACKBONES = [
    ("simple_cnn", 32),
    ("resnet18", 32),
    ("densenet121", 32),
    ("efficientnet_lite0", 32),
    ("mobilenetv3_small_100", 32),
    ("convnext_atto", 32),
    ("vit_tiny_patch16_224", 32),  # tokens behind a class token, its size told
    ("deit_tiny_distilled_patch16_224", 48),  # two tokens before the grid
    ("swin_s3_tiny_224", 64),  # channels last
    ("inception_v3", 75),
    ("regnetx_002", 32),
    ("torchvision/resnet18", 32),
    ("torchvision/densenet121", 32),
    ("torchvision/mobilenet_v2", 32),
    ("torchvision/shufflenet_v2_x0_5", 32),
    ("torchvision/squeezenet1_1", 32),
    ("torchvision/inception_v3", 75),
]

# families whose shapes alone are checked, on the meta device
SHAPES_ONLY = [
    ("vgg11", 32),
    ("eva02_tiny_patch14_224", 56),
    ("hiera_tiny_224", 224),
    ("volo_d1_224", 224),  # a class token that timm does not announce
    ("efficientvit_b0", 64),  # refuses to be built without pooling
    ("pit_xs_224", 224),  # its forward_features gives one token
    ("caformer_s18", 64),  # no grouping of timm's own, and a norm inside the classifier
    ("mambaout_femto", 64),
    ("torchvision/alexnet", 64),
    ("torchvision/convnext_tiny", 32),
    ("torchvision/efficientnet_b0", 32),
    ("torchvision/googlenet", 32),
    ("torchvision/mnasnet0_5", 32),
    ("torchvision/mobilenet_v3_small", 32),
    ("torchvision/swin_t", 64),
    ("torchvision/vgg11_bn", 32),
    ("torchvision/vit_b_32", 64),
    ("torchvision/wide_resnet50_2", 32),
]


def assert_stages_cover_all_parameters_once(backbone: Backbone) -> None:
    staged = [name for names in backbone.stages.values() for name in names]
    assert len(staged) == len(set(staged))
    assert set(staged) == {name for name, _ in backbone.named_parameters()}
    assert all(backbone.stages.values())
    assert len(backbone.stages) >= 2


@pytest.mark.parametrize(("name", "size"), BACKBONES)
def test_feature_map_and_gradient(name: str, size: int) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(ModelConfig(name=name), size)
    assert_stages_cover_all_parameters_once(backbone)
    y = backbone(torch.randn(2, 1, size, size))
    assert y.shape[:2] == (2, backbone.num_features)
    assert y.ndim == 4
    assert y.isfinite().all()
    (y * torch.randn_like(y)).sum().backward()
    without = [n for n, p in backbone.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize(("name", "size"), SHAPES_ONLY)
def test_feature_map_shape(name: str, size: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(ModelConfig(name=name), size)
        y = backbone.eval()(torch.empty(2, 1, size, size))
    assert_stages_cover_all_parameters_once(backbone)
    assert y.shape[:2] == (2, backbone.num_features)
    assert y.ndim == 4


def test_regnet_of_torchvision_cannot_be_built_on_meta_and_runs_itself() -> None:
    backbone = build_backbone(ModelConfig(name="torchvision/regnet_y_400mf"), 32)
    assert_stages_cover_all_parameters_once(backbone)
    assert next(iter(backbone.stages)) == "stem"
    assert backbone(torch.randn(2, 1, 32, 32)).shape == (2, backbone.num_features, 1, 1)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("simple_cnn", ["stem", "block1", "block2", "block3", "block4"]),
        ("resnet18", ["stem", "layer1", "layer2", "layer3", "layer4"]),
        ("torchvision/resnet18", ["stem", "layer1", "layer2", "layer3", "layer4"]),
        ("densenet121", ["stem", *(f"features.denseblock{i}" for i in range(1, 5))]),
        ("torchvision/densenet121", ["stem", *(f"features.denseblock{i}" for i in range(1, 5))]),
        ("torchvision/vgg11", [f"block{i}" for i in range(1, 6)]),
        ("vit_tiny_patch16_224", ["stem", *(f"blocks.{i}" for i in range(12))]),
    ],
)
def test_stage_names(name: str, stages: list[str]) -> None:
    with torch.device("meta"):
        assert list(build_backbone(ModelConfig(name=name), 64).stages) == stages


def test_torchvision_and_timm_resnet_compute_the_same() -> None:
    ours = build_backbone(ModelConfig(name="torchvision/resnet18"), 64).eval()
    timms = build_backbone(ModelConfig(name="resnet18"), 64).eval()
    timms.model.load_state_dict(ours.model.state_dict())
    x = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(ours(x), timms(x))


def test_torchvision_features_lead_to_torchvisions_own_logits() -> None:
    torch.manual_seed(0)
    whole = tv.densenet121().eval()
    backbone = build_backbone(ModelConfig(name="torchvision/densenet121", in_channels=3), 64).eval()
    backbone.model.load_state_dict(whole.state_dict(), strict=False)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(whole.classifier(backbone(x).mean((2, 3))), whole(x))


def test_torchvision_transformer_gives_the_tokens_of_its_encoder() -> None:
    whole = tv.VisionTransformer(32, 8, 1, 2, hidden_dim=16, mlp_dim=16).eval()
    found: list[torch.Tensor] = []
    whole.encoder.register_forward_hook(lambda *args: found.append(args[2]))
    x = torch.randn(2, 3, 32, 32)
    whole(x)
    feature_map = from_torchvision(whole)(x)
    torch.testing.assert_close(feature_map.flatten(2).mT, found[0][:, 1:])


def test_same_seed_same_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(build_backbone(ModelConfig(), 64).state_dict())
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=0, atol=0)


def test_tokens_to_map_by_hand() -> None:
    tokens = torch.arange(7.0).reshape(1, 7, 1)  # a class token, then a grid of 2 x 3
    expected = torch.tensor([[[[1.0, 2, 3], [4, 5, 6]]]])
    torch.testing.assert_close(tokens_to_map(tokens, (20, 30), 1), expected)
    assert tokens_to_map(tokens, (20, 20), 1) is None
    square = torch.arange(5.0).reshape(1, 5, 1)
    inferred = tokens_to_map(square, (16, 16), None)
    torch.testing.assert_close(inferred, torch.tensor([[[[1.0, 2], [3, 4]]]]))


def test_unknown_name_tells_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'resnet19' is neither") as error:
        build_backbone(ModelConfig(name="resnet19"), 64)
    assert "- resnet18" in str(error.value)


def test_torchvision_name_without_its_prefix() -> None:
    with pytest.raises(ConfigError, match=r"- torchvision/shufflenet_v2_x0_5"):
        build_backbone(ModelConfig(name="shufflenet_v2_x0_5"), 64)


def test_unknown_torchvision_name() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'torchvision/densenet121'\?"):
        build_backbone(ModelConfig(name="torchvision/densenet12"), 64)


def test_unknown_weights_tag() -> None:
    with pytest.raises(ConfigError, match=r"no weights of it called 'a1_in2k'.*'resnet18.a1_in1k'"):
        build_backbone(ModelConfig(name="resnet18.a1_in2k"), 64)


@pytest.mark.parametrize("name", ["resnet18", "torchvision/resnet18"])
def test_unknown_option(name: str) -> None:
    with pytest.raises(ConfigError, match=r"could not be built with model.options=\{'wdth': 2\}"):
        build_backbone(ModelConfig(name=name, options={"wdth": 2}), 64)


@pytest.mark.parametrize(("name", "size"), [("inception_v3", 32), ("torchvision/maxvit_t", 200)])
def test_unsuitable_size_is_known_before_training(name: str, size: int) -> None:
    with pytest.raises(ConfigError, match=rf"{size}"):
        build_backbone(ModelConfig(name=name), size)


def test_a_model_with_idle_parameters_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"cannot serve as a backbone: it computes with \d+ param"
    ):
        build_backbone(ModelConfig(name="efficientvim_m1"), 64)


def test_simple_cnn_names_all_wrong_options_at_once() -> None:
    config = ModelConfig(options={"chanels": [8], "norm": "layer"})
    with pytest.raises(ConfigError) as error:
        build_backbone(config, 64)
    message = str(error.value)
    assert "model.options.chanels" in message
    assert "Did you mean 'channels'?" in message
    assert "model.options.norm='layer'" in message


def test_simple_cnn_options() -> None:
    options = {"channels": [8, 12], "norm": "group", "convs_per_block": 1, "dropout": 0.1}
    backbone = build_backbone(ModelConfig(options=options), 33)
    assert backbone.num_features == 12
    assert list(backbone.stages) == ["stem", "block1", "block2"]
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.modules())
    assert backbone(torch.randn(1, 1, 33, 33)).shape == (1, 12, 9, 9)
