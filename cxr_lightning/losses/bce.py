"""Binary cross-entropy over known labels, plain, weighted by frequency, or with `pos_weight`."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from pydantic import Field

from cxr_lightning.config.schema import LossConfig
from cxr_lightning.losses.masked import masked_mean, mean_of_labels
from cxr_lightning.losses.weights import LabelCounts, frequency_weights, positive_weight

__all__ = ["Config", "bce_loss", "build"]


class Config(LossConfig):
    """Binary cross-entropy."""

    weighting: Literal["none", "frequency", "pos_weight"] = Field(
        "none",
        description="frequency: positives and negatives weighted so that both count equally; "
        "pos_weight: positives weighted by negatives/positives.",
    )
    weight_cap: float | None = Field(None, gt=0, description="Largest weight allowed; none: any.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Targets are drawn towards 0.5 by this share."
    )
    average: Literal["entries", "labels"] = Field(
        "entries",
        description="entries: the mean over all that is known; labels: within each label first, so "
        "that one which is seldom known weighs as much as the others.",
    )


def bce_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    known: torch.Tensor,
    *,
    positive: torch.Tensor | None = None,
    negative: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
    average: Literal["entries", "labels"] = "entries",
    counts: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean binary cross-entropy over known labels.

    Parameters
    ----------
    logits, targets : float tensors of shape (batch, labels)
        Targets in [0, 1]; where unknown, any finite number.
    known : bool tensor of shape (batch, labels)
        Entries that count.
    positive, negative : tensors of shape (labels,), optional
        Weights of the two terms of the cross-entropy.
    label_smoothing
        ``y * (1 - s) + s / 2`` replaces ``y``.
    average
        Over all known entries alike, or within each label first and then over the labels.
    counts
        For the latter, of a part of a batch: see :func:`.masked.mean_of_labels`.
    """
    if label_smoothing:
        targets = targets * (1 - label_smoothing) + label_smoothing / 2
    logsigmoid = torch.nn.functional.logsigmoid
    present = -logsigmoid(logits) * targets
    absent = -logsigmoid(-logits) * (1 - targets)
    if positive is not None:
        present = present * positive
    if negative is not None:
        absent = absent * negative
    if average == "labels":
        return mean_of_labels(present + absent, known, counts)
    return masked_mean(present + absent, known)


def build(config: Config, counts: LabelCounts) -> partial[torch.Tensor]:
    """Return the loss with its weights, computed from training labels."""
    positive = negative = None
    if config.weighting == "frequency":
        positive, negative = frequency_weights(counts, cap=config.weight_cap)
    elif config.weighting == "pos_weight":
        positive = positive_weight(counts, cap=config.weight_cap)
    return partial(
        bce_loss,
        positive=positive,
        negative=negative,
        label_smoothing=config.label_smoothing,
        average=config.average,
    )
