"""The study table: one validated row per image, whatever the data set.

Columns: `sample_id`, `image_path`, `patient_id`, `study_id` (str), `view` (PA, AP, LATERAL,
UNKNOWN), `split` (train, val, test; empty before the split), `age_years` (float, NaN unknown),
`sex` (M, F, UNKNOWN), optional `study_date` and further features, and one float32 column per label
(1, 0, NaN for unknown, -1 for uncertain).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.config.schema import View
from cxr_lightning.errors import DataError, bullet_list
from cxr_lightning.labels import LabelSpace

__all__ = [
    "COLUMNS",
    "SPLITS",
    "LeakageReport",
    "audit_leakage",
    "fingerprint",
    "label_array",
    "split_by_patient",
    "validate_studies",
]

COLUMNS = (
    "sample_id",
    "image_path",
    "patient_id",
    "study_id",
    "view",
    "split",
    "age_years",
    "sex",
)
SPLITS = ("train", "val", "test")
_WORDS = {
    "view": get_args(View),
    "sex": ("M", "F", "UNKNOWN"),
    "split": SPLITS,
}


def label_array(studies: pd.DataFrame, labels: LabelSpace) -> npt.NDArray[np.float32]:
    """Return the labels as a new float32 array of shape (rows, labels)."""
    return studies.loc[:, list(labels.names)].to_numpy(dtype=np.float32, copy=True)


def validate_studies(
    studies: pd.DataFrame, labels: LabelSpace, *, source: str = "the study table"
) -> pd.DataFrame:
    """Return the table unchanged if it keeps the contract, or raise with everything that is wrong.

    Parameters
    ----------
    studies
        The table, after the split.
    labels
        The label columns it must have.
    source
        The file it came from, for the message.

    Raises
    ------
    DataError
        Every problem at once, with rows (counted from 0) and their images.
    """
    wanted = [*COLUMNS, *labels.names]
    if missing := [name for name in wanted if name not in studies.columns]:
        raise DataError(f"{source}: missing columns: {', '.join(missing)}")
    if studies.empty:
        raise DataError(f"{source}: no image is left; see what was left out above, and choose less")
    problems: list[str] = []
    for column in ("sample_id", "image_path", "patient_id", "study_id"):
        text = studies[column]
        # A reader owes strings: the test for "not a word" is cheap on a typed column.
        blank = text.isna() | (text.astype(str).str.strip() == "")
        problems += _rows(studies, blank, f"{column} is empty")
    problems += _rows(
        studies,
        studies["sample_id"].duplicated(keep=False),
        "sample_id occurs more than once",
        show="sample_id",
    )
    for column, allowed in _WORDS.items():
        wrong = ~studies[column].isin(allowed)
        problems += _rows(
            studies, wrong, f"{column} must be one of {', '.join(allowed)}", show=column
        )
    age = studies["age_years"]
    problems += _rows(
        studies, (age < 0) | (age > 120), "age_years must be in [0, 120]", show="age_years"
    )
    for name in labels.names:
        values = studies[name].to_numpy(dtype=np.float32, copy=False)
        wrong = ~((values == 0) | (np.abs(values) == 1) | np.isnan(values))
        what = f"label {name} must be 1, 0, -1 (uncertain) or unknown"
        problems += _rows(studies, wrong, what, show=name)
    for split in SPLITS:
        if not (studies["split"] == split).any():
            problems.append(f"the {split} split is empty: no image has split={split}")
    if problems:
        raise DataError(f"{source}: {len(problems)} problem(s)\n{bullet_list(problems)}")
    return studies


def _rows(
    studies: pd.DataFrame,
    wrong: pd.Series | npt.NDArray[np.bool_],
    what: str,
    *,
    show: str | None = None,
) -> list[str]:
    positions = np.flatnonzero(np.asarray(wrong))
    if positions.size == 0:
        return []
    examples = []
    for row in positions[:5]:
        value = f" {_plain(studies[show].iat[row])!r}" if show and show != "sample_id" else ""
        examples.append(f"row {row} ({studies['sample_id'].iat[row]}){value}")
    more = f" and {positions.size - 5:,} more" if positions.size > 5 else ""
    return [f"{what}: {'; '.join(examples)}{more}"]


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def split_by_patient(
    studies: pd.DataFrame,
    fractions: Mapping[str, float],
    *,
    labels: LabelSpace,
    seed: int,
) -> pd.DataFrame:
    """Assign whole patients to splits, stratified over labels.

    Patients are sorted by their set of positive labels, the rarest label first, in random order
    within a set; splits are then dealt along that order in fixed proportion. Every label is thereby
    divided in proportion to within a few patients (systematic stratified sampling), in one
    vectorised pass.

    Parameters
    ----------
    studies
        The table; its `split` column is ignored.
    fractions
        Share of patients per split, e.g. ``{"train": 0.7, "val": 0.1, "test": 0.2}``; sums to 1.
    labels
        Labels to stratify over.
    seed
        Seed of the random order.

    Returns
    -------
    DataFrame
        A copy with `split` filled.

    Raises
    ------
    DataError
        Fewer patients than splits.
    """
    if not np.isclose(sum(fractions.values()), 1.0):
        raise ValueError(f"fractions must sum to 1, got {dict(fractions)}")
    codes, patients = pd.factorize(studies["patient_id"], sort=True)
    if len(patients) < len(fractions):
        raise DataError(
            f"{len(patients)} patient(s) cannot be divided into {', '.join(fractions)}: "
            f"at least {len(fractions)} are needed"
        )
    carried = label_array(studies, labels).T >= 0.5  # what is unknown is not positive
    positive = np.stack([np.bincount(codes, one, len(patients)) for one in carried], axis=1) > 0
    images = np.bincount(codes, minlength=len(patients))
    order = _stratified_order(positive, images, np.random.default_rng(seed))
    dealt = np.empty(len(patients), dtype=np.int64)
    dealt[order] = _deal(np.array(list(fractions.values())), len(patients))
    names = np.array(list(fractions), dtype=object)
    return studies.assign(split=names[dealt][codes])


def _stratified_order(
    positive: npt.NDArray[np.bool_], images: npt.NDArray[np.int64], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    commonest_first = np.argsort(-positive.sum(axis=0), kind="stable")
    # lexsort's last key leads, so the rarest label does; patients with many images spread evenly.
    keys = [generator.random(len(images)), images, *positive[:, commonest_first].T]
    return np.lexsort(keys)


def _deal(fractions: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Return the split of each position: the m-th place of a split falls at (m + 1/2) / fraction.

    Any run of k positions then holds k * fraction places of each split, to within one or two.
    """
    places = [(np.arange(int(np.ceil(count * share)) + 1) + 0.5) / share for share in fractions]
    splits = np.repeat(np.arange(len(fractions)), [len(times) for times in places])
    dealt = splits[np.argsort(np.concatenate(places), kind="stable")][:count]
    # With a handful of patients a small split may not have come up yet.
    for split in range(len(fractions)):
        if not (dealt == split).any():
            largest = np.bincount(dealt, minlength=len(fractions)).argmax()
            dealt[np.flatnonzero(dealt == largest)[-1]] = split
    return dealt


