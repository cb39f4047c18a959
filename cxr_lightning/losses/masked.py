"""The rule that losses share: what is not known does not count."""

from __future__ import annotations

import torch

__all__ = ["masked_mean", "mean_of_labels"]


def masked_mean(terms: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return the mean of `terms` where `known`; 0, with a gradient of 0, where nothing is known.

    Both have shape (batch, labels). Terms must be finite: a NaN under the mask would still reach
    the gradient, so losses compute on targets whose unknown entries were replaced.
    """
    return terms.where(known, 0.0).sum() / known.sum().clamp(min=1)


def mean_of_labels(
    terms: torch.Tensor, known: torch.Tensor, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean of each label's own :func:`masked_mean`, over labels of which any is known.

    A label that is seldom known then weighs as much as the others. `counts`, of shape (labels,),
    says how many entries are known in all of a batch of which this is a part: the parts' means add
    up to that of the whole.
    """
    counts = known.sum(dim=0) if counts is None else counts
    means = terms.where(known, 0.0).sum(dim=0) / counts.clamp(min=1)
    return means.sum() / (counts > 0).sum().clamp(min=1)
