"""Who is in a data set, as the first table of a paper has it, and what is not known of them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cxr_lightning.data.previous import PREVIOUS, previous_column
from cxr_lightning.data.tabular import is_missing
from cxr_lightning.studies import SPLITS

__all__ = ["table_one"]


def table_one(studies: pd.DataFrame, inputs: Sequence[str] = ()) -> pd.DataFrame:
    """Return who is in each split, as text: the first table of a paper.

    Age is that of the patient at the first of their images, median and quartiles; sex is per
    patient, view per image. Of each of `inputs`, the columns that the network gets beside the
    image, stands on how many images it is missing.
    """
    columns = {}
    for split in (*dict.fromkeys((*SPLITS, *studies["split"])), "all"):
        part = studies if split == "all" else studies[studies["split"] == split]
        patients = part.drop_duplicates("patient_id")
        ages = patients["age_years"].dropna()
        cells = {
            "images": f"{len(part):,}",
            "patients": f"{len(patients):,}",
            "images per patient, median (maximum)": _per_patient(part),
            "age in years, median (quartiles)": (
                "{1:.0f} ({0:.0f}-{2:.0f})".format(*ages.quantile([0.25, 0.5, 0.75]))
                if len(ages)
                else "not known"
            ),
            "age not known": _count(int(patients["age_years"].isna().sum()), len(patients)),
        }
        for sex, words in (("F", "female"), ("M", "male"), ("UNKNOWN", "sex not known")):
            cells[words] = _count(int((patients["sex"] == sex).sum()), len(patients))
        for view in ("PA", "AP", "LATERAL", "UNKNOWN"):
            words = f"view {view}" if view != "UNKNOWN" else "view not known"
            cells[words] = _count(int((part["view"] == view).sum()), len(part))
        for name in dict.fromkeys(inputs):
            if name not in ("age_years", "sex", "view"):  # said above
                cells[_missing_words(name)] = _count(int(_missing(part, name).sum()), len(part))
        columns[split] = cells
    table = pd.DataFrame(columns)
    # A line that is 0 everywhere says nothing.
    return table[(table != "0").any(axis=1)]


def _per_patient(part: pd.DataFrame) -> str:
    counts = part["patient_id"].value_counts()
    return f"{counts.median():.0f} ({counts.max():,})" if len(counts) else "0"


def _count(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if part else "0"


def _missing_words(name: str) -> str:
    return "no visit before" if name == PREVIOUS else f"{name} missing"


def _missing(part: pd.DataFrame, name: str) -> pd.Series:
    if name == PREVIOUS:
        return part[previous_column("visit")] == 0
    return is_missing(part[name])
