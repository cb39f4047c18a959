"""What `explain` can be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cxr_lightning.config.schema import Section

__all__ = ["ExplainOptions"]


class ExplainOptions(Section):
    """The options of `python -m cxr_lightning.explain`, beside those of the data."""

    bundle: Path = Field(description="The bundle that `fit` wrote.")
    split: Literal["train", "val", "test", "all", "unseen"] = Field(
        "test",
        description="Part of the data set that is explained; unseen: the patients that no part of "
        "the bundle's training held, whatever the split of the data given here.",
    )
    labels: tuple[str, ...] | None = Field(
        None, description="Some of the bundle's labels; none named: all."
    )
    method: Literal["gradcam", "gradcam++", "rollout", "gradient_rollout"] = Field(
        "gradcam",
        description="gradcam and gradcam++ suit every network. For transformers, rollout follows "
        "the attention and is the same for all labels; gradient_rollout weights it for each label.",
    )
    images: Annotated[int, Field(ge=0)] | tuple[str, ...] = Field(
        6,
        description="Examples to show of each label: how many (two of three with the finding, "
        "those with boxes first; the others false alarms), or a list of sample ids.",
    )
    limit: int = Field(
        2000,
        ge=1,
        description="At most so many images are looked at, drawn at random; those with boxes and "
        "those named always are.",
    )
    stage: str = Field(
        "pooled",
        description="Where the features are taken: a stage of the backbone, or pooled, what the "
        "head sees.",
    )
    umap: bool = Field(
        False, description="Also lay out the features by UMAP (needs the extra: umap)."
    )
    seed: int = Field(0, ge=0, description="Of the draw, of k-means and of UMAP.")
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="Where the network runs.")
    output: Path | None = Field(
        None, description="New folder for the results; none: explain_METHOD beside the bundle."
    )
    run: str | None = Field(
        None,
        description="Run that also gets the results in MLflow: its folder, or its MLflow id.",
    )
    tracking_uri: str = Field(
        "sqlite:///mlflow.db", description="MLflow's store, where run is an MLflow id."
    )

    @property
    def folder(self) -> Path:
        """Where the results go."""
        method = self.method.replace("++", "_plus_plus")
        return self.output or self.bundle.parent / f"explain_{method}"
