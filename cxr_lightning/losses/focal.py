"""Focal loss: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017."""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field

from cxr_lightning.config.schema import LossConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.losses.masked import masked_mean
from cxr_lightning.losses.weights import LabelCounts, frequency_weights

__all__ = ["Config", "build", "focal_loss"]


class Config(LossConfig):
    """Focal loss."""

    gamma: float = Field(
        2.0, ge=0, le=10, description="How much easy examples count less; 0: cross-entropy."
    )
    alpha: float | tuple[float, ...] | str | None = Field(
        None,
        description="Weight in [0, 1] of positives against 1 - alpha of negatives: one number, one "
        "per label, 'frequency' (share of negatives in training), or none.",
    )


def focal_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    known: torch.Tensor,
    *,
    gamma: float,
    alpha: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean focal loss over known labels: ``-alpha_t (1 - p_t)**gamma log p_t``.

    Soft targets mix the terms of both classes, as torchvision's `sigmoid_focal_loss` does.

    Parameters
    ----------
    logits, targets : float tensors of shape (batch, labels)
        Targets in [0, 1]; where unknown, any finite number.
    known : bool tensor of shape (batch, labels)
        Entries that count.
    gamma
        Focusing parameter, at least 0.
    alpha : tensor of shape () or (labels,), optional
        Weight of positives; that of negatives is ``1 - alpha``. None: both 1.
    """
    log_p = torch.nn.functional.logsigmoid(logits)
    log_not_p = torch.nn.functional.logsigmoid(-logits)
    cross_entropy = -(targets * log_p + (1 - targets) * log_not_p)
    p = log_p.exp()
    miss = p * (1 - targets) + (1 - p) * targets  # 1 - p_t
    terms = cross_entropy * miss.clamp(min=1e-12) ** gamma if gamma else cross_entropy
    if alpha is not None:
        terms = terms * (alpha * targets + (1 - alpha) * (1 - targets))
    return masked_mean(terms, known)


def build(config: Config, counts: LabelCounts) -> partial[torch.Tensor]:
    """Return the loss; alpha of 'frequency' comes from training labels."""
    labels = len(counts.positives)
    match config.alpha:
        case None:
            alpha = None
        case "frequency":
            alpha = frequency_weights(counts)[0] / 2
        case float() | int():
            alpha = torch.tensor(float(config.alpha))
        case tuple() if len(config.alpha) == labels:
            alpha = torch.tensor(config.alpha)
        case tuple():
            raise ConfigError(
                f"loss.alpha: {len(config.alpha)} numbers for {labels} labels; give one per label"
            )
        case _:
            raise ConfigError(
                f"loss.alpha={config.alpha!r}: must be a number, a list of numbers, or 'frequency'"
            )
    if alpha is not None and not bool(((alpha >= 0) & (alpha <= 1)).all()):
        raise ConfigError(f"loss.alpha={config.alpha!r}: must lie in [0, 1]")
    return partial(focal_loss, gamma=config.gamma, alpha=alpha)
