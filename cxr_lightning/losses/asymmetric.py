"""Asymmetric loss: Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021."""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field

from cxr_lightning.config.schema import LossConfig
from cxr_lightning.losses.masked import masked_mean
from cxr_lightning.losses.weights import LabelCounts

__all__ = ["Config", "asymmetric_loss", "build"]


class Config(LossConfig):
    """Asymmetric loss."""

    gamma_positive: float = Field(0.0, ge=0, le=10, description="Focusing of positives.")
    gamma_negative: float = Field(4.0, ge=0, le=10, description="Focusing of negatives.")
    margin: float = Field(
        0.05, ge=0, lt=1, description="Negatives with a probability below it count as solved."
    )


def asymmetric_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    known: torch.Tensor,
    *,
    gamma_positive: float,
    gamma_negative: float,
    margin: float,
) -> torch.Tensor:
    """Return the mean asymmetric loss over known labels (equations 7 and 8 of the paper).

    Parameters
    ----------
    logits, targets : float tensors of shape (batch, labels)
        Targets in [0, 1]; where unknown, any finite number.
    known : bool tensor of shape (batch, labels)
        Entries that count.
    gamma_positive, gamma_negative
        Exponents of ``1 - p`` and of ``max(p - margin, 0)``.
    margin
        Shift of the negatives' probability.
    """
    # As in the authors' code: keeps the logarithm finite, and the gradient of an exponent below 1.
    tiny = 1e-8
    p = logits.sigmoid()
    shifted = (p - margin).clamp(min=tiny)
    present = (1 - p).clamp(min=tiny) ** gamma_positive * p.clamp(min=tiny).log()
    absent = shifted**gamma_negative * (1 - shifted).clamp(min=tiny).log()
    return masked_mean(-(targets * present + (1 - targets) * absent), known)


def build(config: Config, counts: LabelCounts) -> partial[torch.Tensor]:
    """Return the loss; it needs no weights."""
    return partial(
        asymmetric_loss,
        gamma_positive=config.gamma_positive,
        gamma_negative=config.gamma_negative,
        margin=config.margin,
    )
