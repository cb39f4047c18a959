"""A phantom in the layout of MIMIC-CXR-JPG: two labelers, split, metadata, dates, laterals."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path

from cxr_lightning.phantom.cases import Case
from cxr_lightning.phantom.draw import Drawn, Shot
from cxr_lightning.phantom.layouts.base import Layout, write_layout
from cxr_lightning.phantom.layouts.report_labels import (
    LABELS,
    has_lateral,
    held_out,
    inpatients,
    report,
)
from cxr_lightning.phantom.streams import stream

__all__ = ["write_mimic_phantom"]

_PREFIX = "mimic-cxr-2.0.0-"
_PRIME = 9_999_991
_DAYS_A_YEAR = 365.25
_SPACING_MM = 0.143
_LABELERS = ("chexpert", "negbio")
_METADATA = (
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
)
_README = """\
The layout is that of MIMIC-CXR-JPG (Johnson et al., arXiv:1901.07042):

  files/pNN/pSUBJECT/sSTUDY/DICOM.jpg
  mimic-cxr-2.0.0-chexpert.csv.gz  labels of each study from its report, by one labeler
  mimic-cxr-2.0.0-negbio.csv.gz    and by another
  mimic-cxr-2.0.0-split.csv.gz     train, validate or test
  mimic-cxr-2.0.0-metadata.csv.gz  view position, date and time
  patients.csv.gz                  sex and age, as in MIMIC-IV
  phantom.json                     the parameters that give exactly these files again
"""


def write_mimic_phantom(
    root: Path,
    *,
    images: int,
    seed: int,
    size: int = 256,
    processes: int | None = None,
    progress: bool = True,
) -> None:
    """Write `images` synthetic radiographs, laterals among them, in the layout of MIMIC-CXR-JPG.

    One patient of five is in the test set, and one of eight others in the validation set. The
    parameters and errors are those of :func:`~cxr_lightning.phantom.layouts.base.write_layout`.
    """
    write_layout(
        _MIMIC, root, images=images, seed=seed, size=size, processes=processes, progress=progress
    )


def _subject(case: Case) -> int:
    """Return a number of eight digits, another for every patient."""
    return 10_000_000 + case.patient * 7_919_777 % _PRIME


def _study(case: Case) -> int:
    return 50_000_000 + (case.patient * 8 + case.visit) * 6_700_417 % _PRIME


def _shots(cases: Sequence[Case]) -> list[Shot]:
    shots = []
    for case in inpatients(cases):
        subject = str(_subject(case))
        folder = f"files/p{subject[:2]}/p{subject}/s{_study(case)}"
        for lateral in (False, True)[: 1 + has_lateral(case)]:
            words = stream(case.seed, case.patient, case.visit, "image name", lateral)
            name = "-".join(f"{word:08x}" for word in words.integers(2**32, size=5))
            shots.append(Shot(f"{folder}/{name}.jpg", case, lateral))
    return shots


def _write_tables(folder: Path, shots: Sequence[Shot], drawn: Sequence[Drawn]) -> None:
    studies = {
        _study(shot.case): (shot.case, one.devices)
        for shot, one in zip(shots, drawn, strict=True)
        if not shot.lateral
    }
    for labeler in _LABELERS:
        rows = [
            [_subject(case), study, *_cells(report(case, devices, labeler=labeler).values())]
            for study, (case, devices) in studies.items()
        ]
        header = ("subject_id", "study_id", *LABELS)
        _write(folder / f"{_PREFIX}{labeler}.csv.gz", header, rows)
    validation = held_out([shot.case for shot in shots])
    split = [
        [Path(shot.path).stem, _study(shot.case), _subject(shot.case), _split(shot, validation)]
        for shot in shots
    ]
    _write(
        folder / f"{_PREFIX}split.csv.gz", ("dicom_id", "study_id", "subject_id", "split"), split
    )
    first: dict[int, Case] = {}
    for shot in shots:
        first.setdefault(shot.case.patient, shot.case)
    metadata = [
        _metadata(shot, first[shot.case.patient], one.fov_mm)
        for shot, one in zip(shots, drawn, strict=True)
    ]
    _write(folder / f"{_PREFIX}metadata.csv.gz", _METADATA, metadata)
    people = [
        [_subject(case), case.sex, int(case.age), _first_day(case).year] for case in first.values()
    ]
    header = ("subject_id", "gender", "anchor_age", "anchor_year")
    _write(folder / "patients.csv.gz", header, people)


def _split(shot: Shot, validation: frozenset[int]) -> str:
    if shot.case.test:
        return "test"
    return "validate" if shot.case.patient in validation else "train"


def _first_day(case: Case) -> date:
    """Return the patient's invented first day, in MIMIC's future."""
    generator = stream(case.seed, case.patient, None, "first day")
    return date(2110, 1, 1) + timedelta(days=int(generator.integers(90 * 365)))


def _metadata(shot: Shot, first: Case, fov_mm: float) -> list[object]:
    case = shot.case
    # A day more for every visit, so that no two are on the same.
    days = round((case.age - first.age) * _DAYS_A_YEAR) + case.visit
    day = _first_day(case) + timedelta(days=days)
    clock = int(stream(case.seed, case.patient, case.visit, "clock").integers(86_400))
    time = f"{clock // 3600:02d}{clock // 60 % 60:02d}{clock % 60:02d}.{case.patient % 1000:03d}"
    # A view is missing now and then, as in the real table (4 % of it).
    unnamed = stream(case.seed, case.patient, case.visit, "unnamed", shot.lateral).random() < 0.04
    view = "" if unnamed else "LATERAL" if shot.lateral else case.view
    step = "CHEST (PORTABLE AP)" if case.view == "AP" else "CHEST (PA AND LAT)"
    side = round(fov_mm / _SPACING_MM)
    ids: list[object] = [Path(shot.path).stem, _subject(case), _study(case)]
    return [*ids, step, view, side, side, f"{day:%Y%m%d}", time]


def _cells(values: Iterable[int | None]) -> list[str]:
    return ["" if value is None else f"{value:.1f}" for value in values]


def _write(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    # Without a time of its own, so that the same tables are the same bytes.
    file.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


_MIMIC = Layout(
    name="mimic_cxr",
    version=1,
    shots=_shots,
    images="files/p*/p*/s*/*.jpg",
    tables=(
        *(f"{_PREFIX}{table}.csv.gz" for table in (*_LABELERS, "split", "metadata")),
        "patients.csv.gz",
    ),
    write_tables=_write_tables,
    readme=_README,
)
