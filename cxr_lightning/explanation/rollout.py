"""Attention roll-out for transformers that attend over all tokens.

Plain (Abnar and Zuidema, "Quantifying attention flow in transformers", ACL 2020): the attention of
each layer, averaged over heads and with half an identity for the residual connection, is multiplied
through the layers. It is the same for every label.

By gradients (Chefer et al., "Generic attention-model explainability", ICCV 2021, equations 5 and
6): each layer's attention is weighted by the positive part of its gradient for the label.

Both start from the mean over the patch tokens, as the networks here pool these; class, distillation
and register tokens have no place on the picture and are left out at the end.

It is written here because neither grad-cam, which draws the other maps, nor Captum has roll-out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cxr_lightning.errors import ConfigError
from cxr_lightning.models.network import Network, decision_logits

__all__ = ["attention_rollout"]


def attention_rollout(
    network: Network,
    images: torch.Tensor,
    tabular: torch.Tensor | None,
    labels: Sequence[int],
    *,
    by_gradient: bool,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return maps (B, len(labels), h, w), not yet scaled, and where no gradient came back (B, ...).

    Raises
    ------
    ConfigError
        The backbone is no transformer, or its attention does not span the whole image.
    """
    with _weights_kept(network) as weights, torch.set_grad_enabled(by_gradient):
        maps = network.feature_map(images)
        logits = decision_logits(network.classify(network.pool(maps), tabular))
    grid = (maps.shape[-2], maps.shape[-1])
    _check(weights, len(images), grid)
    if not by_gradient:
        flow = _multiply([weight.detach().mean(dim=1) for weight in weights])
        one = _on_grid(flow, grid)
        values = np.repeat(one[:, None], len(labels), axis=1)
        return values, np.zeros(values.shape[:2], bool)
    explained = [_of_label(weights, logits[:, index], grid) for index in labels]
    return np.stack([v for v, _ in explained], axis=1), np.stack([g for _, g in explained], axis=1)


def _multiply(layers: Sequence[torch.Tensor]) -> torch.Tensor:
    """Attention (B, N, N) of each layer, first to last, to the roll-out (B, N, N)."""
    identity = torch.eye(layers[0].shape[-1], device=layers[0].device)
    flow = identity.expand_as(layers[0])
    for attention in layers:
        flow = (0.5 * attention + 0.5 * identity) @ flow
    return flow


def _of_label(
    weights: Sequence[torch.Tensor], logit: torch.Tensor, grid: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    gradients = torch.autograd.grad(
        logit.sum(), list(weights), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    flow = torch.eye(weights[0].shape[-1], device=logit.device).expand(len(logit), -1, -1)
    for attention, gradient in zip(weights, gradients, strict=True):
        flow = flow + (attention.detach() * gradient).clamp(min=0).mean(dim=1) @ flow
    vanished = torch.stack([(g == 0).flatten(1).all(dim=1) for g in gradients]).all(dim=0)
    return _on_grid(flow, grid), vanished.cpu().numpy()


def _on_grid(flow: torch.Tensor, grid: tuple[int, int]) -> NDArray[np.float32]:
    """Roll-out (B, N, N) to the patches that the mean patch token draws from (B, h, w)."""
    patches = grid[0] * grid[1]
    received = flow[:, -patches:, -patches:].mean(dim=1)
    return received.unflatten(1, grid).float().cpu().numpy()


@contextmanager
def _weights_kept(network: Network) -> Iterator[list[torch.Tensor]]:
    """Collect the attention weights (B, heads, N, N) of each layer while the network runs.

    timm's fused attention never forms them: it is switched off on these layers, and on again.
    """
    layers: list[Any] = [
        module
        for module in network.backbone.modules()
        if isinstance(getattr(module, "attn_drop", None), nn.Module)
        and hasattr(module, "fused_attn")
    ]
    kept: list[torch.Tensor] = []

    def keep(module: nn.Module, given: object, weights: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and not weights.requires_grad:
            weights = weights.detach().requires_grad_()  # the parameters are frozen
        kept.append(weights)
        return weights

    before = [layer.fused_attn for layer in layers]
    handles = [layer.attn_drop.register_forward_hook(keep) for layer in layers]
    try:
        for layer in layers:
            layer.fused_attn = False
        yield kept
    finally:
        for layer, fused, handle in zip(layers, before, handles, strict=True):
            layer.fused_attn = fused
            handle.remove()


def _check(weights: Sequence[torch.Tensor], images: int, grid: tuple[int, int]) -> None:
    if not weights:
        raise ConfigError(
            "method=rollout follows attention through the layers of a timm transformer, which this "
            "bundle's network is not; use method=gradcam"
        )
    tokens = {tuple(weight.shape[2:]) for weight in weights}
    whole = all(weight.ndim == 4 and weight.shape[0] == images for weight in weights)
    if not whole or len(tokens) > 1 or min(tokens)[0] < grid[0] * grid[1]:
        raise ConfigError(
            "method=rollout needs layers that all attend over the whole image, as a ViT's do; this "
            "bundle's network attends within windows or at several scales; use method=gradcam"
        )
