"""Class weights from training labels, in the two conventions that are in use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

__all__ = ["LabelCounts", "frequency_weights", "positive_weight"]


@dataclass(frozen=True)
class LabelCounts:
    """How often each label is 1 and 0 among the *training* images; unknown ones are in neither.

    Attributes
    ----------
    positives, negatives
        float64 tensors of shape (labels,).
    """

    positives: torch.Tensor
    negatives: torch.Tensor


def frequency_weights(
    counts: LabelCounts, *, cap: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights of positives and of negatives per label: the share of the *other* class.

    With them the positives and the negatives of a label contribute equally in total (Wang et al.
    2017 use their batch-wise form). Both are scaled by 2, so that balanced labels have weight 1 and
    the loss keeps its scale. A label of which nothing is known has weights 1.

    Parameters
    ----------
    counts
        Label counts of the training set.
    cap
        Largest weight allowed; None: no limit.

    Returns
    -------
    float64 tensors of shape (labels,)
    """
    total = counts.positives + counts.negatives
    positive = torch.where(total > 0, 2 * counts.negatives / total.clamp(min=1), 1.0)
    negative = torch.where(total > 0, 2 * counts.positives / total.clamp(min=1), 1.0)
    return positive.clamp(max=math.inf if cap is None else cap), negative.clamp(
        max=math.inf if cap is None else cap
    )


def positive_weight(counts: LabelCounts, *, cap: float | None = None) -> torch.Tensor:
    """Return torch's `pos_weight` per label: negatives / positives; 1 without positives."""
    ratio = counts.negatives / counts.positives.clamp(min=1)
    return torch.where(counts.positives > 0, ratio, 1.0).clamp(max=math.inf if cap is None else cap)
