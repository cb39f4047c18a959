"""Radiographs of a hospital with echocardiograms, or any dated measurements, as the truth.

A folder of DICOM files (or PNG and JPEG with a table of images), and a table with a row per
examination. A label is a rule over a measurement (ejection fraction below 40 %, stenosis moderate
or worse) of the patient's examination nearest to the radiograph. What is given to the network
beside the picture comes from records older than the radiograph and, of the echo table, older than
the examination that the labels come from.

No name, id, date or UID stays in the study table: ids are salted hashes (see
:mod:`cxr_lightning.data.identity`), and days are counted from the patient's first radiograph.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.columns import MISSING
from cxr_lightning.data.ehr_images import ImageTable, find_radiographs
from cxr_lightning.data.ehr_records import (
    Records,
    RecordTable,
    earlier_inputs,
    first_forbidden_day,
    labels_of,
    read_records,
    why_unlinked,
)
from cxr_lightning.data.ehr_selection import Selection, select_radiographs
from cxr_lightning.data.identity import read_salt, salted, write_key
from cxr_lightning.data.linkage import nearest_records
from cxr_lightning.data.phantom_root import PhantomSize, phantom_folder
from cxr_lightning.data.reading import Reading
from cxr_lightning.data.rules import Rule, Ruler
from cxr_lightning.data.sieve import Sieve
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.labels import LabelSpace
from cxr_lightning.studies import COLUMNS

__all__ = ["Config", "read_studies"]


class Config(DataConfig):
    """A hospital's radiographs and echocardiograms."""

    root: Path | None = Field(
        None,
        description="Folder of the radiographs, searched below; phantom: synthetic ones, made on "
        "first use.",
    )
    images: ImageTable = Field(default_factory=ImageTable)
    select: Selection = Field(default_factory=Selection)
    echo: RecordTable = Field(default_factory=RecordTable)
    days_before: int = Field(
        90, ge=0, description="How many days before the radiograph its echo may be, at most."
    )
    days_after: int = Field(
        90, ge=0, description="How many days after. The nearest is taken; of two, the earlier."
    )
    targets: dict[str, Rule] = Field(
        default_factory=dict,
        description="Labels as rules over columns of the echo table: below, above, at_least, "
        "at_most (a number or a grade) or equals.",
    )
    grades: dict[str, float] = Field(
        default_factory=dict, description="The order of the words that grade something."
    )
    missing: tuple[str, ...] = Field(
        MISSING, description="Words that stand for no measurement; an empty cell always does."
    )
    tabular_columns: tuple[str, ...] = Field(
        (),
        description="Columns of the inputs table to bring along, for data.tabular to name: from "
        "the newest record before the radiograph.",
    )
    inputs: RecordTable = Field(
        default_factory=RecordTable, description="Table of tabular_columns; none: the echo table."
    )
    same_day_inputs: bool = Field(
        False,
        description="Whether records of the radiograph's own day may be inputs; they may be from "
        "the hours after it.",
    )
    salt_file: Path | None = Field(
        None, description="Salt of the hashed ids, at least 16 bytes; none: the user's own."
    )
    key_file: Path | None = Field(
        None,
        description="Write a table here that leads from hashed ids back to files and patients; "
        "keep it where the data are.",
    )

    phantom: PhantomSize = Field(default_factory=lambda: PhantomSize(images=1500))

    @model_validator(mode="after")
    def _rules_can_be_applied(self) -> Config:
        ruler = Ruler(self.grades, self.missing)
        named = [(f"targets.{name}", rule) for name, rule in self.targets.items()]
        named += [(f"select.exclude.{name}", rule) for name, rule in self.select.exclude.items()]
        problems = [text for name, rule in named for text in ruler.check(name, rule)]
        own = {*COLUMNS, "visit", "labelled", "source"}
        for what, names in (
            ("targets", own & {*self.targets}),
            ("tabular_columns", (own | {*self.targets}) & {*self.tabular_columns}),
        ):
            if names:
                problems.append(f"{what}: {', '.join(sorted(names))}: the name is taken")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def read_studies(config: Config) -> Reading:
    """Read the radiographs and the echo table, and join them.

    Returns
    -------
    Reading
        A row per radiograph that has an echo; `split` is "". The labels are `targets`, NaN where
        the echo lacks the measurement. `visit` is the number of days since the patient's first
        radiograph, `labelled` that of the examination. The flow counts what rules left out.

    Raises
    ------
    ConfigError, DataError
        Missing files and columns; dates, numbers and grades that are not understood, with their
        rows; unreadable headers; nothing that can be joined.
    """
    if config.root is not None and str(config.root) == "phantom":
        config = _phantom(config)
    root = _root(config)
    labels = LabelSpace(tuple(config.targets)).choose(config.labels)
    rules = {name: config.targets[name] for name in labels.names}
    ruler = Ruler(config.grades, config.missing)
    salt = read_salt(config.salt_file)
    echo, inputs = _records(config, root, rules, ruler)
    found, notes = find_radiographs(root, config.images)
    sieve, more = select_radiographs(
        found,
        config.select,
        ruler,
        refuse_bad=config.on_bad_image == "refuse",
        source=root / (config.images.file or ""),
    )
    record = _link(sieve, echo, config)
    values = labels_of(echo, record, rules, ruler)
    unmeasured = values.isna().all(axis=1).to_numpy()
    sieve.leave_out("none of the labels was measured", unmeasured)
    values, record = values[~unmeasured], record[~unmeasured]
    kept = sieve.frame.reset_index(drop=True).assign(labelled=echo.days[record])
    table = pd.concat([_study_table(kept, salt), values.reset_index(drop=True)], axis=1)
    said: tuple[str, ...] = ()
    if config.tabular_columns:
        limits = first_forbidden_day(
            kept["day"].to_numpy(np.int64), echo, record, inputs, same_day=config.same_day_inputs
        )
        columns, said = earlier_inputs(
            kept["patient_id"], limits, inputs, config.tabular_columns, ruler
        )
        table = pd.concat([table, columns], axis=1)
    if config.key_file is not None:
        write_key(config.key_file, _key(table, kept))
    counted = tuple(_count(name, rule, values[name]) for name, rule in rules.items())
    return Reading(table, labels, sieve.flow, (*notes, *more, *echo.notes, *counted, *said))


