"""Columns of a table of one's own that are not labels: whose, when, which view, which split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr_lightning.data.columns import (
    MISSING,
    Parsed,
    bad_cells,
    each_distinct,
    parse_ages,
    parse_days,
    parse_numbers,
    parse_sexes,
    parse_views,
)
from cxr_lightning.data.tables import places
from cxr_lightning.errors import bullet_list

__all__ = ["Roles", "read_roles"]

if TYPE_CHECKING:
    Read = Callable[[str, Callable[[pd.Series], Parsed], str], np.ndarray]

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "tune"), "val"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
    **dict.fromkeys(("train_val", "trainval", "train+val"), "train_val"),
}


@dataclass(frozen=True)
class Roles:
    """Columns by what they tell; None: no column tells it."""

    split: str | None = None
    study: str | None = None
    visit: str | None = None
    view: str | None = None
    sex: str | None = None
    age: str | None = None
    inputs: tuple[str, ...] = ()

    @property
    def named(self) -> dict[str, str]:
        """The columns that are there, by role; inputs by their own names."""
        roles = ("split", "study", "visit", "view", "sex", "age")
        given = {role: getattr(self, role) for role in roles}
        return {role: name for role, name in given.items() if name is not None}


def read_roles(
    raw: pd.DataFrame,
    roles: Roles,
    file: Path,
    image: str,
    patient: str | None,
    date_format: str | None,
    notes: list[str],
    problems: list[str],
) -> tuple[pd.DataFrame, str]:
    """Read the columns; add to `notes` how, and to `problems` what is not understood.

    Returns
    -------
    DataFrame
        `split`, `view`, `sex`, `age_years`, and where named `visit` and the inputs.
    str
        Which patients the column of splits puts into more than one part, or "".
    """
    crossing = ""
    _check_ids(raw, file, image, patient, problems)
    unknown = pd.Series("UNKNOWN", index=raw.index)
    told: dict[str, object] = {
        "split": "",
        "view": unknown,
        "sex": unknown,
        "age_years": pd.Series(np.nan, index=raw.index),
    }

    def read(column: str, parse: Callable[[pd.Series], Parsed], allowed: str) -> np.ndarray:
        values, wrong = parse(raw[column])
        if wrong.any():
            cells = bad_cells(file, raw[column], wrong)
            problems.append(f"{column} must be {allowed}:\n{cells}")
        return np.asarray(values)

    if roles.split is not None:
        told["split"] = _splits(raw, roles.split, read, notes, problems)
        if patient is not None:
            crossing = _crossing(raw[patient], told["split"], roles.split, file)
    if roles.view is not None:
        values, wrong = parse_views(raw[roles.view])
        told["view"] = values
        notes.append(f"views of {roles.view}: {_counts(values)}")
        if untold := int(raw[roles.view].str.lower().isin(MISSING).sum()):
            notes.append(f"views of {roles.view} not given, so unknown: {untold:,}")
        if wrong.any():
            words = _counts(raw[roles.view][wrong].to_numpy())
            notes.append(f"views of {roles.view} that are none of PA, AP, LATERAL: {words}")
    if roles.sex is not None:
        told["sex"] = read(roles.sex, parse_sexes, "M, F, male, female or blank")
        notes.append(f"sexes of {roles.sex}: {_counts(told['sex'])}")
    if roles.age is not None:
        ages = read(roles.age, parse_ages, "ages in years (58), or 058Y, 006M, 030D")
        odd = (ages < 0) | (ages > 120)
        told["age_years"] = np.where(odd, np.nan, ages)
        notes.append(f"ages of {roles.age}: {_range(told['age_years'])}")
        if odd.any():
            where = places(file, np.flatnonzero(odd))
            notes.append(f"ages of {roles.age} beyond 120 years, so unknown: {where}")
    if roles.visit is not None:
        told["visit"] = _visits(raw, roles.visit, date_format, read)
    for name in roles.inputs:
        told[name] = _input(raw, name, file, notes, problems)
    return pd.DataFrame(told, index=raw.index), crossing


def _check_ids(
    raw: pd.DataFrame, file: Path, image: str, patient: str | None, problems: list[str]
) -> None:
    problems.extend(
        f"{column} is empty: {places(file, np.flatnonzero(raw[column] == ''))}"
        for column in (image, patient)
        if column is not None and (raw[column] == "").any()
    )
    twice = raw[image].duplicated(keep=False) & (raw[image] != "")
    if twice.any():
        names = raw.loc[twice, image]
        found = pd.Series(np.flatnonzero(twice)).groupby(names.to_numpy(), sort=False).apply(list)
        lines = bullet_list(
            [f"{name}: {places(file, rows)}" for name, rows in found.items()], limit=5
        )
        problems.append(
            f"{image}: the same image in several rows:\n{lines}\nA row per image is needed. If "
            "each row is one finding, put those of an image into one cell, separated, and name "
            "that column with data.findings."
        )


def _splits(
    raw: pd.DataFrame,
    column: str,
    read: Read,
    notes: list[str],
    problems: list[str],
) -> np.ndarray:
    split = read(
        column,
        lambda text: each_distinct(text, lambda word: _SPLITS.get(word.lower()), np.object_),
        "train, val or test (or train_val)",
    )
    counts = pd.Series(split[split != ""]).value_counts()
    lacking = [name for name in ("train", "test") if name not in counts and len(counts)]
    if lacking == ["train"] and "train_val" in counts:
        lacking = []
    if lacking and (split != "").all():
        problems.append(
            f"{column} has no row with {' and none with '.join(lacking)}; leave it out with "
            "data.split=patient, which cuts all three by patient"
        )
    if "val" not in counts and "train" in counts:
        split = np.where(split == "train", "train_val", split)
        notes.append(f"{column} has no validation part: it is cut from train, by patient")
    notes.append(f"split by {column}: {_counts(split)}")
    return split


def _crossing(patients: pd.Series, split: object, column: str, file: Path) -> str:
    pairs = pd.DataFrame({"patient": patients, "split": split}).drop_duplicates()
    both = pairs["patient"][pairs["patient"].duplicated()].unique()
    if not len(both):
        return ""
    rows = np.flatnonzero(patients.isin(both[:1]))
    return (
        f"{column}: {len(both):,} patient(s) of {patients.name} are in more than one part, such as "
        f"the one of {places(file, rows)}."
    )


def _visits(raw: pd.DataFrame, column: str, date_format: str | None, read: Read) -> np.ndarray:
    numbers = parse_numbers(raw[column])
    if date_format is None and not numbers.wrong.any():
        as_dates = parse_days(raw[column])
        # 20240531 is a number too; only dates all the way count as such.
        return np.asarray(numbers.values if as_dates.wrong.any() else as_dates.values)
    return read(column, lambda text: parse_days(text, date_format), "dates, or all numbers")


def _input(
    raw: pd.DataFrame, name: str, file: Path, notes: list[str], problems: list[str]
) -> object:
    values, wrong = parse_numbers(raw[name])
    filled = ~np.isnan(values) | wrong
    if not wrong.any():
        notes.append(f"input {name}: numbers, {_range(values)}")
        return values
    if wrong.sum() * 2 <= filled.sum():
        cells = bad_cells(file, raw[name], wrong)
        problems.append(f"data.tabular: {name} is mostly numbers, and has\n{cells}")
    notes.append(f"input {name}: words, {_counts(raw[name].to_numpy())}")
    return raw[name]


def _counts(values: object) -> str:
    counted = pd.Series(np.asarray(values, dtype=object)).value_counts()
    listed = [f"{word or 'blank'} {count:,}" for word, count in counted.head(8).items()]
    return ", ".join(listed) + (f" and {len(counted) - 8:,} more" if len(counted) > 8 else "")


def _range(values: object) -> str:
    numbers = np.asarray(values, dtype=np.float64)
    known = numbers[~np.isnan(numbers)]
    ends = f"{known.min():g} to {known.max():g}, " if known.size else ""
    return f"{ends}{int(np.isnan(numbers).sum()):,} unknown"
