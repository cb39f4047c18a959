"""Patients that a network has not seen: found for a test, and told of where they were seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from cxr_lightning.assessment.models import Target
from cxr_lightning.data.seen import UNSEEN
from cxr_lightning.errors import ConfigError, DataError

__all__ = ["told_of_seen", "unseen_by_all"]


def unseen_by_all(targets: Mapping[str, Target]) -> dict[str, Target]:
    """Return the targets as they are for split=unseen: of every bundle the same patients.

    The unseen patients are those of no bundle's training, and validation is what was validation in
    all of them, whatever part the split of the data given here puts it in.

    Raises
    ------
    ConfigError, DataError
        A bundle does not tell its patients, or not these; no other patients are there.
    """
    if silent := [f"{name}: {target.untold}" for name, target in targets.items() if target.untold]:
        raise ConfigError("\n".join(f"split=unseen: {one}" for one in silent))
    part = _common_part(targets)
    if not (part == UNSEEN).any():
        name = next(iter(targets.values())).config.name
        raise DataError(
            f"split=unseen: all patients of data={name} took part in the training: as training, "
            "validation or test patients. split=test scores the latter."
        )
    found = {}
    for name, target in targets.items():
        split = target.cohort.table["patient_id"].map(part)
        cohort = replace(target.cohort, table=target.cohort.table.assign(split=split))
        found[name] = replace(target, cohort=cohort)
    return found


def _common_part(targets: Mapping[str, Target]) -> pd.Series:
    """Return the part of each patient for all models: unseen, val and test where all agree."""
    told = pd.concat(
        [one.cohort.table[["patient_id"]].assign(part=one.seen) for one in targets.values()]
    ).drop_duplicates()
    parts = told.groupby("patient_id")["part"]
    return parts.first().where(parts.nunique() == 1, "train")


def told_of_seen(target: Target, split: str) -> str:
    """Return what a reader must know of patients that were trained on; empty: nothing.

    A test part that is cut otherwise than in training, or lies in a mix that was trained on, may
    hold them.
    """
    if target.seen is None:
        return ""
    rows = target.rows(split)
    part, patients = target.seen[rows], target.cohort.table["patient_id"].iloc[rows]
    trained, validated = (patients[part == name].nunique() for name in ("train", "val"))
    if not trained + validated:
        return ""
    return (
        f"Of these {patients.nunique():,} patients the network was trained on {trained:,}, and its "
        f"thresholds and calibration were fitted on {validated:,}: the numbers are optimistic. "
        "Give the data.* words of its training here too, or evaluate split=unseen."
    )
