"""Draw radiographs into a folder, by one process or by several.

The processes are plain children (:mod:`cxr_lightning.phantom.worker`) that are given a job as JSON
and answer with a line per image. They need no `if __name__ == "__main__"` in the caller's program,
import nothing but this package, and end by themselves when the caller is killed, because nobody
reads their answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr_lightning.phantom.cases import Case, Finding
from cxr_lightning.phantom.lateral import render_lateral
from cxr_lightning.phantom.render import render_with_truth

__all__ = ["Drawn", "Job", "Shot", "draw", "draw_in_parallel", "encode", "job_from_json"]

_BOX_SPACE = 1024
_KEPT = str(256 * 1024 * 1024)
# By default glibc gives the memory of every field back to the system and fetches it anew for the
# next one, which is a fifth of the time.
_FAST_MEMORY = {"MALLOC_TRIM_THRESHOLD_": _KEPT, "MALLOC_MMAP_THRESHOLD_": _KEPT}
_ENCODING = {
    ".png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
}


@dataclass(frozen=True, slots=True)
class Shot:
    """One radiograph to take: where it is written (relative, .png or .jpg), of whom, from where."""

    path: str
    case: Case
    lateral: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One process's share: the shots it takes, written below `folder`."""

    folder: str
    size: int
    shots: tuple[Shot, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is known only after drawing.

    Attributes
    ----------
    path
        Of the shot.
    fov_mm
        Side of the field of view.
    boxes
        (label, x, y, width, height) in 1024-pixel space; none for a lateral.
    devices
        Whether lines, tubes, leads or implants are in the picture.
    """

    path: str
    fov_mm: float
    boxes: tuple[tuple[str, float, float, float, float], ...]
    devices: bool


def encode(pixels: NDArray[np.uint8], suffix: str) -> bytes:
    """Return a picture as a file of the kind that a suffix (.png, .jpg) names."""
    return bytes(cv2.imencode(suffix, pixels, _ENCODING[suffix])[1])


def draw(job: Job) -> Iterator[Drawn]:
    """Draw and write the images of a job, one after the other.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    scale = _BOX_SPACE / job.size
    for shot in job.shots:
        drawing = render_lateral if shot.lateral else render_with_truth
        rendering = drawing(shot.case, size=job.size)
        file = Path(job.folder) / shot.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(rendering.pixels, file.suffix))
        boxes = tuple(
            (
                box.finding.name,
                box.x * scale,
                box.y * scale,
                box.width * scale,
                box.height * scale,
            )
            for box in rendering.boxes
        )
        yield Drawn(shot.path, rendering.fov_mm, boxes, rendering.devices)


def draw_in_parallel(job: Job, processes: int) -> Iterator[Drawn]:
    """Draw a whole job by several processes; results come in the order in which they are done.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    answers: SimpleQueue[tuple[int, str | None]] = SimpleQueue()
    children = [_start(replace(job, shots=job.shots[n::processes])) for n in range(processes)]
    readers = [
        Thread(target=_forward, args=(number, child.stdout, answers), daemon=True)
        for number, child in enumerate(children)
    ]
    try:
        for reader in readers:
            reader.start()
        running = processes
        while running:
            number, line = answers.get()
            if line is not None:
                yield _read(line)
            elif code := children[number].wait():
                raise RuntimeError(f"a process that draws the phantom ended with code {code}")
            else:
                running -= 1
    finally:
        for child in children:
            child.kill()
            child.wait()
        for reader in readers:
            reader.join()
        for child in children:
            if child.stdout is not None:
                child.stdout.close()


def _start(job: Job) -> subprocess.Popen[str]:
    package_root = str(Path(__file__).resolve().parents[2])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    child = subprocess.Popen(
        [sys.executable, "-m", "cxr_lightning.phantom.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **_FAST_MEMORY, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert child.stdin is not None  # a pipe was asked for
    # A child that has already ended is told of by its exit code.
    with suppress(BrokenPipeError), child.stdin as pipe:
        json.dump(asdict(job), pipe)
    return child


def job_from_json(text: str) -> Job:
    """Return the job that was sent to a process."""
    fields = json.loads(text)
    shots = []
    for shot in fields["shots"]:
        case = shot["case"]
        findings = tuple(Finding(**finding) for finding in case["findings"])
        shots.append(Shot(shot["path"], Case(**case | {"findings": findings}), shot["lateral"]))
    return Job(fields["folder"], fields["size"], tuple(shots))


def _forward(
    number: int, lines: IO[str] | None, answers: SimpleQueue[tuple[int, str | None]]
) -> None:
    for line in lines or ():
        answers.put((number, line))
    answers.put((number, None))


def _read(line: str) -> Drawn:
    fields = json.loads(line)
    if "error" in fields:
        raise OSError(fields["error"])
    boxes = tuple((box[0], box[1], box[2], box[3], box[4]) for box in fields["boxes"])
    return Drawn(fields["path"], fields["fov_mm"], boxes, fields["devices"])
