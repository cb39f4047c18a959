"""MIMIC-CXR-JPG: 377,110 radiographs of 65,379 patients, with labels from reports by two labelers.

Johnson et al., "MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs",
arXiv:1901.07042, and Scientific Data 6:317, 2019; provider: PhysioNet,
https://physionet.org/content/mimic-cxr-jpg (credentialed access). Labels are those of the study's
report, by the CheXpert or the NegBio labeler: of the published test set too, so that a number on it
says how well a model agrees with the labeler. Release 2.1.0 has labels of a part of the test set by
a radiologist who read the reports. Dates are shifted by the provider, each patient's by
the same time; only their order is used here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from cxr_lightning.data.columns import bad_cells, parse_days, parse_numbers, parse_sexes
from cxr_lightning.data.mimic_files import RADIOLOGIST, Release, find_release
from cxr_lightning.data.phantom_root import phantom_folder
from cxr_lightning.data.reading import FlowStep, Reading, flow_step
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
from cxr_lightning.errors import ConfigError, DataError, bullet_list
from cxr_lightning.labels import LabelSpace

__all__ = ["Config", "read_studies"]

_SPLITS = {"train": "train", "validate": "val", "test": "test"}
_VIEWS = {"PA": "PA", "AP": "AP", "LATERAL": "LATERAL", "LL": "LATERAL"}
"""Others (a dozen of oblique, decubitus and swimmer's views) and blanks (4 %) are UNKNOWN."""

_ELDEST, _DAYS_A_YEAR = 120.0, 365.2425


class Config(ReportLabelConfig):
    """MIMIC-CXR-JPG."""

    root: Path | None = Field(
        None,
        description="Folder with mimic-cxr-2.0.0-*.csv.gz and files/, or one above it; phantom: "
        "synthetic radiographs, made on first use.",
    )
    labeler: Literal["chexpert", "negbio"] = Field(
        "chexpert", description="Which labeler's reading of the reports."
    )
    test_labels: Literal["labeler", "radiologist"] = Field(
        "labeler",
        description="Labels of the test set (split=official): the labeler's, or those of its "
        "studies that a radiologist labeled (mimic-cxr-2.1.0-test-set-labeled.csv); the others "
        "are left out and counted.",
    )
    patients: Path | None = Field(
        None,
        description="MIMIC-IV's hosp/patients.csv.gz, which knows sex and age; none: "
        "patients.csv.gz beside the tables, if it is there.",
    )
    split: Literal["official", "patient"] = Field(
        "official",
        description="official: the published train, validate and test; patient: split anew.",
    )


def read_studies(config: Config) -> Reading:
    """Read the metadata, the labels of one labeler and, for ``split=official``, the split.

    Returns
    -------
    Reading
        A row per image of the metadata whose study has labels; the others (a handful, of reports
        that were not labeled) are left out and counted. Labels are 1, 0, -1 (uncertain) or NaN;
        blanks are resolved by `config.blank`. `visit` counts days from the patient's first study.

    Raises
    ------
    ConfigError, DataError
        Missing files and columns, duplicates, images without a split; everything in a table that
        is not understood, by line.
    """
    if config.root is None:
        raise ConfigError("data.root: required; the folder of MIMIC-CXR-JPG, or phantom")
    if config.test_labels == "radiologist" and config.split != "official":
        raise ConfigError(
            "data.test_labels=radiologist: they are labels of the published test set; they need "
            "data.split=official"
        )
    root = _phantom(config) if config.synthetic else config.root
    labels = LABELS.choose(config.labels)
    release = find_release(root, config.labeler)
    images = _read_metadata(release.table("metadata"))
    images["image_path"] = release.image_paths(images)
    if config.split == "official":
        images["split"] = _split(images["sample_id"], release.table("split"))
    people = config.patients or release.folder / "patients.csv.gz"
    if config.patients or people.is_file():
        images = images.assign(**_people(people, images))
    images = images.drop(columns="day").assign(visit=_visits(images))
    studies, flow = _labelled(images, release, labels, config)
    studies, chosen = select_projection(studies, config.projection)
    note = (
        "labels of the test set: a radiologist's"
        if config.test_labels == "radiologist"
        else f"labels of the {config.labeler} labeler, of the test set too: not a radiologist's"
    )
    notes = (note, *unlearnable(studies, labels))
    return Reading(studies, labels, (*flow, *chosen[1:]), notes)


def _phantom(config: Config) -> Path:
    # The drawing code imports OpenCV; `--help` reads this file for its fields only.
    from cxr_lightning.phantom.layouts.mimic import write_mimic_phantom

    return phantom_folder(config, config.phantom, write_mimic_phantom)


def _read_metadata(file: Path) -> pd.DataFrame:
    """Return the study table but for labels and paths; `day` is since 1970, with the time."""
    ids = ("dicom_id", "subject_id", "study_id")
    wanted = (*ids, "ViewPosition", "StudyDate", "StudyTime")
    raw = read_text_table(file, required=wanted, filled=ids, unique="dicom_id")
    problems = []
    days, times = parse_days(raw["StudyDate"]), parse_numbers(raw["StudyTime"])
    for column, form, wrong in (
        ("StudyDate", "21800506", days.wrong),
        ("StudyTime", "213014.531", times.wrong),
    ):
        if wrong.any():
            problems.append(f"{column}: not like {form}:\n{bad_cells(file, raw[column], wrong)}")
    if problems:
        raise DataError(f"{file}: " + "\n".join(problems))
    view = raw["ViewPosition"].str.strip().str.upper().map(_VIEWS).fillna("UNKNOWN")
    return pd.DataFrame(
        {
            "sample_id": raw["dicom_id"],
            "image_path": "",
            "patient_id": raw["subject_id"],
            "study_id": raw["study_id"],
            "view": view,
            "split": "",
            "age_years": np.nan,
            "sex": "UNKNOWN",
            "day": days.values + np.nan_to_num(_share_of_day(times.values)),
        }
    )


def _share_of_day(clock: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return times written as HHMMSS.fff as a share of the day."""
    hours, minutes, seconds = clock // 10_000, clock // 100 % 100, clock % 100
    share: npt.NDArray[np.float64] = (hours + (minutes + seconds / 60) / 60) / 24
    return share


def _visits(images: pd.DataFrame) -> pd.Series:
    """Return days from the patient's first study; all images of a study are one visit."""
    study = images.groupby("study_id")["day"].transform("min")
    return study - study.groupby(images["patient_id"]).transform("min")


def _split(samples: pd.Series, file: Path) -> npt.NDArray[np.object_]:
    raw = read_text_table(
        file, required=("dicom_id", "split"), filled=("dicom_id",), unique="dicom_id"
    )
    unknown = ~raw["split"].isin(_SPLITS).to_numpy()
    if unknown.any():
        raise DataError(
            f"{file}: split must be {', '.join(_SPLITS)}; found\n"
            f"{bad_cells(file, raw['split'], unknown)}"
        )
    named = raw.set_index("dicom_id")["split"].map(_SPLITS)
    split = samples.map(named)
    if (missing := split.isna()).any():
        raise DataError(
            f"{file}: names no split for {missing.sum():,} image(s) of the metadata:\n"
            f"{bullet_list(samples[missing], limit=5)}\n"
            "Take both tables of one release, or use data.split=patient."
        )
    return split.to_numpy(dtype=object)


def _labelled(
    images: pd.DataFrame, release: Release, labels: LabelSpace, config: Config
) -> tuple[pd.DataFrame, list[FlowStep]]:
    """Return the images whose study has labels, with them, and what was left out."""
    by_hand = (images["split"] == "test") & (config.test_labels == "radiologist")
    studies = _with_labels(images[~by_hand], release.table(config.labeler), labels, config)
    remaining = pd.concat([studies, images[by_hand]])
    flow = [flow_step("in the data set", 0, images)]
    if without := len(images) - len(remaining):
        flow.append(flow_step("the study has no labels", without, remaining))
    if config.test_labels == "radiologist":
        file = release.table(RADIOLOGIST)
        test = _with_labels(images[by_hand], file, labels, config)
        if test.empty:
            raise DataError(f"{file}: none of its studies is in the test set of the split's table")
        studies = pd.concat([studies, test], ignore_index=True)
        flow.append(flow_step("no radiologist labeled it", int(by_hand.sum()) - len(test), studies))
    return studies, flow


def _with_labels(
    images: pd.DataFrame, file: Path, labels: LabelSpace, config: Config
) -> pd.DataFrame:
    """Return the images whose study is in a table of labels, with them."""
    raw = read_text_table(
        file,
        required=("study_id", *label_columns(labels, header_of(file))),
        filled=("study_id",),
        unique="study_id",
        what="studies",
    )
    values = parse_labels(raw, labels, blank=config.blank, file=file)
    found = pd.DataFrame({"study_id": raw["study_id"], **values, **label_strata(raw)})
    return images.merge(found, on="study_id", how="inner")


def _people(file: Path, images: pd.DataFrame) -> dict[str, npt.NDArray]:
    """Return sex and age at each study from MIMIC-IV's patients; unknown of those it lacks.

    Its `anchor_age` is the age in `anchor_year`, and 91 of everyone above 89.
    """
    wanted = ("subject_id", "gender", "anchor_age", "anchor_year")
    raw = read_text_table(
        file, required=wanted, filled=("subject_id",), unique="subject_id", what="patients"
    )
    sexes = parse_sexes(raw["gender"])
    ages, years = parse_numbers(raw["anchor_age"]), parse_numbers(raw["anchor_year"])
    wrong = {"gender": sexes.wrong, "anchor_age": ages.wrong, "anchor_year": years.wrong}
    problems = [
        f"{name}:\n{bad_cells(file, raw[name], at)}" for name, at in wrong.items() if at.any()
    ]
    if problems:
        raise DataError(f"{file}: not understood\n" + "\n".join(problems))
    rows = pd.Index(raw["subject_id"]).get_indexer(pd.Index(images["patient_id"]))
    known = rows >= 0
    year = 1970 + np.floor(images["day"].to_numpy() / _DAYS_A_YEAR)
    age = ages.values[rows] + year - years.values[rows]
    return {
        "age_years": np.where(known & (age > 0) & (age <= _ELDEST), age, np.nan),
        "sex": np.where(known, sexes.values[rows], "UNKNOWN"),
    }
