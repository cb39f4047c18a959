"""The 14 labels of CheXpert and MIMIC-CXR: 1, 0, -1 (uncertain) and blank stay four things.

Irvin et al., "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert
Comparison", AAAI 2019. A labeler reads each report: 1 where it affirms a finding, 0 where it denies
it, -1 where it hedges, and a blank where it does not mention it.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, field_validator

from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.columns import bad_cells
from cxr_lightning.data.phantom_root import PhantomSize
from cxr_lightning.data.reading import FlowStep, flow_step, strata
from cxr_lightning.errors import DataError
from cxr_lightning.labels import NO_FINDING, LabelSpace

__all__ = [
    "COMPETITION",
    "LABELS",
    "ReportLabelConfig",
    "header_of",
    "label_columns",
    "label_strata",
    "parse_labels",
    "select_projection",
    "unlearnable",
]

LABELS = LabelSpace(
    (
        NO_FINDING,
        "Enlarged Cardiomediastinum",
        "Cardiomegaly",
        "Lung Opacity",
        "Lung Lesion",
        "Edema",
        "Consolidation",
        "Pneumonia",
        "Atelectasis",
        "Pneumothorax",
        "Pleural Effusion",
        "Pleural Other",
        "Fracture",
        "Support Devices",
    )
)
COMPETITION = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
"""The five of CheXpert's competition, scored per study."""

_SHORTHAND = "competition"
_FORMER = {"Airspace Opacity": "Lung Opacity"}
"""What a label is called in some tables (MIMIC-CXR-JPG's radiologist-labeled test set)."""

_VALUES = {"1": 1.0, "0": 0.0, "-1": -1.0}
_BLANKS = ("", "nan")
_FRONTAL = ("PA", "AP")


class ReportLabelConfig(DataConfig):
    """What the data sets whose labels come from reports share."""

    labels: tuple[str, ...] | None = Field(
        None,
        description="Labels to learn, in this order; none named: all 14; competition: the five "
        f"that are scored there ({', '.join(COMPETITION)}).",
    )
    blank: Literal["negative", "unknown"] = Field(
        "negative",
        description="What a label is that the report does not mention. negative, as in "
        "published results: reports mention what is there, most cells are blank, and without "
        "them few negatives remain; unknown: neither trained on nor scored.",
    )
    projection: Literal["frontal", "lateral", "both"] = Field(
        "both", description="Which radiographs of a study; what is left out is counted."
    )
    phantom: PhantomSize = Field(default_factory=lambda: PhantomSize(images=2000))

    @field_validator("labels", mode="before")
    @classmethod
    def _competition(cls, labels: object) -> object:
        return COMPETITION if labels in (_SHORTHAND, (_SHORTHAND,), [_SHORTHAND]) else labels


def parse_labels(
    raw: pd.DataFrame, labels: LabelSpace, *, blank: str, file: Path
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the labels of a table of texts: 1, 0, -1 (uncertain) or NaN (unknown), by name.

    A blank becomes 0 or NaN, as `blank` says. A blank `No Finding` is 0 in any case: the labeler
    writes 1 there when it affirmed and doubted nothing, and a blank otherwise, never a 0.

    Raises
    ------
    DataError
        Every cell that is none of 1, 0, -1 and blank, with its line.
    """
    raw = raw.rename(columns=_FORMER)
    problems = []
    found: dict[str, npt.NDArray[np.float32]] = {}
    for name in labels.names:
        codes, words = pd.factorize(raw[name])
        values = [_value(str(word)) for word in words]
        wrong = np.array([value is None for value in values], dtype=bool)[codes]
        if wrong.any():
            problems.append(f"{name}:\n{bad_cells(file, raw[name], wrong)}")
            continue
        column = np.array(values, dtype=np.float32)[codes]
        if blank == "negative" or name == NO_FINDING:
            column[np.isnan(column)] = 0
        found[name] = column
    if problems:
        raise DataError(
            f"{file}: labels must be 1, 0, -1 (uncertain) or blank (not mentioned); found\n"
            + "\n".join(problems)
        )
    return found


def label_strata(raw: pd.DataFrame) -> dict[str, npt.NDArray[np.float32]]:
    """Return the columns of a table of texts over which a split is stratified, chosen or not."""
    raw = raw.rename(columns=_FORMER)
    words = {name: raw[name].str.strip() for name in LABELS.names if name in raw}
    return strata({name: text.isin(("1", "1.0")).to_numpy() for name, text in words.items()})


def _value(word: str) -> float | None:
    word = word.strip().lower()
    return np.nan if word in _BLANKS else _VALUES.get(word.removesuffix(".0"))


def header_of(file: Path) -> pd.Index:
    """Return the column names of a CSV file; none of one that cannot be read."""
    try:
        return pd.read_csv(file, nrows=0, dtype=str).columns.str.strip()
    except (ValueError, OSError, EOFError, zlib.error):  # `read_text_table` says what is wrong
        return pd.Index([], dtype=str)


def label_columns(labels: LabelSpace, columns: pd.Index) -> list[str]:
    """Return the names under which a table has the labels, former ones where it uses those."""
    former = {new: old for old, new in _FORMER.items()}
    return [
        former[name] if name not in columns and former.get(name) in columns else name
        for name in labels.names
    ]


def select_projection(
    studies: pd.DataFrame, wanted: str, *, lateral: npt.NDArray[np.bool_] | None = None
) -> tuple[pd.DataFrame, tuple[FlowStep, ...]]:
    """Keep the frontal or the lateral radiographs, and count what is left out.

    Parameters
    ----------
    lateral : bool array of shape (rows,), optional
        Which radiographs are lateral, where that is known of each; without it `view` decides, and
        one whose view is not known is neither.
    """
    if wanted == "both":
        return studies, ()
    view = studies["view"]
    is_lateral = (view == "LATERAL").to_numpy() if lateral is None else lateral
    is_frontal = view.isin(_FRONTAL).to_numpy() if lateral is None else ~lateral
    kept = studies[is_frontal if wanted == "frontal" else is_lateral].reset_index(drop=True)
    begun = flow_step("in the data set", 0, studies)
    return kept, (begun, flow_step(f"not {wanted}", len(studies) - len(kept), kept))


def unlearnable(studies: pd.DataFrame, labels: LabelSpace) -> tuple[str, ...]:
    """Say, a sentence each, of which labels training knows no positive or no negative."""
    notes = []
    training = studies[~studies["split"].isin(("val", "test"))]
    for value, word in ((1, "positive"), (0, "negative")):
        absent = [name for name in labels.names if not (training[name] == value).any()]
        if absent:
            notes.append(f"no known {word} to train on of {', '.join(absent)}")
    return tuple(notes)
