"""The module that training calls, whatever the loss.

A loss file exposes `Config`, a function ``(logits, targets, known, **options) -> scalar``, and
``build(config, counts) -> partial`` of that function.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from cxr_lightning.config.schema import LossConfig
from cxr_lightning.losses.weights import LabelCounts

__all__ = ["Loss", "build_loss"]


class Loss(nn.Module):
    """A loss function with its options; tensors among them move with the module."""

    def __init__(self, function: partial[torch.Tensor]) -> None:
        super().__init__()
        self.function = function.func
        self.options: dict[str, Any] = {}
        self._tensors: list[str] = []
        for name, value in function.keywords.items():
            if isinstance(value, torch.Tensor):
                self.register_buffer(name, value.float(), persistent=False)
                self._tensors.append(name)
            else:
                self.options[name] = value

    def weights(self, labels: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return the weights by name and label, for the record; empty: there are none."""
        return {
            name: dict(zip(labels, getattr(self, name).expand(len(labels)).tolist(), strict=True))
            for name in self._tensors
        }

    def forward(
        self, logits: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the loss.

        Parameters
        ----------
        logits, targets
            Shape (batch, labels); targets are in [0, 1], NaN where unknown.
        counts
            Where this is one device's part of a batch: how many entries of each label are known in
            all of it, integers of shape (labels,). The parts' results add up to its loss.
        """
        known = ~targets.isnan()
        options = {name: getattr(self, name) for name in self._tensors} | self.options
        by_label = options.get("average") == "labels"
        if by_label:
            options["counts"] = counts
        result: torch.Tensor = self.function(
            logits.float(), targets.nan_to_num(0.0), known, **options
        )
        if counts is None or by_label:
            return result
        # A mean over what is known weighs each part by how much of it that has.
        return result * (known.sum() / counts.sum().clamp(min=1))


def build_loss(config: LossConfig, counts: LabelCounts) -> Loss:
    """Return the loss of a configuration, weighted by the counts of the training labels."""
    module = importlib.import_module(f"cxr_lightning.losses.{config.name}")
    return Loss(module.build(config, counts))
