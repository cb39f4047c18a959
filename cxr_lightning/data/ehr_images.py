"""The radiographs of a hospital: from DICOM headers, from a table of images, or from both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field
from rich.console import Console

from cxr_lightning.config.schema import Section
from cxr_lightning.data.columns import (
    MISSING,
    DateFormat,
    Parsed,
    bad_cells,
    parse_ages,
    parse_days,
    parse_sexes,
    parse_views,
    shape_of,
)
from cxr_lightning.data.dicom_headers import PROBLEM, TAGS, read_headers
from cxr_lightning.data.folders import files_below, suffix_of
from cxr_lightning.data.tables import Delimiter, read_text_table
from cxr_lightning.errors import ConfigError, DataError, bullet_list

__all__ = ["ImageTable", "find_radiographs"]

_PICTURES = (".png", ".jpg", ".jpeg")
_DICOM = (".dcm", ".dicom", ".dic", ".ima", "")
_DATES = ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate")
_SAY_FROM = 5000  # so many headers take some seconds


class ImageTable(Section):
    """A table with a row per radiograph; its columns come before the DICOM headers."""

    file: Path | None = Field(
        None, description="CSV or Parquet, below data.root; none: every file below it, by header."
    )
    path: str = Field("path", description="Column of file names, relative to data.root.")
    patient: str | None = Field(None, description="Column of patients; none: DICOM Patient ID.")
    date: str | None = Field(None, description="Column of dates; none: DICOM Study Date.")
    study: str | None = Field(None, description="Column of studies; none: DICOM, or patient + day.")
    view: str | None = Field(None, description="Column of view positions; none: DICOM.")
    sex: str | None = Field(None, description="Column of sexes; none: DICOM.")
    age: str | None = Field(None, description="Column of ages in years; none: DICOM.")
    date_format: DateFormat | None = Field(
        None, description="How dates are written, e.g. %d.%m.%Y; none: 2024-05-31 or 20240531."
    )
    delimiter: Delimiter = Field(",", description="What separates the cells of a CSV file.")

    @property
    def columns(self) -> dict[str, str]:
        """What a column tells, and its name."""
        named = ("path", "patient", "date", "study", "view", "sex", "age")
        return {what: name for what in named if (name := getattr(self, what)) is not None}

    def check(self) -> None:
        """Refuse columns of no table.

        Raises
        ------
        ConfigError
            Naming all of them.
        """
        usual = type(self).model_fields
        asked = (*self.columns, "date_format")
        given = [what for what in asked if getattr(self, what) != usual[what].default]
        if self.file is None and given:
            raise ConfigError(
                f"{', '.join(f'data.images.{what}' for what in given)}: about columns of a table, "
                "which data.images.file names; without one, DICOM headers tell all of it"
            )


def find_radiographs(root: Path, table: ImageTable) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Find the radiographs below a folder and what is known of each.

    Returns
    -------
    DataFrame
        A row per file: `image_path`, `name` (its SOP Instance UID, or its path below `root`),
        `patient_id` and `study` as the hospital has them (NaN, "" where unknown), `day` (days since
        1970, NaN), `view`, `sex`, `age_years`, `dicom` (bool), `problem` (why a header is none, or
        ""), and every further column of the table and of the DICOM headers, as text.
    tuple of str
        What was read as UNKNOWN, and what was passed over.

    Raises
    ------
    ConfigError, DataError
        No files, a table that lacks columns, and every date, age and sex that is not understood.
    """
    notes: list[str] = []
    table.check()
    if table.file is None:
        listed = pd.DataFrame({"path": _files(root, notes)})
        file, names = root, listed["path"]
    else:
        file = root / table.file
        listed = read_text_table(
            file,
            required=list(table.columns.values()),
            filled=(table.path,),
            unique=table.path,
            delimiter=table.delimiter,
        )
        names = listed[table.path].str.strip()
    paths = [os.path.join(root, name) for name in names]
    dicom = np.array([suffix_of(name) in _DICOM for name in names], dtype=bool)
    if not dicom.all():
        _check_pictures(table, int((~dicom).sum()))
    headers = _headers(paths, dicom)
    if table.file is None:
        # LICENSE, README and the like: what has no suffix may be DICOM, and need not be.
        other = np.array(
            [
                bool(problem) and not suffix_of(path) and _is_something_else(path)
                for path, problem in zip(paths, headers[PROBLEM], strict=True)
            ],
            dtype=bool,
        )
        if other.any():
            notes.append(f"files without a suffix that are no DICOM: {int(other.sum()):,}")
            paths = [path for path, gone in zip(paths, other, strict=True) if not gone]
            listed, dicom = listed[~other].reset_index(drop=True), dicom[~other]
            headers, names = headers[~other].reset_index(drop=True), listed["path"]
    told = {what: listed[name] for what, name in table.columns.items()}
    frame, problems = _understood(file, table, told, headers, notes)
    if problems:
        raise DataError(f"{file}: what is not understood\n" + "\n".join(problems))
    name = headers["SOPInstanceUID"].where(headers["SOPInstanceUID"] != "", names)
    frame = frame.assign(image_path=paths, name=name, dicom=dicom, problem=headers[PROBLEM])
    used = {*frame.columns, *table.columns.values()}
    further = listed[[column for column in listed if column not in used]]
    tags = headers[[tag for tag in TAGS if tag not in further]]
    return pd.concat([frame, tags, further], axis=1), tuple(notes)


