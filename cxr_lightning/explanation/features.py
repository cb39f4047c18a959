"""Features of images at any stage of the backbone, pooled over the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cxr_lightning.errors import ConfigError, bullet_list, nearest
from cxr_lightning.models.network import Network, decision_logits

__all__ = ["POOLED", "run_network", "stage_names"]

POOLED = "pooled"
"""What the head sees of the image: the last feature map after the network's own pooling."""


def stage_names(network: Network) -> tuple[str, ...]:
    """Return the places at which features can be taken, from stem to head."""
    return (*network.backbone.stages, POOLED)


def run_network(
    network: Network,
    batches: Iterable[tuple[NDArray[np.uint8], NDArray[np.float32] | None]],
    stage: str = POOLED,
    *,
    advance: Callable[[int], object] = lambda images: None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the features of images at a stage, and their logits.

    Parameters
    ----------
    batches
        Grey squares, uint8 of shape (B, size, size), and the inputs beside them (B, T) or None.
    stage
        One of :func:`stage_names`; a stage's output is averaged over the picture (tokens: over all
        of them).
    advance
        Called with the number of images of each batch that is done.

    Returns
    -------
    float32 array of shape (n, F), float32 array of shape (n, labels)

    Raises
    ------
    ConfigError
        There is no such stage.
    """
    device = next(network.parameters()).device
    kept: list[torch.Tensor] = []
    handle = None
    if stage != POOLED:
        handle = _module(network, stage).register_forward_hook(
            lambda module, given, output: kept.append(output)
        )
    features, logits = [], []
    try:
        with torch.inference_mode():
            for squares, beside in batches:
                kept.clear()
                pooled = network.features(torch.from_numpy(squares)[:, None].to(device))
                tabular = None if beside is None else torch.from_numpy(beside).to(device)
                logits.append(decision_logits(network.classify(pooled, tabular)))
                features.append(_pool(kept[-1], network) if kept else pooled)
                advance(len(squares))
    finally:
        if handle is not None:
            handle.remove()
    return torch.cat(features).float().cpu().numpy(), torch.cat(logits).float().cpu().numpy()


def _module(network: Network, stage: str) -> nn.Module:
    """Return the module whose output ends a stage: the last that holds parameters of it alone."""
    stages = network.backbone.stages
    if stage not in stages:
        known = stage_names(network)
        raise ConfigError(
            f"stage={stage}: there is no such stage in {type(network.backbone.model).__name__}."
            f"{nearest(stage, known)} Its stages:\n{bullet_list(known, limit=60)}"
        )
    own = set(stages[stage])
    inside: dict[str, nn.Module] = {}
    for name, module in network.backbone.named_modules():
        if any(name.startswith(f"{outer}.") for outer in inside):
            continue
        parameters = {f"{name}.{inner}" for inner, _ in module.named_parameters()}
        if name and parameters and parameters <= own:
            inside[name] = module
    return list(inside.values())[-1]


def _pool(output: torch.Tensor, network: Network) -> torch.Tensor:
    if output.ndim == 3:
        return output.mean(dim=1)
    channels_last = getattr(network.backbone.model, "output_fmt", "NCHW") == "NHWC"
    return output.mean(dim=(1, 2) if channels_last else (2, 3))
