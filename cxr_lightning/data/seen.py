"""Which patients a network has seen, so that it can be tested on others: hashes, no names.

Patients are told by data set and id. The hashes are keyed with the fingerprint of the training
data, which is in the bundle too: whoever has the bundle can ask of any id whether it took part, and
can ask all ids there are where these are short or public (`nih`, `chexpert`, `mimic_cxr`). Where
ids are hashes themselves (`ehr`, `table`), that leads back to nobody without the salt; of a table
with `data.ids=plain` nothing is kept.

Ids that are hashes are the same under the same salt only: a tag of it tells whether it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.cohort import Cohort
from cxr_lightning.data.identity import read_salt, salted
from cxr_lightning.studies import SPLITS

__all__ = ["UNSEEN", "SeenPatients", "seen_patients", "why_untold"]

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
    ids
        How the ids of each data set were hashed before: its name and a tag of the salt.
    """

    salt: str
    hashes: Mapping[str, npt.NDArray[np.int64]]
    ids: tuple[str, ...] = ()

    def split_of(self, studies: pd.DataFrame, config: DataConfig) -> npt.NDArray[np.object_]:
        """Return the split in which training had each row's patient, `unseen` where in none.

        Parameters
        ----------
        studies
            Rows of the study table that `config` describes; see :func:`why_untold` first.
        """
        codes, patients = pd.factorize(_names(studies, config))
        keys = _hashes(patients, self.salt)
        found = np.full(len(patients), UNSEEN, dtype=object)
        for split, hashes in self.hashes.items():
            found[np.isin(keys, hashes)] = split
        return found[codes]


def seen_patients(cohort: Cohort, config: DataConfig) -> SeenPatients | None:
    """Return what a bundle keeps of a cohort's patients; None: ids as written are not for it."""
    ids = _ids(config)
    if any(one.endswith(_PLAIN) for one in ids):
        return None
    names = _names(cohort.table, config)
    salt = cohort.fingerprint
    hashes = {
        split: np.sort(_hashes(names[cohort.rows(split)].drop_duplicates(), salt))
        for split in SPLITS
    }
    return SeenPatients(salt, hashes, ids)


def why_untold(seen: SeenPatients | None, config: DataConfig) -> str:
    """Return why it cannot be told which patients of a data set were seen; empty: it can."""
    if seen is None:
        return (
            "bundles of format 1, and those trained on a table with data.ids=plain, do not tell "
            "the patients of their training"
        )
    known = {one.split("\0")[0] for one in seen.ids}
    if all(one in seen.ids for one in _ids(config) if one.split("\0")[0] in known):
        return ""
    return (
        "the ids of these patients are hashed with another salt than in its training, so that none "
        "is found again; give the salt of the training by data.salt_file (and data.ids as there)"
    )


_PLAIN = "\0plain"


def _origins(config: DataConfig) -> dict[str, tuple[str, DataConfig]]:
    """Return the data set that each source of a mix is, by name; one alone is its own source."""
    parts: Mapping[str, DataConfig] = getattr(config, "parts", {"": config})
    made = str(config.root) == "phantom"
    return {
        name: (("phantom:" if made or part.synthetic else "") + part.name, part)
        for name, part in parts.items()
    }


def _ids(config: DataConfig) -> tuple[str, ...]:
    """Return how ids are hashed, of each data set that hashes them or could."""
    found = set()
    for origin, part in _origins(config).values():
        if getattr(part, "ids", "hashed") == "plain":
            found.add(origin + _PLAIN)
        elif hasattr(part, "salt_file"):
            found.add(origin + "\0" + salted(["salt"], read_salt(part.salt_file), "check")[0])
    return tuple(sorted(found))


def _names(studies: pd.DataFrame, config: DataConfig) -> pd.Series:
    """Return patients by data set and id; those of a mix as in its sources alone."""
    origins = {name: origin for name, (origin, _) in _origins(config).items()}
    patient = studies["patient_id"].astype(str).reset_index(drop=True)
    if "" in origins:
        return origins[""] + "\0" + patient
    source = studies["source"].astype(str).reset_index(drop=True)
    own = [name.removeprefix(f"{of}/") for name, of in zip(patient, source, strict=True)]
    return source.map(origins) + "\0" + pd.Series(own)


def _hashes(names: pd.Series | pd.Index, salt: str) -> npt.NDArray[np.int64]:
    digests = salted(names, salt.encode(), "seen patient")
    return np.array([int(digest, 16) for digest in digests], np.uint64).view(np.int64)
