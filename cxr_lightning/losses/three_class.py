"""Cross-entropy over absent, present and uncertain, one softmax per label."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch

from cxr_lightning.config.schema import LossConfig
from cxr_lightning.losses.masked import masked_mean
from cxr_lightning.losses.weights import LabelCounts

__all__ = ["Config", "build", "three_class_loss"]


class Config(LossConfig):
    """Three classes per label; for data.uncertain=three_class."""

    classes: ClassVar[int] = 3


def three_class_loss(
    logits: torch.Tensor, targets: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    """Return the mean cross-entropy over known labels (Irvin et al., "CheXpert", AAAI 2019).

    Parameters
    ----------
    logits : float tensor of shape (batch, labels, 3)
        Of absent, present and uncertain.
    targets : float tensor of shape (batch, labels)
        -1 uncertain, else the probability of present in [0, 1]; where unknown, any finite number.
    known : bool tensor of shape (batch, labels)
        Entries that count.
    """
    uncertain = (targets == -1).to(logits.dtype)
    present = targets.clamp(min=0)
    absent = 1 - present - uncertain
    wanted = torch.stack([absent, present, uncertain], dim=-1)
    terms = -(wanted * torch.log_softmax(logits, dim=-1)).sum(-1)
    return masked_mean(terms, known)


def build(config: Config, counts: LabelCounts) -> partial[torch.Tensor]:
    """Return the loss; it has no weights."""
    return partial(three_class_loss)
