"""Which radiographs, how they become arrays, and how they are varied in training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cxr_lightning.config.schema.section import Section

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "ImageConfig",
    "SamplingConfig",
    "TransformConfig",
    "UncertaintyPolicy",
    "View",
]

View = Literal["PA", "AP", "LATERAL", "UNKNOWN"]
UncertaintyPolicy = Literal[
    "ignore", "zeros", "ones", "zeros_lsr", "ones_lsr", "three_class", "self_trained"
]


class ImageConfig(Section):
    """From a file's pixels to the array a network sees. Part of the bundle."""

    size: int = Field(224, ge=32, le=2048, description="Side of the square input, in pixels.")
    fit: Literal["pad", "crop", "stretch"] = Field(
        "pad",
        description="How a radiograph that is not square becomes square: black bars, centre crop, "
        "or stretched.",
    )
    voi: Literal["lut", "window", "range"] = Field(
        "lut",
        description="What of a DICOM file comes first: its VOI LUT, its window (each stands in for "
        "the other where it is missing), or the range of its pixels.",
    )
    mean: float = Field(
        0.449,
        ge=0,
        le=1,
        description="Subtracted from the grey value scaled to [0, 1]. The default is ImageNet's; "
        "with model.pretrained=true, that of the weights.",
    )
    std: float = Field(
        0.226,
        gt=0,
        le=1,
        description="Divides the grey value after the mean is subtracted. As for the mean.",
    )


class SamplingConfig(Section):
    """Which training images an epoch uses."""

    draw: Literal["uniform", "rare_labels", "sources"] = Field(
        "uniform",
        description="uniform: each image once; with replacement: rare_labels, an image as likely "
        "as its rarest label is rare; sources, every source of data=mix as often as the others.",
    )
    no_finding: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the images known to be without a finding that an epoch uses, others "
        "in each; images whose findings are unknown or uncertain are not among them.",
    )


class DataConfig(Section):
    """What every data set shares; `cxr_lightning/data/NAME.py` extends it."""

    name: str = Field(description="The data module: a file of cxr_lightning/data.")
    root: Path | None = Field(None, description="Folder that holds the data set's files.")
    labels: tuple[str, ...] | None = Field(
        None, description="Labels to learn, in this order; none named: all of the data set."
    )
    views: tuple[View, ...] | None = Field(
        None, description="View positions to keep; none named: all. What is left out is counted."
    )
    uncertain: UncertaintyPolicy | dict[str, UncertaintyPolicy] = Field(
        "ignore",
        description="What training makes of uncertain labels (-1), for all labels or for each by "
        "name: unknown, 0, 1, a draw from U(0, 0.3) or U(0.55, 0.85), a class of its own, or a "
        "first model's probability. They are never scored.",
    )
    first_model: Path | None = Field(
        None,
        description="Predictions table (Parquet) of a first model for the training images, for "
        "uncertain=self_trained.",
    )
    tabular: tuple[str, ...] = Field(
        (),
        description="Columns given to the network beside the image: age_years, sex, view, any "
        "further column of the data set, and previous_labels (of the patient's visit before).",
    )
    split: Literal["official", "patient"] = Field(
        "patient",
        description="Published lists of the data set, or a new split by patient, stratified over "
        "all labels that the data set tells.",
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
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    batch_size: int = Field(
        32, ge=1, description="Images per step over all devices together; each gets its share."
    )
    workers: int = Field(
        0, ge=0, description="Loader processes per device; 0 loads in the training process."
    )
    residency: Literal["auto", "disk", "memory", "device"] = Field(
        "auto",
        description="Where training images are between epochs: in the cache's file, which the "
        "system keeps in memory where there is room; copied to memory, with those of validation "
        "and test, once in each process that trains, for a cache on slow storage; or on the "
        "device, which then augments them too, to pixels that differ from the CPU's by at most 2 "
        "of 255 with the shipped policies; auto: on a GPU that has room for them four times, else "
        "disk.",
    )
    cache_dir: Path | None = Field(
        None, description="Decoded images; none named: ~/.cache/cxr_lightning."
    )
    on_bad_image: Literal["refuse", "skip"] = Field(
        "refuse", description="Missing or unreadable images: refuse to start, or skip and count."
    )

    on_duplicate: Literal["refuse", "skip"] = Field(
        "refuse",
        description="Identical pixels in more than one split: refuse to start, or skip all but "
        "those of the split that is the last to be touched (test before validation before "
        "training), and count.",
    )

    @property
    def synthetic(self) -> bool:
        """Whether the images are phantoms, whatever the layout of their files."""
        return self.name == "phantom" or str(self.root) == "phantom"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The data modules whose labels these are; of a mix, those of its sources."""
        return (self.name,)

    @property
    def policies(self) -> frozenset[str]:
        """The uncertainty policies in use."""
        chosen = self.uncertain
        return frozenset((chosen,) if isinstance(chosen, str) else chosen.values())

    @model_validator(mode="after")
    def _self_training_has_a_first_model(self) -> DataConfig:
        if ("self_trained" in self.policies) != (self.first_model is not None):
            raise ValueError(
                "uncertain=self_trained and first_model=FILE (predictions of a first model for the "
                "training images) go together; one of them is missing"
            )
        return self

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
