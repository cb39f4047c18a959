"""Pretrained weights where no hub answers, and where one does."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import pytest
import timm
import torch
import torchvision.models as tv
from huggingface_hub import constants

from cxr_lightning.config.schema import ImageConfig, ModelConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.models.network import Network, build_network


def build(name: str) -> Network:
    return build_network(ModelConfig(name=name, pretrained=True), ImageConfig(size=32), ["Mass"])


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub answers, and nothing was fetched before."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_get_torch_home", lambda: str(tmp_path))
    # urllib keeps the proxies of its first request for the rest of the process: start afresh, and
    # leave nothing behind.
    monkeypatch.setattr(urllib.request, "_opener", None)
    for protocol in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(protocol, "http://127.0.0.1:9")
        monkeypatch.setenv(protocol.upper(), "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("name", ["resnet18", "torchvision/resnet18"])
def test_without_a_hub_one_line_says_what_to_do(name: str) -> None:
    start = time.monotonic()
    with pytest.raises(ConfigError) as error:
        build(name)
    assert time.monotonic() - start < 20  # its client alone would ask for most of a minute
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"model.pretrained=true: the weights of {name} could not be fetched")
    assert "model.weights=FILE" in message
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("name", ["simple_cnn", "vgg11_bn.nowhere", "resnet18.none"])
def test_a_model_without_published_weights(name: str) -> None:
    with pytest.raises(ConfigError, match="weights"):
        build(name)


def test_weights_of_timms_hub_arrive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub's cache stands in for the hub: the same code reads both."""
    torch.manual_seed(1)
    source = timm.create_model("test_resnet", num_classes=1000)
    cfg = timm.get_pretrained_cfg("test_resnet")
    assert cfg is not None
    repository = tmp_path / f"models--{cfg.hf_hub_id.replace('/', '--')}"
    commit = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True)
    from safetensors.torch import save_file

    save_file(source.state_dict(), folder / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    net = build("test_resnet")
    state = net.backbone.model.state_dict()
    first = "conv1.0.weight"
    torch.testing.assert_close(state[first], source.state_dict()[first].sum(1, keepdim=True))
    assert all(torch.equal(t, source.state_dict()[n]) for n, t in state.items() if n != first)


def test_weights_of_torchvisions_hub_arrive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    source = tv.squeezenet1_1()
    url = tv.get_model_weights("squeezenet1_1").DEFAULT.url
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    torch.save(source.state_dict(), checkpoints / url.rsplit("/", 1)[1])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    net = build("torchvision/squeezenet1_1")
    torch.testing.assert_close(
        net.backbone.model.state_dict()["features.3.squeeze.weight"],
        source.state_dict()["features.3.squeeze.weight"],
    )
