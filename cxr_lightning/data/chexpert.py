"""CheXpert: 224,316 radiographs of 65,240 patients, with labels from reports that may be uncertain.

Irvin et al., "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert
Comparison", AAAI 2019; provider: Stanford ML Group and AIMI Center,
https://stanfordmlgroup.github.io/competitions/chexpert. The validation set (200 studies) and the
test set (500) were labeled by radiologists; the latter's labels are part of CheXlocalize (Saporta
et al., Nature Machine Intelligence 2022). All releases of the tables and folders are read.

Which set is the test set decides what a number means. With the test set's table the three sets are
used as they were published. Without it the validation set is the test set, as in most of the
literature, and validation is cut from the training set by patient: choosing the best epoch on the
images that are reported would be no test.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from cxr_lightning.data.chexpert_files import TABLES, Archive, find_archive, split_paths
from cxr_lightning.data.columns import parse_ages, parse_sexes, plausible_ages
from cxr_lightning.data.phantom_root import phantom_folder
from cxr_lightning.data.reading import Reading
from cxr_lightning.data.report_labels import (
    LABELS,
    ReportLabelConfig,
    header_of,
    label_columns,
    label_strata,
    parse_labels,
    select_projection,
    unlearnable,
)
from cxr_lightning.data.tables import read_text_table
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.labels import LabelSpace

__all__ = ["Config", "read_studies"]

_IMAGES = (".jpg", ".jpeg", ".png")


class Config(ReportLabelConfig):
    """CheXpert."""

    root: Path | None = Field(
        None,
        description="Folder of the archive (CheXpert-v1.0, CheXpert-v1.0-small or whatever you "
        "call it), or one that holds it; phantom: synthetic radiographs, made on first use.",
    )
    train_table: str = Field(
        "train.csv",
        description="Table of the training set: train.csv, or train_cheXbert.csv and the like, "
        "which label the same reports anew.",
    )
    split: Literal["official", "patient"] = Field(
        "official",
        description="official: the published sets (see test_set); patient: all images are split "
        "anew, those that radiologists labeled too.",
    )
    test_set: Literal["auto", "test", "valid"] = Field(
        "auto",
        description="What is the test set (split=official). test: the published one, with the "
        "published validation set; valid: the published validation set, and validation is cut from "
        "the training set by patient; auto: test if its table is there, else valid.",
    )


def read_studies(config: Config) -> Reading:
    """Read the tables of the training, validation and, where it is there, test set.

    Returns
    -------
    Reading
        A row per image, laterals included. Labels are those of the study: 1, 0, -1 (uncertain) or
        NaN; blanks are resolved by `config.blank`. An age of 0 is unknown (no patient is a child),
        and one of 90 means 90 or more. The projection is that of the file's name; AP or PA are
        known of the training and validation sets.

    Raises
    ------
    ConfigError, DataError
        No archive, or several; missing tables and columns; everything in a table that is not
        understood, by line.
    """
    if config.root is None:
        raise ConfigError("data.root: required; the folder of CheXpert's archive, or phantom")
    root = _phantom(config) if config.synthetic else config.root
    labels = LABELS.choose(config.labels)
    archive = find_archive(root, config.train_table)
    splits, notes = _splits(config, archive)
    parts = [_read_table(archive, table, labels, config) for table in splits]
    for part, split in zip(parts, splits.values(), strict=True):
        part["split"] = split
    notes += [
        f"{table}: {archive.tables[table]} ({len(part):,} images)"
        for table, part in zip(splits, parts, strict=True)
    ]
    studies = pd.concat(parts, ignore_index=True)
    ages = studies["age_years"].to_numpy(np.float64)
    studies["age_years"], odd = plausible_ages(ages, oldest=120, zero=False)
    notes += odd
    lateral = studies.pop("lateral").to_numpy(dtype=bool)
    studies, flow = select_projection(studies, config.projection, lateral=lateral)
    notes += unlearnable(studies, labels)
    return Reading(studies, labels, flow, tuple(notes))


def _phantom(config: Config) -> Path:
    # The drawing code imports OpenCV; `--help` reads this file for its fields only.
    from cxr_lightning.phantom.layouts.chexpert import write_chexpert_phantom

    return phantom_folder(config, config.phantom, write_chexpert_phantom)


def _splits(config: Config, archive: Archive) -> tuple[dict[str, str], list[str]]:
    """Return the split of each table that is used, and what was decided."""
    there = archive.tables
    if config.split == "patient":
        return dict.fromkeys(there, ""), [f"one split by patient of {', '.join(there)}"]
    if config.test_set == "test" and "test" not in there:
        raise DataError(
            f"data.test_set=test: no table of the test set; looked for {', '.join(TABLES['test'])} "
            f"in {config.root} and up to two folders below. It comes with CheXlocalize and with "
            "the release of the AIMI Center. data.test_set=valid tests on the validation set."
        )
    if "test" in there and config.test_set != "valid":
        if "valid" in there:
            splits = {"train": "train", "valid": "val", "test": "test"}
            return splits, ["test set: the published one; validation: the published one"]
        splits = {"train": "train_val", "test": "test"}
        return splits, ["test set: the published one; validation: cut from the training set"]
    if "valid" not in there:
        raise DataError(
            f"data.split=official: no table of the validation set; looked for "
            f"{', '.join(TABLES['valid'])} in {config.root} and up to two folders below. "
            "data.split=patient splits the training set anew."
        )
    splits = {"train": "train_val", "valid": "test"}
    return splits, [
        "test set: the published validation set; validation: cut from the training set by patient. "
        "Numbers are not comparable with those on the published test set"
    ]


def _read_table(archive: Archive, table: str, labels: LabelSpace, config: Config) -> pd.DataFrame:
    file = archive.tables[table]
    header = header_of(file)
    names = label_columns(labels, header)
    key = "Study" if "Study" in header else "Path"
    raw = read_text_table(file, required=(key, *names), filled=(key,), unique=key)
    values = parse_labels(raw, labels, blank=config.blank, file=file)
    parts = split_paths(raw[key], file)
    if (parts["file"] == "").any():
        raw, parts, values = _images_of_studies(archive, table, raw, parts, values)
    lateral = parts["file"].str.contains("lateral", case=False).to_numpy(dtype=bool)
    study = parts["patient"] + "/" + parts["study"]
    return pd.DataFrame(
        {
            "sample_id": f"{table}/" + study + "/" + parts["file"],
            "image_path": archive.image_paths(table, parts),
            "patient_id": parts["patient"],
            "study_id": study,
            "view": _views(raw, lateral),
            "split": "",
            "age_years": parse_ages(raw["Age"]).values if "Age" in raw else np.nan,
            "sex": parse_sexes(raw["Sex"]).values if "Sex" in raw else "UNKNOWN",
            "lateral": lateral,
            **values,
            **label_strata(raw),
        }
    )


def _images_of_studies(
    archive: Archive,
    table: str,
    raw: pd.DataFrame,
    parts: pd.DataFrame,
    values: dict[str, npt.NDArray[np.float32]],
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, npt.NDArray[np.float32]]]:
    """Repeat a study's row for each of its images, as its folder lists them.

    A study without a folder keeps one row, whose image is reported as missing with all others.
    """
    folders = archive.image_paths(table, parts)
    files = [_image_names(folder) or ["view1_frontal.jpg"] for folder in folders]
    rows = np.repeat(np.arange(len(raw)), [len(names) for names in files])
    expanded = parts.iloc[rows].reset_index(drop=True)
    expanded["file"] = [name for names in files for name in names]
    return (
        raw.iloc[rows].reset_index(drop=True),
        expanded,
        {name: column[rows] for name, column in values.items()},
    )


def _image_names(folder: str) -> list[str]:
    if not os.path.isdir(folder):
        return []
    return sorted(name for name in os.listdir(folder) if name.lower().endswith(_IMAGES))


def _views(raw: pd.DataFrame, lateral: npt.NDArray[np.bool_]) -> npt.NDArray[np.object_]:
    """Return LATERAL by the file's name, else AP or PA where the table says so.

    A few frontal images of the training set are "LL" or "RL": what they are is not known.
    """
    stated = raw["AP/PA"].str.strip().str.upper() if "AP/PA" in raw else pd.Series("", raw.index)
    frontal = stated.where(stated.isin(("AP", "PA")), "UNKNOWN").to_numpy(dtype=object)
    return np.where(lateral, "LATERAL", frontal)
