"""The network as a whole: what goes in, what comes out, what decides its weights."""

from __future__ import annotations

import copy

import pytest
import torch

from cxr_lightning.config.schema import HeadConfig, ImageConfig, ModelConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.models.network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Network,
    Normalise,
    build_network,
    suited_image,
)
from cxr_lightning.models.weights import adapt_channels

LABELS = ("Effusion", "Mass", "Nodule")


def network(**model: object) -> Network:
    torch.manual_seed(0)
    options = {"channels": [8, 16]} if "name" not in model else {}
    return build_network(ModelConfig(options=options, **model), ImageConfig(size=32), LABELS)


def grey(batch: int = 2, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 1, size, size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("pooling", ["avg", "max", "gem", "avg+max"])
@pytest.mark.parametrize("kind", ["linear", "mlp", "per_label"])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_forward_is_its_parts(pooling: str, kind: str, in_channels: int) -> None:
    net = network(pooling=pooling, head=HeadConfig(kind=kind), in_channels=in_channels).eval()
    image = grey()
    feature_map = net.feature_map(image)
    assert feature_map.shape == (2, 16, 8, 8)
    features = net.features(image)
    assert features.shape == (2, 32 if pooling == "avg+max" else 16)
    torch.testing.assert_close(features, net.pool(feature_map))
    logits = net(image)
    assert logits.shape == (2, 3)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, net.head(features))


def test_normalise_by_hand() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    expected = torch.tensor([-2.0, -1.2, 2.0]).reshape(1, 1, 1, 3)
    torch.testing.assert_close(Normalise((0.5,), (0.25,))(image), expected)


def test_three_channels_are_normalised_as_torchvision_does() -> None:
    from torchvision.transforms.functional import normalize

    image = grey()
    expected = normalize(image.repeat(1, 3, 1, 1) / 255, IMAGENET_MEAN, IMAGENET_STD)
    actual = network(in_channels=3).normalise(image)
    torch.testing.assert_close(actual, expected)


def test_normalise_uses_the_image_configuration() -> None:
    net = build_network(ModelConfig(), ImageConfig(size=32, mean=0.3, std=0.2), LABELS)
    assert (net.normalise.mean, net.normalise.std) == ((0.3,), (0.2,))


def test_three_channels_of_a_chosen_scale() -> None:
    image = ImageConfig(size=32, mean=0.5, std=0.25)
    net = build_network(ModelConfig(in_channels=3), image, LABELS)
    assert (net.normalise.mean, net.normalise.std) == ((0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("resnet18", 0.449, 0.226),
        ("tf_efficientnetv2_s", 0.5, 0.5),
        ("vit_small_patch16_224", 0.5, 0.5),
        ("torchvision/resnet18", 0.449, 0.226),
        ("torchvision/efficientnet_v2_l", 0.5, 0.5),
        ("torchvision/inception_v3", 0.5, 0.5),
    ],
)
def test_images_have_the_scale_of_pretrained_weights(name: str, mean: float, std: float) -> None:
    model, image = ModelConfig(name=name, pretrained=True), ImageConfig(size=224)
    found = suited_image(model, image)
    assert (found.mean, found.std) == (mean, std)
    assert suited_image(model.model_copy(update={"pretrained": False}), image) is image
    own = image.model_copy(update={"mean": 0.3})
    assert suited_image(model, own) is own  # chosen


def test_normalisation_is_no_state_that_a_file_or_a_precision_could_change() -> None:
    net = network()
    assert not list(net.normalise.state_dict())
    before = net.normalise(grey())
    torch.testing.assert_close(net.to(torch.bfloat16).normalise(grey()), before, rtol=0, atol=0)


def test_adapted_first_layer_equals_three_equal_channels() -> None:
    """With one mean and std for all channels, summing the first layer changes nothing."""
    colour = network(name="resnet18", in_channels=3).eval()
    colour.normalise = Normalise((0.449,) * 3, (0.226,) * 3)
    one = network(name="resnet18", in_channels=1).eval()
    state = copy.deepcopy(colour.state_dict())
    first = "backbone.model.conv1.weight"
    state[first] = adapt_channels(state[first], one.state_dict()[first].shape)
    one.load_state_dict(state)
    torch.testing.assert_close(one(grey()), colour(grey()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["simple_cnn", "efficientnet_lite0", "torchvision/resnet18"])
def test_the_seed_decides_the_weights(name: str) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return build_network(ModelConfig(name=name), ImageConfig(size=32), LABELS).state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not all(torch.equal(first[n], other[n]) for n in first)


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(2, 1, 32, 32),
        torch.zeros(2, 3, 32, 32, dtype=torch.uint8),
        torch.zeros(1, 32, 32, dtype=torch.uint8),
    ],
)
def test_anything_but_grey_bytes_is_refused(image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"takes grey images as uint8 \(B, 1, H, W\)"):
        network()(image)


def test_logits_keep_float32_digits_under_autocast() -> None:
    net = network().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(grey(16))
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
    torch.testing.assert_close(logits, net(grey(16)), rtol=0.1, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_runs_in_another_precision(dtype: torch.dtype) -> None:
    net = network(pooling="gem", head=HeadConfig(kind="per_label")).to(dtype).eval()
    logits = net(grey())
    assert logits.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_gradient_is_finite_in_half_precision() -> None:
    net = network(pooling="gem")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(grey()).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_memory_layout_changes_no_result() -> None:
    net = network(name="resnet18").eval()
    plain = net(grey())
    last = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(grey()), plain, rtol=1e-4, atol=1e-5)


def test_without_labels_there_is_no_network() -> None:
    with pytest.raises(ConfigError, match="at least one label"):
        build_network(ModelConfig(), ImageConfig(size=32), [])
