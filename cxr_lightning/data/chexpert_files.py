"""Where the files of CheXpert are: tables and radiographs, whatever the archive was renamed to.

Known forms of it: `CheXpert-v1.0` and `CheXpert-v1.0-small` (tables and the folders train, valid
and test in one), `CheXpert-v1.0 batch 1 (validate & csv)` with the training patients in three more
such folders, and CheXlocalize's `CheXpert` (val and test, `val_labels.csv`, `test_labels.csv`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxr_lightning.data.columns import bad_cells
from cxr_lightning.errors import ConfigError, DataError, bullet_list

__all__ = ["TABLES", "Archive", "find_archive", "split_paths"]

TABLES: dict[str, tuple[str, ...]] = {
    "valid": ("valid.csv", "val.csv", "val_labels.csv"),
    "test": ("test.csv", "test_labels.csv", "groundtruth.csv", "test_groundtruth.csv"),
}
"""Names of the tables that radiologists labeled; of several in one folder the first is used."""

_FOLDERS = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}
_PATIENT = re.compile(r"patient\d+")
_PATH = re.compile(r"(?:^|/)(?P<patient>patient\d+)/(?P<study>study\d+)(?:/(?P<file>[^/]+))?/?$")


@dataclass(frozen=True)
class Archive:
    """The files of a data set.

    Attributes
    ----------
    tables
        File of each table that is there: train, valid, test.
    searched
        Every folder that was looked in.
    """

    tables: Mapping[str, Path]
    searched: tuple[Path, ...]

    def image_paths(self, split: str, parts: pd.DataFrame) -> list[str]:
        """Return the path of each image of a split.

        One whose patient is nowhere gets a path below the folder of the split's own table, where it
        is reported as missing with all others.

        Parameters
        ----------
        parts
            `patient`, `study` and `file` (see :func:`split_paths`).

        Raises
        ------
        DataError
            Not one of the patients is found: with the folders that were looked in.
        """
        home: dict[str, str] = {}
        candidates = self._image_folders(split)
        for folder in candidates:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("patient"):
                        home.setdefault(entry.name, entry.path)
        patients = parts["patient"].unique()
        if not len(patients):
            raise DataError(f"{self.tables[split]}: it has no rows")
        if not any(patient in home for patient in patients):
            looked = [str(folder) for folder in candidates] or [str(f) for f in self.searched]
            raise DataError(
                f"{self.tables[split]}: none of its {len(patients):,} patients has a folder; "
                f"looked for {patients[0]} and so on in\n{bullet_list(looked)}"
            )
        own = str(self.tables[split].parent / split)
        folders = {patient: home.get(patient, f"{own}/{patient}") for patient in patients}
        text = parts["patient"].map(folders) + "/" + parts["study"] + "/" + parts["file"]
        return text.tolist()

    def _image_folders(self, split: str) -> list[Path]:
        """Return the folders that may hold patients of a split, those of its name first.

        The batches of the training set have patients without a folder `train` around them.
        """
        own = self.tables[split].parent
        near = [own, *(folder for folder in self.searched if folder != own)]
        named = [folder / name for folder in near for name in _FOLDERS[split]]
        others = near if split == "train" else []
        return [folder for folder in (*named, *others) if folder.is_dir()]


def find_archive(root: Path, train_table: str) -> Archive:
    """Find the tables in `root` or up to two folders below it.

    Raises
    ------
    ConfigError
        There is no such folder, or it holds more than one archive.
    DataError
        No table of the training set, with the folders that were looked in.
    """
    if not root.is_dir():
        raise ConfigError(f"data.root={root}: there is no such folder")
    searched = _folders_below(root)
    found = [folder for folder in searched if (folder / train_table).is_file()]
    if not found:
        near = sorted(
            str(file) for folder in searched for file in folder.glob("*.csv") if file.is_file()
        )
        seen = f"\nTables that are there:\n{bullet_list(near, limit=10)}" if near else ""
        raise DataError(
            f"data.root={root}: no {train_table} of CheXpert; looked in\n"
            f"{bullet_list(map(str, searched), limit=10)}{seen}\n"
            "data.root is the folder of the unpacked archive, or one that holds it."
        )
    if len(found) > 1:
        raise ConfigError(
            f"data.root={root}: holds more than one archive of CheXpert; name one of\n"
            f"{bullet_list(map(str, found))}"
        )
    tables = {"train": found[0] / train_table}
    order = [found[0], *(folder for folder in searched if folder != found[0])]
    for split, names in TABLES.items():
        files = [folder / name for folder in order for name in names]
        if file := next((file for file in files if file.is_file()), None):
            tables[split] = file
    return Archive(tables, tuple(searched))


def _folders_below(root: Path) -> list[Path]:
    """Return `root` and the folders up to two levels below it, but none that holds images."""
    levels = [[root]]
    for _ in range(2):
        below = [path for folder in levels[-1] for path in sorted(_subfolders(folder))]
        levels.append(below)
    return [folder for level in levels for folder in level]


def _subfolders(folder: Path) -> list[Path]:
    splits = {name for names in _FOLDERS.values() for name in names}
    try:
        with os.scandir(folder) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if not entry.name.startswith(".")
                and entry.name not in splits
                and not _PATIENT.fullmatch(entry.name)
                and entry.is_dir()
            ]
    except PermissionError:
        return []


def split_paths(text: pd.Series, file: Path) -> pd.DataFrame:
    """Return `patient`, `study` and `file` ("" for a study's path) of each path of a table.

    What stands before the patient, the archive's and the split's folder, does not count.

    Raises
    ------
    DataError
        Every path that names no patient and study, with its line.
    """
    parts = text.str.strip().str.replace("\\", "/", regex=False).str.extract(_PATH)
    wrong = parts["patient"].isna().to_numpy()
    if wrong.any():
        raise DataError(
            f"{file}: no .../patientNNNNN/studyN/... in\n{bad_cells(file, text, wrong)}"
        )
    return parts[["patient", "study", "file"]].fillna("")
