"""Where the files of MIMIC-CXR-JPG are: the tables, and `files/p10/p10000032/s50414267/ID.jpg`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxr_lightning.errors import ConfigError, DataError, bullet_list

__all__ = ["RADIOLOGIST", "Release", "find_release"]

RADIOLOGIST = "test-set-labeled"
"""Kind of the table that a radiologist labeled."""

_DEPTH = 4
"""A download by wget lies in physionet.org/files/mimic-cxr-jpg/2.1.0."""

_OF_IMAGES = re.compile(r"[ps]\d+")


@dataclass(frozen=True)
class Release:
    """The files of a data set: its folder, and the tables found in it by kind."""

    folder: Path
    tables: Mapping[str, Path]

    def table(self, kind: str) -> Path:
        """Return the table of a kind: chexpert, negbio, split or metadata.

        Raises
        ------
        DataError
            It is not there.
        """
        if kind not in self.tables:
            name = f"2.1.0-{kind}.csv" if kind == RADIOLOGIST else f"2.0.0-{kind}.csv.gz"
            release = " since release 2.1.0" if kind == RADIOLOGIST else ""
            raise DataError(
                f"{self.folder}: no mimic-cxr-{name} (packed or unpacked); it is part of "
                f"MIMIC-CXR-JPG{release}"
            )
        return self.tables[kind]

    def image_paths(self, images: pd.DataFrame) -> pd.Series:
        """Return the path of each image, from `patient_id`, `study_id` and `sample_id`.

        Raises
        ------
        DataError
            There is no folder of images.
        """
        places = [self.folder / "files", self.folder]
        base = next((place for place in places if any(place.glob("p[0-9][0-9]/"))), None)
        if base is None:
            raise DataError(
                f"{self.folder}: no images; looked for the folders p10, p11 and so on in\n"
                f"{bullet_list(map(str, places))}"
            )
        patient = images["patient_id"]
        return (
            f"{base}/p" + patient.str[:2] + "/p" + patient + "/s" + images["study_id"] + "/"
            + images["sample_id"] + ".jpg"
        )  # fmt: skip


def find_release(root: Path, kind: str) -> Release:
    """Find the folder that holds the table of a kind: `root`, or one up to four levels below it.

    Raises
    ------
    ConfigError
        There is no such folder.
    DataError
        The table is nowhere, with the folders that were looked in.
    """
    if not root.is_dir():
        raise ConfigError(f"data.root={root}: there is no such folder")
    level, searched = [root], []
    for _ in range(_DEPTH + 1):
        for folder in level:
            tables = _tables(folder)
            if kind in tables:
                return Release(folder, tables)
        searched += level
        level = [below for folder in level for below in sorted(_subfolders(folder))]
    raise DataError(
        f"data.root={root}: no mimic-cxr-2.0.0-{kind}.csv.gz (also unpacked); looked in\n"
        f"{bullet_list(map(str, searched), limit=10)}\n"
        "data.root is the folder of MIMIC-CXR-JPG's tables and files/, or one above it."
    )


def _tables(folder: Path) -> dict[str, Path]:
    found = {}
    for file in sorted(folder.glob("mimic-cxr-*.csv*")):
        if match := re.fullmatch(r"mimic-cxr-[\d.]+-([a-z-]+)\.csv(?:\.gz)?", file.name):
            found[match[1]] = file
    return found


def _subfolders(folder: Path) -> Sequence[Path]:
    try:
        with os.scandir(folder) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if not entry.name.startswith(".")
                and not _OF_IMAGES.fullmatch(entry.name)
                and entry.is_dir()
            ]
    except PermissionError:
        return []
