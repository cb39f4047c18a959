"""Write a phantom to disk in the layout of NIH ChestX-ray14."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from cxr_lightning.phantom.cases import Case
from cxr_lightning.phantom.draw import Drawn, Shot
from cxr_lightning.phantom.layouts.base import PARAMETERS_FILE, Layout, write_layout
from cxr_lightning.phantom.streams import stream

__all__ = ["GENERATOR_VERSION", "PARAMETERS_FILE", "write_phantom"]

GENERATOR_VERSION = 1
"""Raised whenever the same parameters would give other pixels or tables."""

_ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
_BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
_BOX_NAMES = {"Infiltration": "Infiltrate"}
_SPACINGS_MM = (0.139, 0.143, 0.168, 0.171, 0.19431)

_README = """\
The layout is that of NIH ChestX-ray14 (Wang et al., ChestX-ray8, CVPR 2017):

  images/                8-bit grey PNG, named PATIENT_VISIT.png
  Data_Entry_2017.csv    findings, patient, age, sex, view of each image
  BBox_List_2017.csv     boxes of eight findings, in 1024-pixel space whatever the image size
  train_val_list.txt     images for training and validation
  test_list.txt          images for the test; no patient is on both lists
  phantom.json           the parameters that give exactly these files again
"""


def write_phantom(
    root: Path,
    *,
    images: int,
    seed: int,
    size: int = 256,
    processes: int | None = None,
    progress: bool = True,
) -> None:
    """Write `images` synthetic radiographs and their tables in NIH's layout.

    The parameters and errors are those of
    :func:`~cxr_lightning.phantom.layouts.base.write_layout`.
    """
    write_layout(
        _NIH, root, images=images, seed=seed, size=size, processes=processes, progress=progress
    )


def _shots(cases: Sequence[Case]) -> list[Shot]:
    return [Shot(f"images/{case.image_index}", case) for case in cases]


def _write_tables(folder: Path, shots: Sequence[Shot], drawn: Sequence[Drawn]) -> None:
    cases = [shot.case for shot in shots]
    entries = [_entry(case, one.fov_mm) for case, one in zip(cases, drawn, strict=True)]
    _write_csv(folder / "Data_Entry_2017.csv", _ENTRY_HEADER, entries)
    boxes = [
        [case.image_index, _BOX_NAMES.get(name, name), *(f"{number:.12g}" for number in corners)]
        for case, one in zip(cases, drawn, strict=True)
        for name, *corners in one.boxes
    ]
    _write_csv(folder / "BBox_List_2017.csv", _BOX_HEADER, boxes)
    for name, test in (("train_val_list.txt", False), ("test_list.txt", True)):
        _write_text(folder / name, [case.image_index for case in cases if case.test is test])


def _entry(case: Case, fov_mm: float) -> list[object]:
    generator = stream(case.seed, case.patient, case.visit, "detector type")
    spacing = _SPACINGS_MM[int(generator.integers(len(_SPACINGS_MM)))]
    side = round(fov_mm / spacing)
    findings = "|".join(case.labels) or "No Finding"
    return [
        case.image_index,
        findings,
        case.visit,
        case.patient,
        int(case.age),
        case.sex,
        case.view,
        side,
        side,
        spacing,
        spacing,
    ]


def _write_csv(path: Path, header: str, rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        # NIH's header has brackets with commas inside and is not quoted.
        file.write(header + "\n")
        csv.writer(file, lineterminator="\n").writerows(rows)


def _write_text(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


_NIH = Layout(
    name=None,
    version=GENERATOR_VERSION,
    shots=_shots,
    images="images/*.png",
    tables=("BBox_List_2017.csv", "Data_Entry_2017.csv", "test_list.txt", "train_val_list.txt"),
    write_tables=_write_tables,
    readme=_README,
)
