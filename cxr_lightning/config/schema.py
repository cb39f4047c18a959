"""The typed, described and frozen configuration: every field with type, range and meaning.

This module is the bottom of the import order: it imports pydantic and the standard library only.
A data set or a loss extends :class:`DataConfig` or :class:`LossConfig` in its own file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, field_validator, model_validator

__all__ = [
    "AugmentConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "HeadConfig",
    "ImageConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "RunConfig",
    "Section",
    "TrainerConfig",
    "TransformConfig",
]

VIEWS = ("PA", "AP", "LATERAL", "UNKNOWN")


class Section(BaseModel):
    """A frozen part of the configuration that knows all its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ImageConfig(Section):
    """From a file's pixels to the array a network sees. Part of the bundle."""

    size: int = Field(224, ge=32, le=2048, description="Side of the square input, in pixels.")
    fit: Literal["pad", "crop", "stretch"] = Field(
        "pad",
        description="How a radiograph that is not square becomes square: black bars, centre crop, "
        "or stretched.",
    )
    mean: float = Field(
        0.449, ge=0, le=1, description="Subtracted from the grey value scaled to [0, 1]."
    )
    std: float = Field(
        0.226, gt=0, le=1, description="Divides the grey value after the mean is subtracted."
    )


class DataConfig(Section):
    """What every data set shares; `cxr_lightning/data/NAME.py` extends it."""

    name: str = Field(description="The data module: a file of cxr_lightning/data.")
    root: Path | None = Field(None, description="Folder that holds the data set's files.")
    labels: tuple[str, ...] | None = Field(
        None, description="Labels to learn, in this order; none named: all of the data set."
    )
    views: tuple[Literal["PA", "AP", "LATERAL", "UNKNOWN"], ...] | None = Field(
        None, description="View positions to keep; none named: all. What is left out is counted."
    )
    split: Literal["official", "patient"] = Field(
        "patient",
        description="Published lists of the data set, or a new split by patient, stratified over "
        "labels.",
    )
    val_fraction: float = Field(
        0.1, gt=0, lt=1, description="Share of patients used for validation."
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="Share of patients held out for the test (split=patient)."
    )
    split_seed: int = Field(
        0, ge=0, description="Seed of the split alone, so that runs of other seeds stay comparable."
    )
    max_patients: int | None = Field(
        None, ge=3, description="Use at most so many patients, drawn by split_seed."
    )
    image: ImageConfig = Field(default_factory=ImageConfig)
    batch_size: int = Field(
        32, ge=1, description="Images per step over all devices together; each gets its share."
    )
    workers: int = Field(
        0, ge=0, description="Loader processes per device; 0 loads in the training process."
    )
    cache_dir: Path | None = Field(
        None, description="Decoded images; none named: ~/.cache/cxr_lightning."
    )
    on_bad_image: Literal["refuse", "skip"] = Field(
        "refuse", description="Missing or unreadable images: refuse to start, or skip and count."
    )

    @model_validator(mode="after")
    def _fractions_leave_training_data(self) -> DataConfig:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction ({self.val_fraction}) and test_fraction ({self.test_fraction}) "
                "leave nothing to train on; their sum must be below 1"
            )
        return self


