"""What all layouts share: a folder of synthetic radiographs and tables, complete or not there.

The files are made in a hidden folder beside the target, which takes the target's name only when
they are complete. A lock on that folder makes a second process wait for the first and then use what
it made; the system releases the lock of a process that was killed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr_lightning.errors import ConfigError, DataError, bullet_list
from cxr_lightning.phantom.cases import Case
from cxr_lightning.phantom.cohort import make_cohort
from cxr_lightning.phantom.draw import Drawn, Job, Shot, draw, draw_in_parallel
from cxr_lightning.phantom.lock import exclusive_folder

__all__ = ["DISCLAIMER", "PARAMETERS_FILE", "Layout", "write_layout"]

PARAMETERS_FILE = "phantom.json"

DISCLAIMER = """\
SYNTHETIC CHEST RADIOGRAPHS - NOT REAL, WITHOUT CLINICAL MEANING

Every picture in this folder was drawn by a computer program from rules and random numbers. No
patient was involved, and no picture was derived from a patient's.

They exist to try software: a computing cluster, a configuration, a change to a program, before real
data are at hand. The findings are caricatures of radiographic signs; how often they occur is
invented. A model trained on these pictures must never be used on people, and no number measured on
them says anything about performance on real radiographs.
"""

_FEW_IMAGES = 48


@dataclass(frozen=True)
class Layout:
    """Where a data set keeps its radiographs and tables.

    Attributes
    ----------
    name
        Kept in `phantom.json`, so that two layouts are never taken for one another; None: NIH's,
        the first, which keeps none.
    version
        Raised whenever the same parameters would give other pixels or tables.
    shots
        From cases to the radiographs taken of them, in the order of the cases, each one the same
        whatever cases follow; the first so many as are asked for are drawn.
    images
        Glob pattern that finds every radiograph and nothing else.
    tables
        Files that a complete folder has, relative to it.
    write_tables
        Writes them into a folder, given the shots and what is known of each after drawing.
    readme
        Description of the files, written below the disclaimer.
    """

    name: str | None
    version: int
    shots: Callable[[Sequence[Case]], list[Shot]]
    images: str
    tables: tuple[str, ...]
    write_tables: Callable[[Path, Sequence[Shot], Sequence[Drawn]], None]
    readme: str


def write_layout(
    layout: Layout,
    root: Path,
    *,
    images: int,
    seed: int,
    size: int = 256,
    processes: int | None = None,
    progress: bool = True,
) -> None:
    """Write `images` synthetic radiographs and their tables in a layout.

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
    wanted: dict[str, Any] = {} if layout.name is None else {"layout": layout.name}
    wanted |= {"images": images, "seed": seed, "size": size, "version": layout.version}
    if _is_complete(layout, root, wanted):
        return
    try:
        with exclusive_folder(root.parent / f".{root.name}.partial") as folder:
            # While this process waited for the folder, another may have finished the work.
            if _is_complete(layout, root, wanted):
                return
            shots = _first_shots(layout, images, seed)
            job = Job(str(folder), size, tuple(shots))
            count = min(processes or _processors(), 1 + images // _FEW_IMAGES)
            drawing = draw(job) if count == 1 else draw_in_parallel(job, count)
            drawn = {one.path: one for one in _counted(drawing, images, progress)}
            layout.write_tables(folder, shots, [drawn[shot.path] for shot in shots])
            (folder / "README.txt").write_text(f"{DISCLAIMER}\n{layout.readme}", encoding="utf-8")
            parameters = json.dumps(wanted, indent=2) + "\n"
            (folder / PARAMETERS_FILE).write_text(parameters, encoding="utf-8")
            _publish(layout, folder, root, wanted)
    except OSError as error:
        raise DataError(
            f"The phantom could not be written to {root}: {error.strerror or error}.\n"
            "Choose a folder that can be written, with enough space."
        ) from error


def _first_shots(layout: Layout, images: int, seed: int) -> list[Shot]:
    """Return so many shots, of as many cases as that takes: a layout may leave cases out."""
    cases = images
    while len(shots := layout.shots(make_cohort(cases, seed))) < images:
        cases *= 2
    return shots[:images]


def _publish(layout: Layout, folder: Path, root: Path, wanted: dict[str, Any]) -> None:
    try:
        folder.rename(root)
    except OSError:
        # Without locks, another process may have been faster; its files are the same.
        if not _is_complete(layout, root, wanted):
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


def _is_complete(layout: Layout, root: Path, wanted: dict[str, Any]) -> bool:
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
    count = sum(1 for _ in root.glob(layout.images))
    missing = [name for name in layout.tables if not (root / name).is_file()]
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
