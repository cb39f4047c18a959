"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from cxr_lightning.config.schema import OptimConfig

__all__ = ["build_optimizer", "build_plateau", "build_step_schedule", "warmup_cosine"]


def build_optimizer(config: OptimConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Return the optimiser over parameter groups that carry their own `lr` and `weight_decay`."""
    match config.name:
        case "adam":
            return torch.optim.Adam(groups, lr=config.lr)
        case "adamw":
            return torch.optim.AdamW(groups, lr=config.lr)
        case "sgd":
            return torch.optim.SGD(
                groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0
            )


def warmup_cosine(*, warmup: float, total: int, lowest: float) -> Callable[[int], float]:
    """Return the factor of the learning rate at a step: linear warm-up, then half a cosine.

    Parameters
    ----------
    warmup
        Steps of warm-up; the first step has the factor 1 / (warmup + 1).
    total
        Steps of the whole training, at which `lowest` is reached.
    lowest
        Factor at the end, in [0, 1).
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1.0, total - warmup))
        return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def build_step_schedule(
    config: OptimConfig, optimizer: torch.optim.Optimizer, *, steps: int, steps_per_epoch: float
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """Return the schedule that is advanced at every step; None for `none` and `plateau`.

    Parameters
    ----------
    steps
        Optimiser steps of the whole training.
    steps_per_epoch
        Optimiser steps of an epoch.
    """
    if config.schedule == "cosine":
        warmup = config.warmup_epochs * steps_per_epoch
        return LambdaLR(
            optimizer, warmup_cosine(warmup=warmup, total=steps, lowest=config.min_lr_factor)
        )
    if config.schedule == "one_cycle":
        # Smith & Topin 2018, with torch's own shape; momentum is cycled too, as there.
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=steps + 1,
        )
    return None


def build_plateau(
    config: OptimConfig, optimizer: torch.optim.Optimizer, *, higher_is_better: bool
) -> ReduceLROnPlateau | None:
    """Return the schedule that is advanced after every validation; None unless `plateau`."""
    if config.schedule != "plateau":
        return None
    return ReduceLROnPlateau(
        optimizer,
        mode="max" if higher_is_better else "min",
        factor=config.plateau_factor,
        patience=config.plateau_patience,
        min_lr=[group["lr"] * config.min_lr_factor for group in optimizer.param_groups],
    )
