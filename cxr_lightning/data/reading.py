"""What a data set's `read_studies` returns: the table, its labels, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.config.schema import DataConfig
from cxr_lightning.labels import LabelSpace

__all__ = ["STRATUM", "FlowStep", "Reading", "flow_step", "strata"]

STRATUM = "stratum/"
"""What the columns' names begin with over which a new split is stratified."""


@dataclass(frozen=True)
class FlowStep:
    """One step of the flow diagram: what was left out, why, and how many images remain.

    `bad` are files that are left out with data.on_bad_image=skip only.
    """

    reason: str
    left_out: int
    images: int
    patients: int
    bad: bool = False


@dataclass(frozen=True)
class Reading:
    """A data set as read from its files.

    Attributes
    ----------
    table
        The study table, not yet split: `split` is "train", "val", "test" or "train_val" where a
        published list says so, and "" where none does. Labels are 1, 0, NaN (unknown) or -1
        (uncertain). Columns `stratum/LABEL` hold every label that the data set tells, 1 where it is
        positive, whichever were chosen: a new split is stratified over them and rids the table of
        them, so that runs with other labels have the same patients in each part. Without any it is
        stratified over the chosen labels.
    labels
        The chosen labels, in the order of the network's outputs.
    flow
        What reading itself left out, step by step, beginning with "in the data set"; empty where it
        keeps everything.
    notes
        How the files were understood, a sentence each: what one would check before training.
    sources
        Of a mix, the configuration of each value of the column `source`, with its uncertainty
        policies by the labels of the mix; empty where the data set is one.
    crossing
        Where the files themselves put patients into more than one split, a sentence; or "". Nothing
        is trained on such a table; `prepare` reports it.
    """

    table: pd.DataFrame
    labels: LabelSpace
    flow: tuple[FlowStep, ...] = ()
    notes: tuple[str, ...] = ()
    sources: Mapping[str, DataConfig] = field(default_factory=dict)
    crossing: str = ""


def strata(labels: Mapping[str, npt.NDArray[np.generic]]) -> dict[str, npt.NDArray[np.float32]]:
    """Return labels, arrays of shape (rows,), as columns that a split is stratified over."""
    return {STRATUM + name: (values == 1).astype(np.float32) for name, values in labels.items()}


def flow_step(reason: str, left_out: int, studies: pd.DataFrame, *, bad: bool = False) -> FlowStep:
    """Count what remains after a step."""
    return FlowStep(reason, left_out, len(studies), studies["patient_id"].nunique(), bad)
