"""One image file into its slot of the pixel file, and the process that does many of them.

A process of its own (see :mod:`decode_pool`) runs this module: it imports little, as each process
has to before its first picture, and OpenCV, an eighth of that time, only for pictures that need it.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import xxhash
from numpy.typing import NDArray

from cxr_lightning.data.images import Drawn, UnreadableImage, read_image, resize_to_square

if TYPE_CHECKING:
    import numpy as np

    from cxr_lightning.data.dicom_display import Voi

__all__ = ["Job", "Outcome", "content_hash", "decode_one"]


class Job(NamedTuple):
    """One picture to decode, and the slot of the pixel file it belongs in."""

    slot: int
    path: str


class Square(NamedTuple):
    """How pictures are drawn, as a child is told it."""

    size: int
    fit: str
    voi: Voi


class Outcome(NamedTuple):
    """What became of a job; `reason` is None where its pixels are in their slot."""

    slot: int
    height: int = 0
    width: int = 0
    content_hash: int = 0
    reason: str | None = None
    passing: bool = False


def content_hash(image: NDArray[np.uint8]) -> int:
    """64 bits of XXH3 over the shape and pixels of a picture, so the same for equal pictures.

    It finds accidents, not attacks: of a million different pictures two would agree by chance once
    in 37 million such data sets. SHA-256 takes a quarter of the time of decoding.
    """
    digest = xxhash.xxh3_64(repr(image.shape).encode())
    digest.update(image.data)
    return digest.intdigest()


def decode_one(job: Job, file: IO[bytes], image: Drawn) -> Outcome:
    """Write a job's picture, as `image` has it drawn, into its slot of an open pixel file.

    Raises
    ------
    OSError where the file cannot be written, such as on a full disk.
    """
    try:
        picture = read_image(job.path, voi=image.voi)
        height, width = picture.shape
        square = resize_to_square(picture, image)
    except UnreadableImage as error:
        return Outcome(job.slot, reason=error.reason, passing=error.passing)
    except MemoryError:
        return Outcome(job.slot, reason="not enough memory to decode it", passing=True)
    file.seek(job.slot * square.nbytes)
    # written, not mapped: a full disk is an error here, where a mapped page would kill the process
    if file.write(square.data) != square.nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return Outcome(job.slot, height, width, content_hash(picture))


def _main(pixels: str, size: str, fit: str, voi: str = "lut") -> None:
    """Decode the jobs read from standard input, one JSON list a line, and answer each in a line."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # so that nothing a library prints is taken for an answer
    image = Square(int(size), fit, cast("Voi", voi))
    with open(pixels, "r+b", buffering=0) as file:
        answers.write("ready\n")
        for line in sys.stdin:
            try:
                outcome: dict[str, Any] = decode_one(Job(*json.loads(line)), file, image)._asdict()
            except OSError as error:
                outcome = {"errno": error.errno, "strerror": error.strerror}
            answers.write(json.dumps(outcome) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
