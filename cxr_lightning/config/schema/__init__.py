"""The typed, described and frozen configuration: every field with type, range and meaning.

This package is the bottom of the import order: it imports pydantic and the standard library only.
A data set or a loss extends :class:`DataConfig` or :class:`LossConfig` in its own file.
"""

from cxr_lightning.config.schema.data import (
    AugmentConfig,
    DataConfig,
    ImageConfig,
    SamplingConfig,
    TransformConfig,
    UncertaintyPolicy,
    View,
)
from cxr_lightning.config.schema.model import HeadConfig, ModelConfig
from cxr_lightning.config.schema.run import Config, EvaluationConfig, RunConfig
from cxr_lightning.config.schema.section import Section
from cxr_lightning.config.schema.training import LossConfig, OptimConfig, TrainerConfig

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
    "SamplingConfig",
    "Section",
    "TrainerConfig",
    "TransformConfig",
    "UncertaintyPolicy",
    "View",
]
