"""What has not been chosen yet of a table of one's own, and what in it looks like it."""

from __future__ import annotations

import re

import pandas as pd

from cxr_lightning.data.table_labels import VOCABULARY
from cxr_lightning.data.table_paths import IMAGE_SUFFIXES
from cxr_lightning.errors import bullet_list

__all__ = ["missing_choices"]

_PATIENT = re.compile(r"patient|subject|person|\bpid\b|\bmrn\b|case.?id", re.IGNORECASE)
_OF_PATIENT = re.compile(r"age|sex|gender|birth|date|name", re.IGNORECASE)
_IMAGE = re.compile(r"image|path|file|dicom|png|jpg", re.IGNORECASE)
_FINDINGS = re.compile(r"finding|diagnos|label|patholog", re.IGNORECASE)
_LOOKED_AT = 2000
_FEW = 12


def missing_choices(
    raw: pd.DataFrame, *, image: str | None, patient: str | None, labels: bool
) -> str:
    """Say what must be chosen, why, and which columns look like it; "" where nothing is missing.

    Columns are only pointed out: which of them is meant is for the user to say.
    """
    head = raw.head(_LOOKED_AT)
    asked = []
    if image is None:
        asked.append(f"data.image=COLUMN, the files of the images.{_like(_images(head))}")
    if patient is None:
        asked.append(
            "data.patient=COLUMN, whose image it is: with images of one person in training and in "
            "the test, the test measures memory. data.patient=none says that each image is of "
            f"another person.{_like(_patients(head))}"
        )
    if not labels:
        asked.append(
            "data.labels=[COLUMN,COLUMN], what to learn, a column each (1, 0, yes, no, blank); or "
            "data.findings=COLUMN, one that lists what was found."
            f"{_like(_label_columns(head))}{_like(_finding_columns(head), 'findings')}"
        )
    if not asked:
        return ""
    columns = bullet_list([_described(name, head[name]) for name in head], limit=40)
    return f"still to be chosen\n{bullet_list(asked)}\nIts columns:\n{columns}"


def _described(name: object, column: pd.Series) -> str:
    """Show what a column holds, unless its values may point at a person."""
    counts = column.value_counts()
    if len(counts) <= _FEW:
        return f"{name}: {', '.join(repr(word) for word in counts.index[:4])}"
    images = column.str.lower().str.endswith(IMAGE_SUFFIXES).mean() > 0.5
    return f"{name}: {len(counts):,} different values" + (" (image files)" if images else "")


def _like(columns: list[str], what: str = "") -> str:
    if not columns:
        return ""
    shown = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
    return f" Looking like {what or 'it'}: {shown}."


def _images(head: pd.DataFrame) -> list[str]:
    with_suffix = [
        str(name)
        for name in head
        if head[name].str.lower().str.endswith(IMAGE_SUFFIXES).mean() > 0.5
    ]
    return with_suffix or [str(name) for name in head if _IMAGE.search(str(name))]


def _patients(head: pd.DataFrame) -> list[str]:
    return [
        str(name)
        for name in head
        if _PATIENT.search(str(name))
        and not _OF_PATIENT.search(str(name))
        and head[name].nunique() > 1
    ]


def _label_columns(head: pd.DataFrame) -> list[str]:
    known = [
        str(name)
        for name in head
        if 1 < head[name].nunique() <= 5 and head[name].str.lower().isin(VOCABULARY).all()
    ]
    return [name for name in known if not _PATIENT.search(name)]


def _finding_columns(head: pd.DataFrame) -> list[str]:
    return [
        str(name)
        for name in head
        if _FINDINGS.search(str(name))
        and head[name].nunique() > 1
        and not head[name].str.lower().isin(VOCABULARY).all()
    ]
