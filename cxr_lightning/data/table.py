"""A table of your own: a CSV or Parquet file with a row per image, and any column names.

The columns are named in the configuration; nothing is guessed. What was understood of them is in
the reading's notes, and all that was not is reported at once, with the lines and what to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.columns import DateFormat
from cxr_lightning.data.ehr_selection import Tags
from cxr_lightning.data.identity import read_salt, salted, write_key
from cxr_lightning.data.phantom_root import PhantomSize, phantom_folder
from cxr_lightning.data.previous import LABELLED
from cxr_lightning.data.reading import Reading
from cxr_lightning.data.table_columns import Roles, read_roles
from cxr_lightning.data.table_dicom import check_headers
from cxr_lightning.data.table_hints import missing_choices
from cxr_lightning.data.table_labels import column_labels, finding_labels, finding_strata
from cxr_lightning.data.table_paths import find_images
from cxr_lightning.data.tables import Delimiter, missing_columns, read_text_table
from cxr_lightning.errors import ConfigError, DataError, bullet_list
from cxr_lightning.labels import LabelSpace
from cxr_lightning.studies import COLUMNS

__all__ = ["Config", "read_studies"]

NO_PATIENT = "none"


class Config(DataConfig):
    """A table of your own."""

    csv: Path | None = Field(
        None, description="The table: CSV (also gzipped) or Parquet, a row per image."
    )
    root: Path | None = Field(
        None, description="Folder of the images; none: that of the table. phantom: synthetic ones."
    )
    image_column: str | None = Field(
        None,
        description="Column of image files, relative to data.root. In short: data.image=COLUMN.",
    )
    pattern: str = Field(
        "{}",
        description="How that column becomes a path below data.root: {} is the cell, {name} its "
        "last part, **/ in front any folder; e.g. images/{}.png. A suffix may be left out.",
    )
    patient: str | None = Field(
        None, description="Column that says whose image it is; none: each of another patient."
    )
    findings: str | None = Field(
        None,
        description="One column that lists the findings of an image, in place of a column each.",
    )
    separator: str = Field("|", min_length=1, description="What separates findings in a cell.")
    no_finding: tuple[str, ...] = Field(
        ("No Finding",), description="Words of that column that say that there is none."
    )
    values: dict[str, Literal[1, 0, -1] | None] = Field(
        default_factory=dict,
        description="What further words of the label columns mean: 1, 0, -1 (uncertain) or null.",
    )
    blank: Literal["unknown", "negative"] = Field(
        "unknown", description="What an empty cell of a label column, or of findings, means."
    )
    split_column: str | None = Field(
        None, description="Column with train, val and test; it is followed unless split=patient."
    )
    select: Tags = Field(default_factory=Tags)
    study: str | None = Field(None, description="Column of studies; none: each image is one.")
    visit: str | None = Field(
        None, description="Column of dates or numbers that orders the visits of a patient."
    )
    view: str | None = Field(
        None, description="Column of view positions (PA, AP, lateral); none: DICOM, or unknown."
    )
    sex: str | None = Field(None, description="Column of sexes (M, F, male, female).")
    age: str | None = Field(None, description="Column of ages in years (58, 058Y, 006M).")
    date_format: DateFormat | None = Field(
        None, description="How dates are written, e.g. %d.%m.%Y; none: 2024-05-31 or 20240531."
    )
    delimiter: Delimiter = Field(",", description="What separates the cells of a CSV file.")
    ids: Literal["hashed", "plain"] = Field(
        "hashed",
        description="Ids in predictions and MLflow: salted hashes, or as written (public data).",
    )
    salt_file: Path | None = Field(
        None, description="Salt of the hashed ids, at least 16 bytes; none: the user's own."
    )
    key_file: Path | None = Field(
        None,
        description="Write a table here that leads from hashed ids back to files and patients.",
    )

    phantom: PhantomSize = Field(default_factory=lambda: PhantomSize(images=1500))

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        full = dict(given)
        if isinstance(full.get("image"), str):  # elsewhere a section: size, fit, mean, std
            full["image_column"] = full.pop("image")
        if full.get("split_column") is not None:
            full.setdefault("split", "official")
        return full

    @model_validator(mode="after")
    def _choices_fit_together(self) -> Config:
        if self.split == "official" and self.split_column is None:
            raise ValueError("split=official needs split_column=COLUMN with train, val and test")
        inner = self.pattern.removeprefix("**/")
        if ("{}" not in inner and "{name}" not in inner) or "*" in inner:
            raise ValueError(
                f"pattern={self.pattern}: needs {{}} or {{name}}, and * only as **/ in front"
            )
        return self

    @property
    def roles(self) -> Roles:
        """The columns that are not labels, by what they tell."""
        return Roles(
            split=self.split_column if self.split == "official" else None,
            study=self.study,
            visit=self.visit,
            view=self.view,
            sex=self.sex,
            age=self.age,
            inputs=tuple(n for n in self.tabular if n not in _OWN_INPUTS),
        )


_OWN_INPUTS = ("age_years", "sex", "view", "visit", "previous_labels")


def read_studies(config: Config) -> Reading:
    """Read the table and find its images.

    Returns
    -------
    Reading
        A row per image; `split` is "" unless a column says it. The notes tell how every column was
        understood.

    Raises
    ------
    ConfigError, DataError
        What has not been chosen, with what the table offers; everything in it that is not
        understood, by line.
    """
    if config.root is not None and str(config.root) == "phantom":
        config = _phantom(config)
    file = config.csv
    if file is None:
        raise ConfigError("data.csv: required; the table with a row per image (CSV or Parquet)")
    raw = read_text_table(file, required=(), delimiter=config.delimiter)
    raw = raw.apply(lambda column: column.str.strip())
    if problem := missing_choices(
        raw,
        image=config.image_column,
        patient=config.patient,
        labels=bool(config.labels or config.findings),
    ):
        raise ConfigError(f"{file}: {problem}")
    _check_columns(config, raw, file)
    problems: list[str] = []
    notes = [f"{file.name}: {len(raw):,} rows, {raw.shape[1]} columns"]
    labels = _labels(config, raw, file, notes, problems)
    patient = None if config.patient == NO_PATIENT else config.patient
    image = str(config.image_column)
    told, crossing = read_roles(
        raw, config.roles, file, image, patient, config.date_format, notes, problems
    )
    images = find_images(raw[image].tolist(), config.root or file.parent, config.pattern)
    headers = check_headers(images.paths, images.missing, config.select)
    notes += (*images.notes, *headers.notes)
    if images.problem and (config.on_bad_image == "refuse" or images.fatal):
        advice = "" if images.fatal else " Or leave them out: data.on_bad_image=skip."
        problems.append(f"{image}: {images.problem}{advice}")
    if headers.problem and config.on_bad_image == "refuse":
        problems.append(f"{image}: {headers.problem}")
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise DataError(f"{file}: {count}\n" + "\n".join(f"* {problem}" for problem in problems))
    told = told if config.view else told.assign(view=headers.views)
    table = _identified(config, raw, told, images.paths, patient)
    over = {}
    if config.findings is not None:
        over = finding_strata(raw[config.findings], config.separator, config.no_finding)
    studies, flow = headers.leave_out(pd.concat([table, pd.DataFrame(labels | over)], axis=1))
    return Reading(studies, LabelSpace(tuple(labels)), flow, tuple(notes), crossing=crossing)


def _phantom(config: Config) -> Config:
    """Return the configuration of a synthetic table, which is written if need be.

    What has been chosen stays; the rest becomes what one would choose for it.
    """
    # The drawing code imports OpenCV; `--help` reads this file for its fields only.
    from cxr_lightning.phantom.layouts.table import COLUMNS as LABEL_COLUMNS
    from cxr_lightning.phantom.layouts.table import TABLE, write_table_phantom

    folder = phantom_folder(config, config.phantom, write_table_phantom)
    own: dict[str, Any] = {"root": folder, "csv": folder / TABLE}
    usual: dict[str, Any] = {
        "image_column": "file",
        "patient": "person",
        "view": "projection",
        "sex": "gender",
        "age": "years",
        "visit": "visit_date",
    }
    if config.findings is None:
        usual["labels"] = tuple(LABEL_COLUMNS)
    own |= {name: value for name, value in usual.items() if getattr(config, name) is None}
    if config.pattern == "{}":
        own["pattern"] = "pictures/{}"
    return config.model_copy(update=own)


def _check_columns(config: Config, raw: pd.DataFrame, file: Path) -> None:
    """Refuse columns that are not there, or that are to be two things at once."""
    labels = () if config.findings else (config.labels or ())
    used = {"image": config.image_column, "patient": config.patient, "findings": config.findings}
    if config.patient == NO_PATIENT and NO_PATIENT not in raw:
        del used["patient"]
    used |= config.roles.named
    wanted = [name for name in used.values() if name is not None]
    if problem := missing_columns([*wanted, *labels, *config.roles.inputs], raw.columns):
        raise DataError(f"{file}: {problem}")
    roles: dict[str, list[str]] = {}
    for role, name in used.items():
        if name is not None:
            roles.setdefault(name, []).append(role)
    for name in labels:
        roles.setdefault(name, []).append("labels")
    for name in config.roles.inputs:
        roles.setdefault(name, []).append("tabular")
    free = ({"image", "study"}, {"view", "tabular"}, {"sex", "tabular"}, {"age", "tabular"})
    clashes = [
        f"{name}: data.{' and data.'.join(found)}"
        for name, found in roles.items()
        if len(found) > 1 and set(found) not in free
    ]
    if clashes:
        raise ConfigError(f"{file}: a column cannot be two things\n{bullet_list(clashes)}")
    taken = sorted({*labels, *config.roles.inputs} & {*COLUMNS, LABELLED, "source", "visit"})
    if taken:
        raise ConfigError(
            f"{file}: {', '.join(taken)}: a label or input cannot have this name, which the study "
            "table uses; rename the column"
        )


def _labels(
    config: Config, raw: pd.DataFrame, file: Path, notes: list[str], problems: list[str]
) -> dict[str, np.ndarray]:
    blank = 0.0 if config.blank == "negative" else np.nan
    if config.findings is not None:
        labels, said, wrong = finding_labels(
            raw[config.findings], config.separator, config.no_finding, config.labels, blank
        )
    else:
        names = LabelSpace(tuple(config.labels or ())).names
        labels, said, wrong = column_labels(raw, names, config.values, blank, file)
    notes += said
    problems += wrong
    return labels


def _identified(
    config: Config, raw: pd.DataFrame, told: pd.DataFrame, paths: list[str], patient: str | None
) -> pd.DataFrame:
    """Return the columns of the study table but for the labels, and write the key of its ids."""
    image = raw[str(config.image_column)]
    whose = image if patient is None else raw[patient]
    study = image if config.study is None else whose + "\0" + raw[config.study]
    ids = {"sample_id": image, "patient_id": whose, "study_id": study}
    if config.ids == "hashed":
        salt = read_salt(config.salt_file)
        kinds = zip(ids, ("image", "patient", "study"), strict=True)
        ids = {name: pd.Series(salted(ids[name], salt, kind)) for name, kind in kinds}
    elif config.study is not None:
        ids["study_id"] = whose + "/" + raw[config.study]
    table = pd.DataFrame({**ids, "image_path": paths})
    if config.key_file is not None:
        write_key(config.key_file, table.assign(image=image, patient=whose))
    if "visit" in told:  # days or numbers from the patient's first, not dates
        first = told["visit"].groupby(table["patient_id"]).transform("min")
        told = told.assign(visit=told["visit"] - first)
    return pd.concat([table, told], axis=1)
