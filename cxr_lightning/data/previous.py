"""Labels of the same patient's previous visit: an input that exists before the radiograph."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cxr_lightning.errors import ConfigError
from cxr_lightning.labels import LabelSpace

__all__ = ["LABELLED", "PREVIOUS", "previous_column", "with_previous_labels"]

PREVIOUS = "previous_labels"
"""The name under which `data.tabular` asks for them."""

LABELLED = "labelled"
"""Column that says when a radiograph's labels were measured, where that is another examination than
the radiograph itself: a number as `visit`, from the same origin; NaN: at the visit."""


def previous_column(label: str) -> str:
    """Return the study table's column for a label's value at the previous visit."""
    return f"previous/{label}"


def with_previous_labels(studies: pd.DataFrame, labels: LabelSpace) -> pd.DataFrame:
    """Return the table with a column per label, and `previous/visit`, of the visit before.

    The order of visits is that of the column `visit` (any increasing number, e.g. days). The
    previous visit is the last one of the same patient with a *smaller* number: images of one visit
    do not see each other's labels, and nothing comes from a later one. Where the table has the
    column `labelled`, it is the last one whose labels (and those of all visits before it) were
    measured before this radiograph, and before the labels of this radiograph: an examination that
    came later, or that gives the truth, is never an input. A label of a visit is 1 if any of its
    images has it, 0 if some have 0 and none 1, else unknown (uncertain counts as unknown).

    Returns
    -------
    DataFrame
        A copy with float32 columns ``previous/LABEL`` (1, 0, NaN) and ``previous/visit`` (1 where
        there is a previous visit, else 0).

    Raises
    ------
    ConfigError
        The data set does not say in which order visits came.
    """
    if "visit" not in studies:
        raise ConfigError(
            f"data.tabular: {PREVIOUS} needs to know which visit came first, and this data set "
            "does not say"
        )
    visit = studies["visit"].astype(np.float64)
    labelled = studies[LABELLED].fillna(visit) if LABELLED in studies else visit
    names = list(labels.names)
    values = studies[names].where(studies[names] != -1).astype(np.float32)
    told = values.rename(columns=previous_column).assign(**{previous_column("visit"): 1.0})
    rows = pd.DataFrame({"patient_id": studies["patient_id"], "visit": visit, "known": labelled})
    visits = rows.join(told).groupby(["patient_id", "visit"], sort=True).max()
    # The running maximum keeps a visit back until all before it are known: none overtakes.
    visits = visits.assign(known=visits.groupby(level="patient_id")["known"].cummax())
    asked = rows.assign(limit=rows[["visit", "known"]].min(axis=1), row=np.arange(len(rows)))
    # A row without a visit number has no place in the order: it finds nothing.
    found = pd.merge_asof(
        asked.loc[visit.notna(), ["patient_id", "limit", "row"]].sort_values("limit"),
        visits.reset_index("patient_id").sort_values("known", kind="stable"),
        left_on="limit",
        right_on="known",
        by="patient_id",
        allow_exact_matches=False,
    ).set_index("row")
    before = found[list(told)].reindex(np.arange(len(studies))).astype(np.float32)
    before = before.fillna({previous_column("visit"): 0.0}).set_axis(studies.index)
    return studies.join(before)
