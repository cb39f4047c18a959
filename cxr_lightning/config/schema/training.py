"""Loss, optimiser and trainer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from cxr_lightning.config.schema.section import Section

__all__ = ["LossConfig", "OptimConfig", "TrainerConfig"]


class LossConfig(Section):
    """What every loss shares; `cxr_lightning/losses/NAME.py` extends it."""

    classes: ClassVar[int] = 1
    """Outputs of the network per label that the loss takes."""

    name: str = Field(description="The loss: a file of cxr_lightning/losses.")


class OptimConfig(Section):
    """Optimiser, schedule, learning rates per group, averaging of weights."""

    name: Literal["adam", "adamw", "sgd"] = Field("adamw", description="The optimiser.")
    lr: float = Field(1e-3, gt=0, le=10, description="Learning rate of the head.")
    backbone_lr_factor: float = Field(
        1.0, gt=0, le=10, description="The backbone's learning rate as a multiple of lr."
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="Factor per stage from the head down to the stem."
    )
    weight_decay: float = Field(
        0.01, ge=0, le=1, description="Decay of weights; biases and norm layers have none."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD.")
    schedule: Literal["none", "cosine", "plateau", "one_cycle"] = Field(
        "cosine", description="How the learning rate changes."
    )
    warmup_epochs: float = Field(
        0.0, ge=0, description="Epochs (or part of one) of linear warm-up (cosine only)."
    )
    min_lr_factor: float = Field(
        0.01, ge=0, lt=1, description="Lowest learning rate as a multiple of lr (cosine, plateau)."
    )
    plateau_factor: float = Field(
        0.1, gt=0, lt=1, description="Multiplies the learning rate on a plateau."
    )
    plateau_patience: int = Field(
        2, ge=0, description="Epochs without improvement before a plateau reduces the rate."
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="Decay per step of an average of the weights; none: off."
    )


class TrainerConfig(BaseModel):
    """Lightning's Trainer: the options below, and any other of its own by the same name."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    max_epochs: int = Field(20, ge=1, description="Epochs to train at most.")
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="Where to train.")
    devices: int | Literal["auto"] = Field(
        1, description="Devices (processes) on each node; auto: all GPUs."
    )
    num_nodes: int = Field(1, ge=1, description="Machines that train together.")
    strategy: Literal["auto", "ddp"] = Field("auto", description="auto: ddp where devices > 1.")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "64-true"] = Field(
        "auto",
        description="auto: bf16-mixed where the hardware has it, 16-mixed on older GPUs, else "
        "32-true.",
    )
    channels_last: bool = Field(True, description="Memory layout that convolutions run faster in.")
    gradient_clip_val: float | None = Field(
        None, ge=0, description="Largest norm of the gradient; none: not clipped."
    )
    accumulate_grad_batches: int = Field(
        1, ge=1, description="Batches whose gradients are averaged for one step."
    )
    monitor: Literal["val/auroc_macro", "val/average_precision_macro", "val/loss"] = Field(
        "val/auroc_macro", description="What chooses the best epoch, early stopping and plateau."
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Validations (one an epoch, but for val_check_interval) without improvement "
        "before stopping early; none: never.",
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads of a process; none: torch's own choice."
    )

    @property
    def higher_is_better(self) -> bool:
        """Whether the monitored number is a score, not a loss."""
        return self.monitor != "val/loss"

    @property
    def lightning_options(self) -> dict[str, Any]:
        """Options of Lightning's own that the user added."""
        return dict(self.__pydantic_extra__ or {})
