"""Which patients a network has seen, so that it can be tested on others: hashes, no names.

Patients are told by data set and id. The hashes are keyed with the fingerprint of the training
data, which the bundle holds too: whoever has both the bundle and a data set can tell which of its
patients took part, as `evaluate` does. Where patient ids are hashes themselves (`data=ehr`,
`data=table`), that leads back to nobody without their own salt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.cohort import Cohort
from cxr_lightning.data.identity import salted
from cxr_lightning.studies import SPLITS

__all__ = ["UNSEEN", "SeenPatients", "seen_patients"]

UNSEEN = "unseen"
"""The split of patients that no part of a training held."""


@dataclass(frozen=True, eq=False)
class SeenPatients:
    """The patients of a training.

    Attributes
    ----------
    salt
        Key of the hashes.
    hashes
        Of each split, int64 of shape (patients,), ascending.
    """

    salt: str
    hashes: Mapping[str, npt.NDArray[np.int64]]

    def split_of(self, studies: pd.DataFrame, config: DataConfig) -> npt.NDArray[np.object_]:
        """Return the split in which training had each row's patient, `unseen` where in none.

        Parameters
        ----------
        studies
            Rows of the study table that `config` describes.
        """
        codes, patients = pd.factorize(_names(studies, config))
        keys = _hashes(patients, self.salt)
        found = np.full(len(patients), UNSEEN, dtype=object)
        for split, hashes in self.hashes.items():
            found[np.isin(keys, hashes)] = split
        return found[codes]


def seen_patients(cohort: Cohort, config: DataConfig) -> SeenPatients:
    """Return what a bundle keeps of a cohort's patients."""
    names = _names(cohort.table, config)
    salt = cohort.fingerprint
    hashes = {
        split: np.sort(_hashes(names[cohort.rows(split)].drop_duplicates(), salt))
        for split in SPLITS
    }
    return SeenPatients(salt, hashes)


def _names(studies: pd.DataFrame, config: DataConfig) -> pd.Series:
    """Return patients by data set and id; those of a mix as in its sources alone."""
    patient = studies["patient_id"].astype(str).reset_index(drop=True)
    origin = pd.Series(config.name, index=patient.index)
    if sources := getattr(config, "sources", ()):
        source = studies["source"].astype(str).reset_index(drop=True)
        origin = source.map(dict(zip(sources, config.kinds, strict=True)))
        patient = pd.Series(
            [name.removeprefix(f"{own}/") for name, own in zip(patient, source, strict=True)]
        )
    made = "phantom:" if config.synthetic else ""
    return made + origin + "\0" + patient


def _hashes(names: pd.Series | pd.Index, salt: str) -> npt.NDArray[np.int64]:
    digests = salted(names, salt.encode(), "seen patient")
    return np.array([int(digest, 16) for digest in digests], np.uint64).view(np.int64)
