"""Pretrained weights from timm's or torchvision's hub, and a clear answer where there is none."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cxr_lightning.config.schema import ModelConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.models.weight_keys import Tensors

__all__ = ["hub_weights"]

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
