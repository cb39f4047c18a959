"""Pretrained weights from timm's or torchvision's hub, and a clear answer where there is none."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch

from cxr_lightning.config.schema import ModelConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.models.weight_keys import Tensors

__all__ = ["hub_weights", "published_statistics"]

TIMEOUT = 5.0
"""Seconds that a hub may take to answer, and a connection may stall."""


def hub_weights(config: ModelConfig, size: int) -> Tensors:
    """Fetch the published weights of `config.name` (or take them from the hub's local cache).

    Raises
    ------
    ConfigError
        The model has no published weights, or the hub did not give them.
    """
    if config.name == "simple_cnn":
        raise ConfigError(
            "model.pretrained=true: simple_cnn has no published weights; train it from scratch, or "
            "give a file of your own by model.weights=FILE"
        )
    fetch = _from_torchvision if config.name.startswith("torchvision/") else _from_timm
    with torch.random.fork_rng(devices=[]), _short_timeouts():
        try:
            return fetch(config, size)
        except ConfigError:
            raise
        except Exception as e:  # noqa: BLE001 - hubs fail in many ways: names, proxies, certificates, disks
            reason = str(e).strip().splitlines()[0] if str(e).strip() else "no reason given"
            raise ConfigError(
                f"model.pretrained=true: the weights of {config.name} could not be fetched "
                f"({type(e).__name__}: {reason}). Without a hub, get the file elsewhere and give "
                "it by model.weights=FILE (.pth, .pt, .safetensors), or train from scratch with "
                "model.pretrained=false."
            ) from None


def published_statistics(config: ModelConfig) -> tuple[float, float] | None:
    """Return mean and standard deviation, over channels, of what a model's published weights take.

    Of values in [0, 1]; None where nothing is published. Nothing is fetched.
    """
    if config.name.startswith("torchvision/"):
        import torchvision.models as tv

        name = config.name.removeprefix("torchvision/")
        if name in ("inception_v3", "googlenet"):
            return 0.5, 0.5  # to which torchvision's own networks bring ImageNet's, in a first step
        if name not in tv.list_models():
            return None
        shown: Any = tv.get_model_weights(name).DEFAULT.transforms()
    else:
        from timm.models import get_pretrained_cfg, is_model_pretrained

        if not is_model_pretrained(config.name):
            return None
        shown = get_pretrained_cfg(config.name)
    return fmean(shown.mean), fmean(shown.std)


def _from_timm(config: ModelConfig, size: int) -> Tensors:
    from timm.models import is_model_pretrained

    from cxr_lightning.models.timm_backbone import create_timm_model

    if not is_model_pretrained(config.name):
        raise ConfigError(
            f"model.pretrained=true: timm publishes no weights of {config.name}; give a file of "
            "your own by model.weights=FILE, or set model.pretrained=false"
        )
    with _offline_if_unreachable():
        return create_timm_model(config, size, pretrained=True).state_dict()


def _from_torchvision(config: ModelConfig, size: int) -> Tensors:
    import torchvision.models as tv

    weights = tv.get_model_weights(config.name.removeprefix("torchvision/"))
    return weights.DEFAULT.get_state_dict(progress=True, check_hash=True)


@contextmanager
def _short_timeouts() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _offline_if_unreachable() -> Iterator[None]:
    """Ask the hub once; where it does not answer, let its client look in its cache alone.

    The client itself would ask for the better part of a minute.
    """
    from huggingface_hub import constants, get_session

    before = constants.HF_HUB_OFFLINE
    try:
        if not before:
            get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception:  # noqa: BLE001 - whatever keeps us from the hub
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
