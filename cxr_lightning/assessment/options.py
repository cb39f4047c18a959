"""What `evaluate` can be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cxr_lightning.config.schema import EvaluationConfig, Section

__all__ = ["EvaluateOptions"]


class EvaluateOptions(Section):
    """The options of `python -m cxr_lightning.evaluate`, beside those of the data."""

    bundle: tuple[Path, ...] = Field((), description="Bundles that `fit` wrote: A, or A,B,...")
    predictions: tuple[Path, ...] = Field(
        (), description="In place of bundles: saved predictions tables (Parquet) of one test set."
    )
    validation: tuple[Path, ...] = Field(
        (),
        description="With predictions: those of the same models on validation, from which "
        "thresholds and calibration are fitted.",
    )
    split: Literal["train", "val", "test", "all", "unseen"] = Field(
        "test",
        description="Part of the data set that is evaluated; unseen: the patients that no part of "
        "the bundles' trainings held, whatever the split of the data given here. Saved "
        "predictions tell theirs.",
    )
    study: Literal["none", "max", "mean"] = Field(
        "none", description="Score images, or studies by the maximum or mean over their images."
    )
    ensemble: Literal["none", "probability", "logit"] = Field(
        "probability", description="Of several models: the mean that is scored too."
    )
    weights: Literal["equal", "validation"] = Field(
        "equal", description="Weights of the ensemble: equal, or fitted on validation."
    )
    tta: int = Field(
        0, ge=0, le=32, description="Test-time augmentation: so many varied copies are averaged in."
    )
    subgroups: tuple[str, ...] = Field(
        ("sex", "age_years", "view", "source"),
        description="Columns whose groups are compared: any of the data set's or the table's.",
    )
    evaluation: EvaluationConfig = Field(
        default_factory=EvaluationConfig,
        description="As for fit. A threshold rule or calibration that is given replaces the "
        "bundle's, and is fitted on the validation part of the first data set.",
    )
    pictures: bool = Field(True, description="Show example radiographs with heat maps.")
    seed: int = Field(0, ge=0, description="Of the bootstrap and of test-time augmentation.")
    batch_size: int = Field(32, ge=1, description="Images at a time.")
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="Where networks run.")
    output: Path | None = Field(
        None, description="New folder for the results; none: beside the first bundle or table."
    )
    run: str | None = Field(
        None,
        description="Run that also gets the results in MLflow: its folder, or its MLflow id.",
    )
    tracking_uri: str = Field(
        "sqlite:///mlflow.db", description="MLflow's store, where run is an MLflow id."
    )

    @model_validator(mode="after")
    def _either_bundles_or_tables(self) -> EvaluateOptions:
        if bool(self.bundle) == bool(self.predictions):
            raise ValueError(
                "give bundle=FILE and data=..., or predictions=FILE: what is to be evaluated"
            )
        if self.predictions and "split" in self.model_fields_set:
            raise ValueError(
                "split cannot be chosen with predictions: the tables' column split tells the part; "
                "leave split out"
            )
        if self.validation and len(self.validation) != len(self.predictions):
            raise ValueError(
                f"validation names {len(self.validation)} tables for {len(self.predictions)} "
                "of predictions; one each, in the same order"
            )
        return self

    @property
    def folder(self) -> Path:
        """Where the results go."""
        first = (self.bundle or self.predictions)[0]
        return self.output or first.parent / f"evaluate_{self.split}"
