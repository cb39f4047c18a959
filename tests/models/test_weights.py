"""Files of every style, loaded into the network that they belong to, and into others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision.models as tv
from safetensors.torch import save_file

from cxr_lightning.config.schema import HeadConfig, ImageConfig, ModelConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.models.backbone import build_backbone
from cxr_lightning.models.network import Network, build_network
from cxr_lightning.models.weights import adapt_channels, load_weights

LABELS = ("Effusion", "Mass")
SMALL = {"channels": [8, 16]}


def network(name: str = "simple_cnn", labels: tuple[str, ...] = LABELS, **model: Any) -> Network:
    options = SMALL if name == "simple_cnn" else {}
    config = ModelConfig(name=name, options=options, **model)
    return build_network(config, ImageConfig(size=32), labels)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(t, other[n]) for n, t in a.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_our_own_network_comes_back_whole(tmp_path: Path, suffix: str) -> None:
    trained_net, fresh = network(pooling="gem"), network(pooling="gem")
    path = tmp_path / f"weights{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(trained_net.state_dict(), path)
    report = load_weights(fresh, path)
    assert same(trained_net, fresh)
    assert report.share == 1
    assert report.notes == ("pool: loaded", "head: loaded")


def test_a_lightning_checkpoint_is_read(tmp_path: Path) -> None:
    trained_net, fresh = network(), network()
    state = {f"network.{n}": t for n, t in trained_net.state_dict().items()}
    content = {"state_dict": {**state, "loss.pos_weight": torch.ones(2)}, "epoch": 3}
    torch.save(content, tmp_path / "last.ckpt")
    assert load_weights(fresh, tmp_path / "last.ckpt").share == 1
    assert same(trained_net, fresh)


@pytest.mark.parametrize("wrapper", ["", "module.", "model.", "backbone.", "module.backbone."])
@pytest.mark.parametrize("container", [None, "state_dict", "model"])
def test_wrappers_of_names_and_files(tmp_path: Path, wrapper: str, container: str | None) -> None:
    source = timm.create_model("resnet10t", in_chans=1, num_classes=5)
    state: dict[str, Any] = {f"{wrapper}{n}": t for n, t in source.state_dict().items()}
    torch.save({container: state, "epoch": 1} if container else state, tmp_path / "w.pth")
    backbone = build_backbone(ModelConfig(name="resnet10t"), 32)
    report = load_weights(backbone, tmp_path / "w.pth")
    assert report.missing == report.mismatched == ()
    assert len(report.unexpected) == 2  # the classifier
    assert all(
        torch.equal(t, source.state_dict()[n]) for n, t in backbone.model.state_dict().items()
    )


def test_head_of_other_labels_is_left_alone_and_said(tmp_path: Path) -> None:
    trained_net, fresh = network(), network(labels=("a", "b", "c"))
    torch.save(trained_net.state_dict(), tmp_path / "w.pth")
    before = fresh.head.layers[1].weight.clone()
    report = load_weights(fresh, tmp_path / "w.pth")
    assert same(trained_net.backbone, fresh.backbone)
    assert torch.equal(fresh.head.layers[1].weight, before)
    assert "head: of another shape (other labels or options), starts anew" in str(report)


def test_backbone_of_another_head_kind(tmp_path: Path) -> None:
    torch.save(network(head=HeadConfig(kind="per_label")).state_dict(), tmp_path / "w.pth")
    assert load_weights(network(pooling="gem"), tmp_path / "w.pth").notes == (
        "pool: not in the file, starts anew",
        "head: of another shape (other labels or options), starts anew",
    )


def test_colour_file_into_a_grey_network(tmp_path: Path) -> None:
    source = timm.create_model("resnet10t", num_classes=0).eval()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    backbone = build_backbone(ModelConfig(name="resnet10t"), 32).eval()
    report = load_weights(backbone, tmp_path / "w.pth")
    assert report.notes == ("first layer conv1.0.weight: summed from 3 to 1 channels",)
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(
        backbone(x), source.forward_features(x.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5
    )


def test_channels_by_hand() -> None:
    weight = torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1)
    grey = adapt_channels(weight, torch.Size((1, 1, 1, 1)))
    assert grey.item() == 7
    assert adapt_channels(grey, torch.Size((1, 3, 1, 1))).flatten().tolist() == pytest.approx(
        [7 / 3] * 3
    )
    assert adapt_channels(weight, torch.Size((1, 2, 1, 1))) is weight


def test_grey_file_into_a_colour_network(tmp_path: Path) -> None:
    grey, colour = network().eval(), network(in_channels=3).eval()
    torch.save(grey.state_dict(), tmp_path / "w.pth")
    report = load_weights(colour, tmp_path / "w.pth")
    assert "spread from 1 to 3 channels" in str(report)
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(colour.backbone(x.repeat(1, 3, 1, 1)), grey.backbone(x))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("densenet121", "densenet121"),
        ("resnet18", "resnet18"),
        ("efficientnet_b0", "efficientnet_b0"),  # other names, the same order
        ("mobilenet_v2", "mobilenetv2_100"),
    ],
)
def test_torchvision_file_into_the_timm_model(tmp_path: Path, theirs: str, ours: str) -> None:
    torch.manual_seed(0)
    source = tv.get_model(theirs).eval()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    backbone = build_backbone(ModelConfig(name=ours, in_channels=3), 32).eval()
    report = load_weights(backbone, tmp_path / "w.pth")
    assert report.share == 1
    reference = build_backbone(ModelConfig(name=f"torchvision/{theirs}", in_channels=3), 32).eval()
    load_weights(reference, tmp_path / "w.pth")
    # timm adds another epsilon in some batch norms; these random ones have variance 1
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(backbone(x), reference(x), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["densenet121", "torchvision/densenet121"])
def test_torchvisions_first_densenet_names(tmp_path: Path, name: str) -> None:
    source = tv.densenet121()
    old = {
        n.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): t
        for n, t in source.state_dict().items()
        if not n.endswith("num_batches_tracked")
    }
    assert any(".norm.1." in n for n in old)
    torch.save(old, tmp_path / "w.pth")
    report = load_weights(build_backbone(ModelConfig(name=name), 32), tmp_path / "w.pth")
    assert report.share == 1


def test_lukemelas_file_computes_what_its_own_network_does(
    tmp_path: Path, lukemelas_network: torch.nn.Module
) -> None:
    source = lukemelas_network
    torch.save(source.state_dict(), tmp_path / "w.pth")
    backbone = build_backbone(ModelConfig(name="efficientnet_lite0", in_channels=3), 64).eval()
    report = load_weights(backbone, tmp_path / "w.pth")
    assert report.style == "lukemelas EfficientNet names"
    assert report.missing == report.mismatched == ()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        # timm's batch norms add 1e-5 where those add 1e-3: without the correction this is far off
        torch.testing.assert_close(backbone(x), source(x), rtol=1e-3, atol=1e-3)


def test_position_embeddings_are_resampled_to_the_grid(tmp_path: Path) -> None:
    source = timm.create_model("test_vit", img_size=64)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    backbone = build_backbone(ModelConfig(name="test_vit"), 96)
    report = load_weights(backbone, tmp_path / "w.pth")
    assert report.style == "timm's checkpoint filter"
    assert report.share == 1
    assert backbone(torch.randn(1, 1, 96, 96)).shape == (1, 64, 6, 6)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("resnet34", "resnet18"), ("resnet18", "resnet34"), ("vgg11", "resnet18")]
)
def test_a_file_of_another_architecture_is_refused(tmp_path: Path, theirs: str, ours: str) -> None:
    with torch.device("meta"):
        state = tv.get_model(theirs).features if theirs == "vgg11" else timm.create_model(theirs)
        shapes = {n: torch.empty(t.shape, device="cpu") for n, t in state.state_dict().items()}
    torch.save(shapes, tmp_path / "w.pth")
    backbone = build_backbone(ModelConfig(name=ours), 32)
    if (theirs, ours) == ("resnet34", "resnet18"):
        # every tensor of the smaller is in the larger: what is left over says so
        report = load_weights(backbone, tmp_path / "w.pth")
        assert len(report.unexpected) > 50
        assert "... and" in str(report)
        return
    before = {n: t.clone() for n, t in backbone.state_dict().items()}
    with pytest.raises(
        ConfigError, match=r"does not fit this backbone.*at least 90% must"
    ) as error:
        load_weights(backbone, tmp_path / "w.pth")
    assert "missing:" in str(error.value)
    assert all(torch.equal(t, before[n]) for n, t in backbone.state_dict().items())


def test_report_names_ten_of_each_and_counts_the_rest(tmp_path: Path) -> None:
    state = timm.create_model("resnet10t", in_chans=1).state_dict()
    del state["layer4.0.bn2.bias"]
    state["layer4.0.bn2.weight"] = torch.zeros(7)
    torch.save(state | {f"extra.{i}": torch.zeros(1) for i in range(20)}, tmp_path / "w.pth")
    report = load_weights(build_backbone(ModelConfig(name="resnet10t"), 32), tmp_path / "w.pth")
    text = str(report)
    assert "1 missing, 1 of another shape, 22 unexpected" in text
    assert "  missing:\n  - layer4.0.bn2.bias" in text
    assert "  - layer4.0.bn2.weight: (7,) in the file, (512,) here" in text
    assert "... and 12 more" in text


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    net = network()
    with pytest.raises(ConfigError, match=r"nothing.pth: does not exist"):
        load_weights(net, tmp_path / "nothing.pth")
    with pytest.raises(ConfigError, match=r"is a folder; name a .pth, .pt or .safetensors file"):
        load_weights(net, tmp_path)
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"text{suffix}"
        path.write_text("no weights at all")
        with pytest.raises(ConfigError, match=r"text.*: (cannot be read|holds more than tensors)"):
            load_weights(net, path)
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ConfigError, match=r"holds no tensors by name"):
        load_weights(net, tmp_path / "empty.pth")


class Trap:
    """An object whose unpickling would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this must not run",))


def test_a_file_with_code_in_it_is_not_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {}, "trap": Trap()}, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"holds more than tensors, and is not opened"):
        load_weights(network(), tmp_path / "w.pth")
    assert "must not run" not in capsys.readouterr().out
