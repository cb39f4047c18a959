"""The whole configuration of a run, and what is not about training it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, InstanceOf, model_validator

from cxr_lightning.config.schema.data import AugmentConfig, DataConfig
from cxr_lightning.config.schema.model import ModelConfig
from cxr_lightning.config.schema.section import Section
from cxr_lightning.config.schema.training import LossConfig, OptimConfig, TrainerConfig

__all__ = ["Config", "EvaluationConfig", "RunConfig"]


class EvaluationConfig(Section):
    """How the predictions table is turned into numbers at the end of a run."""

    threshold: Literal["f1", "youden", "sensitivity", "specificity", "cost"] = Field(
        "f1",
        description="What the threshold of each label maximises on validation; sensitivity and "
        "specificity reach threshold_target; cost weighs misses by false_negative_cost.",
    )
    threshold_target: float | None = Field(
        None, gt=0, le=1, description="Sensitivity or specificity to reach on validation."
    )
    false_negative_cost: float | None = Field(
        None, gt=0, description="A missed finding in units of a false alarm."
    )
    calibration: Literal["none", "temperature", "platt", "isotonic"] = Field(
        "platt", description="Map from logits to probabilities, fitted on validation per label."
    )
    replicates: int = Field(
        1000, ge=0, le=100_000, description="Patient-bootstrap replicates; 0: no intervals."
    )
    level: float = Field(0.95, gt=0, lt=1, description="Level of the confidence intervals.")
    report: bool = Field(
        True, description="Draw the figures and write report.html; false: tables and metrics only."
    )
    pictures: bool = Field(
        True, description="Show example radiographs in the report, which MLflow keeps too."
    )

    @model_validator(mode="after")
    def _a_rule_has_what_it_needs(self) -> EvaluationConfig:
        for field, rules in (
            ("threshold_target", ("sensitivity", "specificity")),
            ("false_negative_cost", ("cost",)),
        ):
            if (self.threshold in rules) != (getattr(self, field) is not None):
                raise ValueError(
                    f"{field} belongs to threshold={' or '.join(rules)}: give both or neither "
                    f"(threshold is {self.threshold})"
                )
        return self


class RunConfig(Section):
    """Where a run is kept and what it is called."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # run.name=2024

    name: str | None = Field(None, description="Name of the run; none: time, data and model.")
    dir: Path | None = Field(None, description="Folder of the run; none: runs/<name>.")
    experiment: str = Field("cxr_lightning", description="MLflow experiment.")
    tracking_uri: str = Field(
        "sqlite:///mlflow.db", description="MLflow's store: a database URL or a server's address."
    )
    register_as: str | None = Field(
        None,
        pattern=r"^[^/:]+$",
        description="Name in MLflow's model registry under which the finished model becomes a new "
        "version; none: it is logged only.",
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

    @model_validator(mode="after")
    def _a_class_of_its_own_needs_its_loss(self) -> Config:
        if ("three_class" in self.data.policies) != (self.loss.classes == 3):
            raise ValueError(
                "data.uncertain=three_class and loss=three_class go together; one of them is "
                "missing"
            )
        return self

    @model_validator(mode="after")
    def _release_comes_before_the_end(self) -> Config:
        release = self.model.unfreeze_epoch
        if release is not None and release >= self.trainer.max_epochs:
            raise ValueError(
                f"model.unfreeze_epoch={release} never comes: trainer.max_epochs is "
                f"{self.trainer.max_epochs} and epochs count from 0"
            )
        return self
