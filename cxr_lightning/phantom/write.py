"""Write a phantom to disk in the layout of NIH ChestX-ray14, all of it or nothing.

The files are made in a hidden folder beside the target, which takes the target's name only when
they are complete. A lock on that folder makes a second process wait for the first and then use what
it made; the system releases the lock of a process that was killed.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cxr_lightning.errors import ConfigError, DataError, bullet_list
from cxr_lightning.phantom.cases import Case
from cxr_lightning.phantom.cohort import make_cohort
from cxr_lightning.phantom.draw import Drawn, Job, draw, draw_in_parallel
from cxr_lightning.phantom.lock import exclusive_folder
from cxr_lightning.phantom.streams import stream

__all__ = ["GENERATOR_VERSION", "PARAMETERS_FILE", "write_phantom"]

GENERATOR_VERSION = 1
"""Raised whenever the same parameters would give other pixels or tables."""

PARAMETERS_FILE = "phantom.json"

_ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
_BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
_BOX_NAMES = {"Infiltration": "Infiltrate"}
_SPACINGS_MM = (0.139, 0.143, 0.168, 0.171, 0.19431)
_FEW_IMAGES = 48

_README = """\
SYNTHETIC CHEST RADIOGRAPHS - NOT REAL, WITHOUT CLINICAL MEANING

Every picture in this folder was drawn by a computer program from rules and random numbers. No
patient was involved, and no picture was derived from a patient's.

They exist to try software: a computing cluster, a configuration, a change to a program, before real
data are at hand. The findings are caricatures of radiographic signs; how often they occur is
invented. A model trained on these pictures must never be used on people, and no number measured on
them says anything about performance on real radiographs.

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

    The files depend on `images`, `seed` and `size` alone, not on the number of processes; a smaller
    phantom holds the first images of a larger one of the same seed, byte for byte. A folder that
    already holds this phantom is used as it is. Nothing is left under the name `root` unless it is
    complete.

    Parameters
    ----------
    root
        Folder to make; it must be absent, empty, or hold a phantom of the same parameters.
    images
        Number of radiographs, at least 1.
    seed
        Seed of everything that is drawn, at least 0.
    size
        Side of the square pictures in pixels, 32 to 2048.
    processes
        Processes that draw; None for one per processor, at most 16.
    progress
        Whether to count the pictures on standard error.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    DataError
        If `root` holds anything else, or cannot be written.
    """
    root = Path(root).resolve()
    _check_parameters(images=images, seed=seed, size=size, processes=processes)
    wanted = {"images": images, "seed": seed, "size": size, "version": GENERATOR_VERSION}
    if _is_complete(root, wanted):
        return
    try:
        with exclusive_folder(root.parent / f".{root.name}.partial") as folder:
            # While this process waited for the folder, another may have finished the work.
            if _is_complete(root, wanted):
                return
            cases = make_cohort(images, seed)
            (folder / "images").mkdir()
            job = Job(str(folder / "images"), images, seed, size)
            count = min(processes or _processors(), 1 + images // _FEW_IMAGES)
            drawing = draw(job) if count == 1 else draw_in_parallel(job, count)
            drawn = {one.image_index: one for one in _counted(drawing, images, progress)}
            _write_tables(folder, cases, [drawn[case.image_index] for case in cases])
            _write_text(folder / PARAMETERS_FILE, [json.dumps(wanted, indent=2)])
            _publish(folder, root, wanted)
    except OSError as error:
        raise DataError(
            f"The phantom could not be written to {root}: {error.strerror or error}.\n"
            "Choose a folder that can be written, with enough space."
        ) from error


def _publish(folder: Path, root: Path, wanted: dict[str, int]) -> None:
    try:
        folder.rename(root)
    except OSError:
        # Without locks, another process may have been faster; its files are the same.
        if not _is_complete(root, wanted):
            raise


def _check_parameters(*, images: int, seed: int, size: int, processes: int | None) -> None:
    problems = []
    if images < 1:
        problems.append(f"images is {images:,}; it must be at least 1")
    if seed < 0:
        problems.append(f"seed is {seed}; it must be at least 0")
    if not 32 <= size <= 2048:
        problems.append(f"size is {size}; it must be 32 to 2048 pixels")
    if processes is not None and processes < 1:
        problems.append(f"processes is {processes}; it must be at least 1, or None for all")
    if problems:
        raise ConfigError("The phantom cannot be drawn:\n" + bullet_list(problems))


def _is_complete(root: Path, wanted: dict[str, int]) -> bool:
    """Return whether `root` holds the wanted phantom; False if it is absent or empty.

    Raises
    ------
    DataError
        If it holds anything else.
    """
    if not root.exists():
        return False
    if not root.is_dir():
        raise DataError(f"{root} is a file; the phantom needs a folder. Choose another path.")
    names = sorted(path.name for path in root.iterdir())
    if not names:
        return False
    if PARAMETERS_FILE not in names:
        raise DataError(
            f"{root} already holds other files, and they are left alone:\n"
            f"{bullet_list(names, limit=5)}\n"
            "Choose a folder that does not exist yet, or an empty one."
        )
    found = _read_parameters(root / PARAMETERS_FILE)
    if found != wanted:
        raise DataError(
            f"{root} holds another phantom:\n"
            f"  found:  {_describe(found)}\n"
            f"  wanted: {_describe(wanted)}\n"
            "Choose another folder, ask for the one that is there, or delete it first."
        )
    count = sum(1 for path in (root / "images").glob("*.png"))
    missing = [name for name in _TABLES if name not in names]
    if count != wanted["images"] or missing:
        lost = [*missing, f"images: {count:,} of {wanted['images']:,} are there"]
        raise DataError(
            f"The phantom in {root} was complete and has since lost files:\n{bullet_list(lost)}\n"
            "Delete the folder; it is drawn again."
        )
    return True


def _read_parameters(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{path} does not describe a phantom. Choose another folder.")
    return found


def _describe(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return min(16, len(os.sched_getaffinity(0)))
    return min(16, os.cpu_count() or 1)


def _counted(drawing: Iterator[Drawn], images: int, progress: bool) -> Iterator[Drawn]:
    """Pass the images on, and count them on the terminal."""
    if not progress:
        yield from drawing
        return
    live = sys.stderr.isatty()
    sys.stderr.write(f"Drawing {images:,} synthetic radiographs\n")
    step = max(1, images // 100)
    for done, one in enumerate(drawing, start=1):
        if live and (done % step == 0 or done == images):
            end = "\n" if done == images else ""
            sys.stderr.write(f"\r{done:,} of {images:,}{end}")
            sys.stderr.flush()
        yield one


def _write_tables(folder: Path, cases: Sequence[Case], drawn: Sequence[Drawn]) -> None:
    entries = [_entry(case, one.fov_mm) for case, one in zip(cases, drawn, strict=True)]
    _write_csv(folder / "Data_Entry_2017.csv", _ENTRY_HEADER, entries)
    boxes = [
        [one.image_index, _BOX_NAMES.get(name, name), *(f"{number:.12g}" for number in corners)]
        for one in drawn
        for name, *corners in one.boxes
    ]
    _write_csv(folder / "BBox_List_2017.csv", _BOX_HEADER, boxes)
    for name, test in (("train_val_list.txt", False), ("test_list.txt", True)):
        _write_text(folder / name, [case.image_index for case in cases if case.test is test])
    (folder / "README.txt").write_text(_README, encoding="utf-8")


_TABLES = ("BBox_List_2017.csv", "Data_Entry_2017.csv", "test_list.txt", "train_val_list.txt")


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
