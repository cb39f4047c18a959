"""What a data set's `read_studies` returns: the table, its labels, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from cxr_lightning.config.schema import DataConfig
from cxr_lightning.labels import LabelSpace

__all__ = ["FlowStep", "Reading", "flow_step"]


@dataclass(frozen=True)
class FlowStep:
    """One step of the flow diagram: what was left out, why, and how many images remain."""

    reason: str
    left_out: int
    images: int
    patients: int


@dataclass(frozen=True)
class Reading:
    """A data set as read from its files.

    Attributes
    ----------
    table
        The study table, not yet split: `split` is "train", "val", "test" or "train_val" where a
        published list says so, and "" where none does. Labels are 1, 0, NaN (unknown) or -1
        (uncertain).
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
    """

    table: pd.DataFrame
    labels: LabelSpace
    flow: tuple[FlowStep, ...] = ()
    notes: tuple[str, ...] = ()
    sources: Mapping[str, DataConfig] = field(default_factory=dict)


def flow_step(reason: str, left_out: int, studies: pd.DataFrame) -> FlowStep:
    """Count what remains after a step."""
    return FlowStep(reason, left_out, len(studies), studies["patient_id"].nunique())
