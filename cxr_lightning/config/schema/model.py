"""The network: backbone, pooling, head, weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cxr_lightning.config.schema.section import Section

__all__ = ["HeadConfig", "ModelConfig"]


class HeadConfig(Section):
    """From pooled features to one logit per label."""

    kind: Literal["linear", "mlp", "per_label"] = Field(
        "linear", description="One linear layer, one shared MLP, or one MLP per label."
    )
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (256,), description="Hidden units of the MLP, layer by layer."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before each linear layer.")
    fusion: Literal["concat", "gated"] = Field(
        "concat",
        description="How data.tabular joins the image features: behind them, or through a learnt "
        "gate with the image features past it.",
    )
    fusion_units: int = Field(256, ge=1, description="Units of each branch of the gated fusion.")


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
        # These read other files, or from the network: model.weights=FILE does the former.
        ours |= {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
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
