"""Labels of the same patient's previous visit: an input that exists before the radiograph."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cxr_lightning.errors import ConfigError
from cxr_lightning.labels import LabelSpace

__all__ = ["PREVIOUS", "previous_column", "with_previous_labels"]

PREVIOUS = "previous_labels"
"""The name under which `data.tabular` asks for them."""


def previous_column(label: str) -> str:
    """Return the study table's column for a label's value at the previous visit."""
    return f"previous/{label}"


def with_previous_labels(studies: pd.DataFrame, labels: LabelSpace) -> pd.DataFrame:
    """Return the table with a column per label, and `previous/visit`, of the visit before.

    The order of visits is that of the column `visit` (any increasing number, e.g. days). The
    previous visit is the last one of the same patient with a *smaller* number: images of one visit
    do not see each other's labels, and nothing comes from a later one. A label of a visit is 1 if
    any of its images has it, 0 if some have 0 and none 1, else unknown (uncertain counts as
    unknown).

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
    values = studies[["patient_id", "visit", *labels.names]].copy()
    names = list(labels.names)
    values[names] = values[names].where(values[names] != -1)
    visits = values.groupby(["patient_id", "visit"], sort=True)[names].max()
    before = visits.groupby(level="patient_id").shift(1)
    first = ~visits.index.get_level_values("patient_id").duplicated()
    before["visit"] = np.where(first, 0.0, 1.0)
    before = before.astype(np.float32).add_prefix("previous/")
    # A row without a visit number has no place in the order: the join leaves it empty.
    joined = studies.join(before, on=["patient_id", "visit"])
    return joined.assign(**{"previous/visit": joined["previous/visit"].fillna(0.0)})