@dataclass(frozen=True)
class LeakageReport:
    """What crosses a border between splits.

    Attributes
    ----------
    patients
        Patients with images in more than one split.
    duplicates
        Groups of sample ids with identical pixels in more than one split.
    """

    patients: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]

    @property
    def clean(self) -> bool:
        return not self.patients and not self.duplicates

    def describe(self) -> str:
        """Return the findings as text."""
        parts = []
        if self.patients:
            parts.append(
                f"{len(self.patients):,} patient(s) in more than one split:\n"
                f"{bullet_list(self.patients)}"
            )
        if self.duplicates:
            groups = [
                " = ".join(group[:6]) + (f" and {len(group) - 6:,} more" if len(group) > 6 else "")
                for group in self.duplicates
            ]
            parts.append(
                f"{len(self.duplicates):,} picture(s) with identical pixels in more than one split:"
                f"\n{bullet_list(groups)}"
            )
        return "\n".join(parts) or "no patient and no picture is in more than one split"


def audit_leakage(
    studies: pd.DataFrame, content_hash: npt.NDArray[np.uint64] | None = None
) -> LeakageReport:
    """Find patients, and identical pictures, that are in more than one split.

    Parameters
    ----------
    studies
        The table, after the split.
    content_hash : uint64 array of shape (rows,), optional
        Hash of each image's pixels; without it only patients are compared.
    """
    patients = _crossing(studies["patient_id"], studies["split"])
    duplicates: list[tuple[str, ...]] = []
    if content_hash is not None:
        keys = pd.Series(content_hash, index=studies.index)
        crossing = _crossing(keys, studies["split"])
        if len(crossing):
            rows = studies.loc[keys.isin(crossing), ["sample_id", "split"]]
            text = rows["sample_id"].astype(str) + " (" + rows["split"].astype(str) + ")"
            duplicates = [tuple(group) for _, group in text.groupby(keys[keys.isin(crossing)])]
    return LeakageReport(tuple(str(patient) for patient in patients), tuple(duplicates))


def _crossing(keys: pd.Series, split: pd.Series) -> Sequence[object]:
    pairs = pd.DataFrame({"key": keys, "split": split}).drop_duplicates()
    counts = pairs["key"].value_counts()
    return sorted(counts.index[counts > 1])


def fingerprint(studies: pd.DataFrame, labels: LabelSpace) -> str:
    """Return a hash of ids, labels and splits, whatever the order of rows: 16 hex digits.

    Two runs whose fingerprints are equal were trained and tested on the same images with the same
    labels, so that their numbers can be compared.
    """
    ordered = studies[["sample_id", "split", *labels.names]].sort_values("sample_id")
    digest = hashlib.sha256("\x1f".join(labels.names).encode())
    for column in ("sample_id", "split"):
        digest.update("\x1f".join(ordered[column].astype(str).tolist()).encode())
    values = label_array(ordered, labels)
    values[np.isnan(values)] = np.nan  # one bit pattern for every NaN
    digest.update(values.astype("<f4").tobytes())
    return digest.hexdigest()[:16]