class TransformConfig(BaseModel):
    """One albumentations transform: its name, probability and own parameters."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(description="Class name in albumentations, e.g. Affine.")
    p: float = Field(1.0, ge=0, le=1, description="Probability that it is applied.")


class AugmentConfig(Section):
    """An albumentations policy, applied to training images only."""

    name: str = Field(description="Name of the policy.")
    horizontal_flip: float = Field(
        0.0, ge=0, le=1, description="Probability of mirroring; off because the heart has a side."
    )
    transforms: tuple[TransformConfig, ...] = Field(
        (), description="Transforms in the order in which they are applied."
    )


class HeadConfig(Section):
    """From pooled features to one logit per label."""

    kind: Literal["linear", "mlp", "per_label"] = Field(
        "linear", description="One linear layer, one shared MLP, or one MLP per label."
    )
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (256,), description="Hidden units of the MLP, layer by layer."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before each linear layer.")


class ModelConfig(Section):
    """The network: backbone, pooling, head, where its weights come from and which are trained."""

    name: str = Field("simple_cnn", description="simple_cnn, any timm model, or torchvision/NAME.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of the backbone's constructor."
    )
    pretrained: bool = Field(
        False, description="Fetch timm's or torchvision's weights from the hub."
    )
    weights: Path | None = Field(
        None, description="Weights file (.pth, .pt, .safetensors) for use without a hub."
    )
    in_channels: Literal[1, 3] = Field(
        1, description="1: pretrained first layer summed to one channel; 3: grey is replicated."
    )
    pooling: Literal["avg", "max", "gem", "avg+max"] = Field(
        "avg", description="Pooling of the last feature map; avg+max concatenates both."
    )
    head: HeadConfig = Field(default_factory=HeadConfig)
    freeze: str | tuple[str, ...] = Field(
        "none",
        description="none, backbone, all_but_last_N (train the last N stages), or names of stages "
        "to freeze.",
    )
    unfreeze_epoch: int | None = Field(
        None, ge=1, description="Epoch (from 0) from which everything is trained."
    )

    @field_validator("options")
    @classmethod
    def _options_are_not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        ours = {"pretrained", "in_chans", "num_classes", "global_pool", "features_only"}
        if clash := sorted(ours & set(value)):
            raise ValueError(f"{', '.join(clash)}: set by the framework, not through options")
        return value

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> ModelConfig:
        if self.pretrained and self.weights is not None:
            raise ValueError("give pretrained=true (hub) or weights=FILE (offline), not both")
        if self.unfreeze_epoch is not None and self.freeze == "none":
            raise ValueError("unfreeze_epoch needs freeze: nothing is frozen")
        return self


class LossConfig(Section):
    """What every loss shares; `cxr_lightning/losses/NAME.py` extends it."""

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
        0.0, ge=0, description="Epochs (or part of one) of linear warm-up before cosine."
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
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"] = Field(
        "auto", description="auto: bf16-mixed where the hardware has it, else 32-true."
    )
    channels_last: bool = Field(True, description="Memory layout that convolutions run faster in.")
    gradient_clip_val: float | None = Field(
        None, ge=0, description="Largest norm of the gradient; none: not clipped."
    )
    accumulate_grad_batches: int = Field(
        1, ge=1, description="Batches whose gradients are summed for one step."
    )
    monitor: Literal["val/auroc_macro", "val/average_precision_macro", "val/loss"] = Field(
        "val/auroc_macro", description="What chooses the best epoch, early stopping and plateau."
    )
    patience: int | None = Field(
        None, ge=1, description="Epochs without improvement before stopping early; none: never."
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


class EvaluationConfig(Section):
    """How the predictions table is turned into numbers at the end of a run."""

    threshold: Literal["f1", "youden"] = Field(
        "f1", description="What the threshold of each label maximises on validation."
    )
    replicates: int = Field(
        1000, ge=0, le=100_000, description="Patient-bootstrap replicates; 0: no intervals."
    )
    level: float = Field(0.95, gt=0, lt=1, description="Level of the confidence intervals.")


class RunConfig(Section):
    """Where a run is kept and what it is called."""

    name: str | None = Field(None, description="Name of the run; none: time, data and model.")
    dir: Path | None = Field(None, description="Folder of the run; none: runs/<name>.")
    experiment: str = Field("cxr_lightning", description="MLflow experiment.")
    tracking_uri: str = Field(
        "sqlite:///mlflow.db", description="MLflow's store: a database URL or a server's address."
    )
    tags: dict[str, str] = Field(default_factory=dict, description="MLflow tags of the run.")


class Config(Section):
    """The whole configuration of a run."""

    seed: int = Field(
        0, ge=0, lt=2**32, description="Seed of weights, data order and augmentation."
    )
    resume: str = Field(
        "never",
        description="never, auto (newest unfinished run of the same configuration), or a run's "
        "folder.",
    )
    run: RunConfig = Field(default_factory=RunConfig)
    data: InstanceOf[DataConfig]
    model: ModelConfig
    loss: InstanceOf[LossConfig]
    optim: OptimConfig
    augment: AugmentConfig
    trainer: TrainerConfig
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