def _files(root: Path, notes: list[str]) -> list[str]:
    found: list[str] = []
    passed: dict[str, int] = {}
    closed: list[str] = []
    for path in files_below(
        root, lambda error: closed.append(f"{error.filename}: {error.strerror}")
    ):
        suffix = suffix_of(path)
        if os.path.basename(path) == "DICOMDIR":
            continue
        if suffix in _DICOM or suffix in _PICTURES:
            found.append(os.path.relpath(path, root))
        else:
            passed[suffix] = passed.get(suffix, 0) + 1
    if closed:
        raise DataError(
            f"{root}: folders whose files cannot be listed:\n{bullet_list(closed)}\n"
            "Make them readable, or move them elsewhere."
        )
    if passed:
        listed = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(passed.items()))
        notes.append(f"files that are no images by their name were passed over: {listed}")
    if not found:
        raise DataError(
            f"{root}: no radiographs; looked for files without a suffix or with "
            f"{', '.join((*_DICOM[:-1], *_PICTURES))}"
        )
    return found


def _is_something_else(path: str) -> bool:
    """Whether a file can be read and is not DICOM, also not a damaged one, by its first bytes."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] != b"DICM"
    except OSError:
        return False


def _check_pictures(table: ImageTable, count: int) -> None:
    missing = [what for what in ("patient", "date") if getattr(table, what) is None]
    if table.file is None:
        raise ConfigError(
            f"data.images.file: required; {count:,} files are PNG or JPEG, which do not say whose "
            "they are or of which day. Name a table with a row per image, and its columns with "
            "data.images.path, data.images.patient and data.images.date."
        )
    if missing:
        raise ConfigError(
            f"{count:,} files are PNG or JPEG, which have no header; name the columns of "
            f"{table.file} with " + " and ".join(f"data.images.{what}=COLUMN" for what in missing)
        )


def _headers(paths: Sequence[str], dicom: np.ndarray) -> pd.DataFrame:
    chosen = np.flatnonzero(dicom)
    if len(chosen) >= _SAY_FROM:
        Console(stderr=True).print(f"Reading the headers of {len(chosen):,} DICOM files")
    found = read_headers([paths[row] for row in chosen.tolist()])
    found.index = pd.Index(chosen)
    return found.reindex(range(len(paths)), fill_value="")


def _understood(
    file: Path,
    table: ImageTable,
    told: dict[str, pd.Series],
    headers: pd.DataFrame,
    notes: list[str],
) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns that tell who and when, and what of the table is not understood."""
    problems: list[str] = []

    def read(what: str, parsed: Parsed, text: pd.Series, allowed: str) -> np.ndarray:
        if parsed.wrong.any():
            if what in told and what != "view":
                cells = bad_cells(file, text, parsed.wrong)
                problems.append(f"{told[what].name} must be {allowed}:\n{cells}")
            else:
                # notes leave the machine, and a date must not
                words = text.map(shape_of) if what == "date" else text
                counted = words[parsed.wrong].value_counts().head(10)
                listed = ", ".join(f"{word!r} {count:,}" for word, count in counted.items())
                notes.append(f"{what} not understood, so unknown: {listed}")
        return np.asarray(parsed.values)

    dates = told.get("date")
    if dates is None:
        dates = _first_filled(headers, _DATES)
        day = read("date", parse_days(dates), dates, "a date")
    else:
        form = table.date_format
        allowed = f"dates as {form}" if form else "dates (2024-05-31 or 20240531), or data.images."
        allowed += "" if form else "date_format says how they are written"
        day = read("date", parse_days(dates, form), dates, allowed)
    ages = told.get("age", headers["PatientAge"])
    age = read("age", parse_ages(ages), ages, "ages in years")
    if "age" not in told:
        birth = parse_days(headers["PatientBirthDate"]).values
        age = np.where(np.isnan(age), np.floor((day - birth) / 365.25), age)
    odd = (age < 0) | (age > 120)
    if odd.any():
        notes.append(f"ages outside of 0 to 120 years, so unknown: {int(odd.sum()):,}")
    sexes = told.get("sex", headers["PatientSex"])
    views = told.get("view", headers["ViewPosition"])
    untold = views.str.strip().str.lower().isin(MISSING) & (headers[PROBLEM] == "")
    if untold.any():
        notes.append(f"view not given, so unknown: {int(untold.sum()):,}")
    patient = told.get("patient", headers["PatientID"]).str.strip()
    frame = pd.DataFrame(
        {
            "patient_id": patient.where(patient != ""),
            "study": told.get("study", headers["StudyInstanceUID"]).str.strip(),
            "day": day,
            "view": read("view", parse_views(views), views, "a view position"),
            "sex": read("sex", parse_sexes(sexes), sexes, "M or F"),
            "age_years": np.where(odd, np.nan, age),
        }
    )
    # a sex that a header spells in a way of its own is unknown; of a table, it is a problem
    return frame.assign(sex=frame["sex"].where(frame["sex"] != "", "UNKNOWN")), problems


def _first_filled(headers: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    filled = headers[names[0]]
    for name in names[1:]:
        filled = filled.where(filled != "", headers[name])
    return filled