def _phantom(config: Config) -> Config:
    """Return the configuration of the synthetic hospital, which is written if need be."""
    # The drawing code imports OpenCV; `--help` reads this file for its fields only.
    from cxr_lightning.phantom.layouts.ehr import VERSION, write_ehr_phantom

    folder = phantom_folder(config, config.phantom, write_ehr_phantom, version=VERSION)
    poor = {"poor quality": Rule(column="quality", equals="poor")}
    exclude = poor | config.select.exclude
    own = {
        "root": folder,
        "images": ImageTable(file=Path("images.csv"), path="file"),
        "select": config.select.model_copy(update={"exclude": exclude}),
        "echo": RecordTable(file=Path("echo.csv")),
        "inputs": RecordTable(file=Path("examinations.csv")),
    }
    return config.model_copy(update=own)


def _root(config: Config) -> Path:
    """Return the folder, or say what is missing to begin with."""
    problems = []
    if config.root is None:
        problems.append("data.root: required; the folder of the radiographs, or phantom")
    elif not config.root.is_dir():
        problems.append(f"data.root={config.root}: there is no such folder")
    if config.echo.file is None:
        problems.append("data.echo.file: required; the table of examinations, CSV or Parquet")
    if not config.targets:
        problems.append(
            "data.targets: required; labels as rules over columns of that table, e.g. "
            "data.targets.low_ef={column: lvef, below: 40}. conf/data/ehr.yaml has six."
        )
    if problems or config.root is None:
        raise ConfigError("\n".join(problems))
    return config.root


def _records(
    config: Config, root: Path, rules: dict[str, Rule], ruler: Ruler
) -> tuple[Records, Records]:
    asked = {rule.column: f"data.targets.{name}" for name, rule in rules.items()}
    wanted = dict.fromkeys(config.tabular_columns, "data.tabular_columns")
    shared = config.inputs.file is None
    table = config.echo if shared else config.inputs
    if barred := {table.patient, table.date} & set(wanted):
        raise ConfigError(f"data.tabular_columns: {', '.join(barred)}: an id or date is no input")
    columns = asked | wanted if shared else asked
    echo = read_records(root, config.echo, columns=columns, rules=rules, ruler=ruler)
    if shared or not wanted:
        return echo, echo
    return echo, read_records(root, config.inputs, columns=wanted, rules={}, ruler=ruler)


def _link(sieve: Sieve, echo: Records, config: Config) -> npt.NDArray[np.int64]:
    """Leave out radiographs without an echo; return the echo's row for each that is left."""
    sieve.leave_out("no patient id", sieve.frame["patient_id"].isna(), rare=True)
    sieve.leave_out("no date", sieve.frame["day"].isna(), rare=True)
    unlinked = ~sieve.frame["patient_id"].isin(set(echo.patients))
    reached = len(sieve.frame)
    why = why_unlinked(sieve.frame["patient_id"], echo) if unlinked.all() and reached else ""
    sieve.leave_out("no examination of the patient", unlinked)
    record = nearest_records(
        sieve.frame["patient_id"],
        sieve.frame["day"].to_numpy(np.int64),
        echo.patients,
        echo.days,
        before=config.days_before,
        after=config.days_after,
    )
    sieve.leave_out(
        f"no examination from {config.days_before} days before to {config.days_after} after",
        record < 0,
    )
    if sieve.frame.empty:
        hint = f"\nNo patient of these is in {echo.file.name}; {why}." if why else ""
        if not reached:
            hint = (
                "\nWhat the headers do not say, a table can: data.images.file, and its columns "
                "data.images.patient and data.images.date."
            )
        raise DataError(f"{config.root}: no radiograph is left\n{sieve.describe()}{hint}")
    return record[record >= 0]


def _study_table(kept: pd.DataFrame, salt: bytes) -> pd.DataFrame:
    patient = kept["patient_id"].astype(str)
    day = kept["day"].astype(np.int64)
    first = day.groupby(patient).transform("min")
    study = patient + "\0" + kept["study"].where(kept["study"] != "", "\0" + day.astype(str))
    return pd.DataFrame(
        {
            "sample_id": salted(kept["name"], salt, "image"),
            "image_path": kept["image_path"],
            "patient_id": salted(patient, salt, "patient"),
            "study_id": salted(study, salt, "study"),
            "view": kept["view"],
            "split": "",
            "age_years": kept["age_years"].astype(np.float64),
            "sex": kept["sex"],
            "visit": (day - first).astype(np.float64),
            "labelled": (kept["labelled"] - first).astype(np.float64),
        }
    )


def _key(table: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            **{name: table[name] for name in ("sample_id", "patient_id", "study_id")},
            "image_path": kept["image_path"],
            "patient": kept["patient_id"],
            "study": kept["study"],
        }
    )


def _count(name: str, rule: Rule, values: pd.Series) -> str:
    positive, negative = int((values == 1).sum()), int((values == 0).sum())
    unknown = len(values) - positive - negative
    return f"{name} ({rule}): {positive:,} positive, {negative:,} negative, {unknown:,} unknown"
