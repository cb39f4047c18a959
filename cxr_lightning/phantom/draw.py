"""Draw the images of a cohort into a folder, by one process or by several.

The processes are plain children (:mod:`cxr_lightning.phantom.worker`) that answer with a line per
image. They need no `if __name__ == "__main__"` in the caller's program, import nothing but this
package, and end by themselves when the caller is killed, because nobody reads their answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO

import cv2

from cxr_lightning.phantom.cohort import make_cohort
from cxr_lightning.phantom.render import render_with_truth

__all__ = ["Drawn", "Job", "draw", "draw_in_parallel"]

_BOX_SPACE = 1024
_KEPT = str(256 * 1024 * 1024)
# By default glibc gives the memory of every field back to the system and fetches it anew for the
# next one, which is a fifth of the time.
_FAST_MEMORY = {"MALLOC_TRIM_THRESHOLD_": _KEPT, "MALLOC_MMAP_THRESHOLD_": _KEPT}


@dataclass(frozen=True, slots=True)
class Job:
    """One process's share: every `step`-th image from `start`, written into `folder`."""

    folder: str
    images: int
    seed: int
    size: int
    start: int = 0
    step: int = 1


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is known only after drawing: boxes (label, x, y, width, height) in 1024-pixel space."""

    image_index: str
    fov_mm: float
    boxes: tuple[tuple[str, float, float, float, float], ...]


def draw(job: Job) -> Iterator[Drawn]:
    """Draw and write the images of a job, one after the other.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    for case in make_cohort(job.images, job.seed)[job.start :: job.step]:
        rendering = render_with_truth(case, size=job.size)
        encoded = cv2.imencode(".png", rendering.pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        (Path(job.folder) / case.image_index).write_bytes(encoded.tobytes())
        scale = _BOX_SPACE / job.size
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
        yield Drawn(case.image_index, rendering.fov_mm, boxes)


def draw_in_parallel(job: Job, processes: int) -> Iterator[Drawn]:
    """Draw a whole job by several processes; results come in the order in which they are done.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    answers: SimpleQueue[tuple[int, str | None]] = SimpleQueue()
    children = [_start(replace(job, start=n, step=processes)) for n in range(processes)]
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
    return subprocess.Popen(
        [sys.executable, "-m", "cxr_lightning.phantom.worker", json.dumps(asdict(job))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **_FAST_MEMORY, "PYTHONPATH": os.pathsep.join(paths)},
    )


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
    return Drawn(fields["image_index"], fields["fov_mm"], boxes)
