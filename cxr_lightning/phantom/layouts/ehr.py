"""A phantom of a hospital: DICOM files, a table of their quality, echocardiograms, ECGs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr_lightning.phantom.cases import Case
from cxr_lightning.phantom.dicom_files import ENCODINGS, make_uid, write_dicom
from cxr_lightning.phantom.draw import Drawn, Shot
from cxr_lightning.phantom.heart import heart_severities, with_heart_disease
from cxr_lightning.phantom.layouts.base import Layout, write_layout
from cxr_lightning.phantom.layouts.echo import echo_rows, examination_rows
from cxr_lightning.phantom.streams import stream

__all__ = ["VERSION", "write_ehr_phantom"]

VERSION = 2
"""Raised whenever the same parameters would give other files."""

_README = """\
The layout is that of a hospital's export:

  radiographs/**/*.dcm  DICOM of several transfer syntaxes, bits, windows; some are laterals, of
                        another modality or body part, or lack tags
  images.csv            their quality as a technician noted it
  echo.csv              echocardiograms: ejection fraction, grades of the valves, in several words
  examinations.csv      width of the QRS complex and BNP, before and after the radiographs
  phantom.json          the parameters that give exactly these files again
"""

_LATERAL, _POOR, _ODD = 0.06, 0.03, 0.04
_FIRST_DAY = date(2012, 1, 1)


def write_ehr_phantom(
    root: Path,
    *,
    images: int,
    seed: int,
    size: int = 256,
    processes: int | None = None,
    progress: bool = True,
) -> None:
    """Write `images` synthetic radiographs as DICOM, with the tables of their patients.

    The parameters and errors are those of
    :func:`~cxr_lightning.phantom.layouts.base.write_layout`.
    """
    write_layout(
        _EHR, root, images=images, seed=seed, size=size, processes=processes, progress=progress
    )


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a radiograph is besides its picture."""

    shot: Shot
    day: date
    poor: bool
    odd: str


def _shots(cases: Sequence[Case]) -> list[Shot]:
    shots = []
    for case in cases:
        ill = with_heart_disease(case, heart_severities(case.seed, case.patient, case.visit))
        folder = f"radiographs/{case.patient // 100:04d}"
        name = f"{folder}/{case.patient:06d}{case.visit:02d}"
        shots.append(Shot(f"{name}.png", ill))
        if _chance(case, "lateral") < _LATERAL:
            shots.append(Shot(f"{name}L.png", case, lateral=True))
    return shots


def _write_tables(folder: Path, shots: Sequence[Shot], drawn: Sequence[Drawn]) -> None:
    days = _days([shot.case for shot in shots])
    rows = []
    for number, shot in enumerate(shots):
        case = shot.case
        poor = not shot.lateral and _chance(case, "quality") < _POOR
        odd = _odd(case) if not shot.lateral else ""
        taken = _Taken(shot, days[case.patient, case.visit], poor, odd)
        _write_radiograph(folder, taken, number)
        rows.append([shot.path.replace(".png", ".dcm"), "poor" if poor else "good"])
    _write_csv(folder / "images.csv", ("file", "quality"), rows)
    firsts = {shot.case.patient: shot.case for shot in reversed(shots)}
    patients = [firsts[patient] for patient in sorted(firsts)]
    echo, examinations = [], []
    for case in patients:
        visits = sorted((visit, day) for (one, visit), day in days.items() if one == case.patient)
        echo += echo_rows(case, visits)
        examinations += examination_rows(case, visits)
    _write_csv(folder / "echo.csv", list(echo[0]) if echo else ["patient_id", "date"], echo)
    _write_csv(folder / "examinations.csv", list(examinations[0]), examinations)


def _write_radiograph(folder: Path, taken: _Taken, number: int) -> None:
    case, drawing = taken.shot.case, folder / taken.shot.path
    grey = np.asarray(cv2.imread(str(drawing), cv2.IMREAD_GRAYSCALE), np.uint8)
    drawing.unlink()
    if taken.poor:
        grey = _spoilt(case, grey)
    missing = _chance(case, "tags")
    view: str | None = "LL" if taken.shot.lateral else case.view
    tags: dict[str, object] = {
        "SOPInstanceUID": make_uid(case.seed, case.patient, case.visit, taken.shot.lateral),
        "StudyInstanceUID": make_uid(case.seed, case.patient, case.visit),
        "PatientID": f"{case.patient:06d}",
        "PatientName": f"Phantom^{case.patient}",
        "PatientSex": case.sex,
        "PatientAge": f"{int(case.age):03d}Y",
        "StudyDate": f"{taken.day:%Y%m%d}",
        "Modality": "CT" if taken.odd == "modality" else ("CR" if number % 4 == 0 else "DX"),
        "BodyPartExamined": "ABDOMEN" if taken.odd == "body part" else "CHEST",
        "ViewPosition": view,
        "PresentationIntentType": "FOR PRESENTATION",
        "ImagerPixelSpacing": [0.15, 0.15],
    }
    if missing < 0.06:
        tags["BodyPartExamined"] = None
    elif missing < 0.12:
        tags["ViewPosition"] = None
    elif missing < 0.14 and not taken.shot.lateral:
        tags["ViewPosition"] = "XX"
    if taken.odd == "test object":
        tags["QualityControlImage"] = "YES"
    write_dicom(
        (folder / taken.shot.path).with_suffix(".dcm"),
        grey,
        ENCODINGS[number % len(ENCODINGS)],
        tags,
    )


def _days(cases: Sequence[Case]) -> dict[tuple[int, int], date]:
    """Return the day of each patient's visit: as far apart as the ages at them are."""
    firsts = {case.patient: case.age for case in reversed(cases)}
    days = {}
    for case in cases:
        start = int(stream(case.seed, case.patient, None, "first day").integers(3000))
        later = round((case.age - firsts[case.patient]) * 365.25) + 2 * case.visit
        days[case.patient, case.visit] = _FIRST_DAY + timedelta(days=start + later)
    return days


def _odd(case: Case) -> str:
    chance = _chance(case, "odd")
    kinds = ("modality", "body part", "test object")
    return kinds[int(chance / _ODD * len(kinds))] if chance < _ODD else ""


def _spoilt(case: Case, grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture with too little dose, taken of a patient who moved."""
    moved = cv2.blur(grey, (1, max(3, grey.shape[0] // 16)))
    generator = stream(case.seed, case.patient, case.visit, "spoilt")
    noisy = 0.5 * moved + generator.normal(0, 22, grey.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _chance(case: Case, purpose: str) -> float:
    return float(stream(case.seed, case.patient, case.visit, f"ehr {purpose}").random())


def _write_csv(
    file: Path, header: Sequence[str], rows: Sequence[Sequence[object] | dict[str, object]]
) -> None:
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(list(row.values()) if isinstance(row, dict) else row for row in rows)


_EHR = Layout(
    name="ehr",
    version=VERSION,
    shots=_shots,
    images="radiographs/**/*.dcm",
    tables=("images.csv", "echo.csv", "examinations.csv"),
    write_tables=_write_tables,
    readme=_README,
)
