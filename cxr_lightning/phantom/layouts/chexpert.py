"""A phantom in the layout of CheXpert: laterals, uncertain and unmentioned labels, three tables."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from cxr_lightning.phantom.cases import Case
from cxr_lightning.phantom.draw import Drawn, Shot
from cxr_lightning.phantom.layouts.base import Layout, write_layout
from cxr_lightning.phantom.layouts.report_labels import (
    LABELS,
    has_lateral,
    held_out,
    inpatients,
    read_by_radiologist,
    report,
)

__all__ = ["ARCHIVE", "write_chexpert_phantom"]

ARCHIVE = "CheXpert-v1.0-phantom"
"""The archive's own folder, with which every path of its tables begins."""

_SPLITS = ("train", "valid", "test")
_README = f"""\
The layout is that of CheXpert (Irvin et al., AAAI 2019):

  {ARCHIVE}/
    train.csv     labels as from reports: 1, 0, -1 (uncertain), blank (not mentioned)
    valid.csv     labels as from radiologists: 1 and 0
    test.csv      as valid.csv, without age, sex and view
    train, valid, test/patientXXXXX/studyN/viewN_frontal.jpg or viewN_lateral.jpg
  phantom.json    the parameters that give exactly these files again
"""


def write_chexpert_phantom(
    root: Path,
    *,
    images: int,
    seed: int,
    size: int = 256,
    processes: int | None = None,
    progress: bool = True,
) -> None:
    """Write `images` synthetic radiographs, laterals among them, in CheXpert's layout.

    One patient of five is in the test set, and one of eight others in the validation set. The
    parameters and errors are those of :func:`~cxr_lightning.phantom.layouts.base.write_layout`.
    """
    write_layout(
        _CHEXPERT, root, images=images, seed=seed, size=size, processes=processes, progress=progress
    )


def _shots(cases: Sequence[Case]) -> list[Shot]:
    kept = inpatients(cases)
    validation = held_out(kept)
    shots = []
    for case in kept:
        split = "test" if case.test else "valid" if case.patient in validation else "train"
        study = f"{ARCHIVE}/{split}/patient{case.patient:05d}/study{case.visit + 1}"
        shots.append(Shot(f"{study}/view1_frontal.jpg", case))
        if has_lateral(case):
            shots.append(Shot(f"{study}/view2_lateral.jpg", case, lateral=True))
    return shots


def _write_tables(folder: Path, shots: Sequence[Shot], drawn: Sequence[Drawn]) -> None:
    # Labels are the study's: what lies in its frontal picture holds for the lateral too.
    devices = {
        (shot.case.patient, shot.case.visit): one.devices
        for shot, one in zip(shots, drawn, strict=True)
        if not shot.lateral
    }
    rows: dict[str, list[list[object]]] = {split: [] for split in _SPLITS}
    for shot in shots:
        case, split = shot.case, shot.path.split("/")[1]
        labeled = report if split == "train" else read_by_radiologist
        values = labeled(case, devices[case.patient, case.visit]).values()
        labels = ["" if value is None else f"{value:.1f}" for value in values]
        rows[split].append([shot.path, *_person(shot, split), *labels])
    for split in _SPLITS:
        person = [] if split == "test" else ["Sex", "Age", "Frontal/Lateral", "AP/PA"]
        with (folder / ARCHIVE / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([["Path", *person, *LABELS], *rows[split]])


def _person(shot: Shot, split: str) -> list[object]:
    if split == "test":
        return []
    case = shot.case
    sex = {"F": "Female", "M": "Male"}[case.sex]
    return [
        sex,
        min(90, int(case.age)),
        "Lateral" if shot.lateral else "Frontal",
        "" if shot.lateral else case.view,
    ]


_CHEXPERT = Layout(
    name="chexpert",
    version=1,
    shots=_shots,
    images=f"{ARCHIVE}/*/patient*/study*/*.jpg",
    tables=tuple(f"{ARCHIVE}/{split}.csv" for split in _SPLITS),
    write_tables=_write_tables,
    readme=_README,
)
