"""Pictures made smaller by averages over areas, as OpenCV's INTER_AREA has them, but sooner."""

from __future__ import annotations

import math
import threading
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["areas", "shrink"]

PERIODS = (4, 8, 16, 32, 64, 128)  # beyond them the products are more than OpenCV's sums
ROWS_AT_ONCE = 128  # of 1024 pixels: 512 KB as float32
LANES = 4  # rows that a product does at once: 7 take longer than 8


def shrink(picture: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Shrink a (height, width) picture to `shape`, neither side of which may be larger.

    The areas of 1024 rows in 224 repeat every 32 rows and 7 areas, so they are a product with one
    small matrix, in less than a third of OpenCV's time: some rows at once, so few that their floats
    stay in the processor's own cache. Only where the weights are exact in float32, so that nothing
    is rounded but the result: both ways then give the same pixels.
    """
    work = _works.of(picture.shape, shape)
    if work is None:
        import cv2  # not sooner: see decoder.py

        return np.asarray(
            cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8
        )
    step, period, width = work.floats.shape
    bands = picture.reshape(-1, period, width)
    for start in range(0, len(bands), step):
        some = bands[start : start + step]
        floats, across = work.floats[: len(some)], work.across[: len(some)]
        result = work.shrunk[start : start + len(some)]
        np.copyto(floats, some)
        np.matmul(work.rows, floats, out=across)
        np.matmul(
            across.reshape(-1, len(work.columns)),
            work.columns,
            out=result.reshape(-1, work.columns.shape[1]),
        )
    np.rint(work.shrunk, out=work.shrunk)
    return work.shrunk[:, : work.cells].astype(np.uint8).reshape(shape)


@lru_cache
def areas(length: int, cells: int) -> NDArray[np.float32] | None:
    """Return the share of each pixel in each cell, for the part of a line that repeats.

    None where the part is not a power of two, whose shares are exact, or OpenCV is as fast: each
    cell a whole number of pixels.
    """
    common = math.gcd(length, cells)
    length, cells = length // common, cells // common
    if length not in PERIODS or cells == 1 or cells > length:
        return None
    pixel, cell = np.arange(length), np.arange(cells)[:, None]
    ends = np.minimum((cell + 1) * length, (pixel + 1) * cells)
    overlap = ends - np.maximum(cell * length, pixel * cells)
    return (overlap.clip(0) / length).astype(np.float32)


class _Work(NamedTuple):
    """Matrices, and arrays for what comes between: their memory costs more when it is new."""

    cells: int
    rows: NDArray[np.float32]  # (cells and some of zero, period)
    columns: NDArray[np.float32]  # (period across, cells across)
    floats: NDArray[np.float32]  # (bands at once, period, width)
    across: NDArray[np.float32]  # (bands at once, cells and some, width)
    shrunk: NDArray[np.float32]  # (bands, cells and some, width of the result)


def _prepare(whole: tuple[int, ...], shape: tuple[int, int]) -> _Work | None:
    rows, columns = (areas(*sides) for sides in zip(whole, shape, strict=True))
    if rows is None or columns is None:
        return None
    cells, period = rows.shape
    rows = np.pad(rows, ((0, -cells % LANES), (0, 0)))
    (height, width), step = whole, max(1, ROWS_AT_ONCE // period)
    return _Work(
        cells,
        rows,
        columns.T,
        np.empty((step, period, width), np.float32),
        np.empty((step, len(rows), width), np.float32),
        np.empty((height // period, len(rows), shape[1]), np.float32),
    )


class _Works(threading.local):
    """What the thread's last picture was shrunk with, as most data sets have one shape."""

    def __init__(self) -> None:
        self.key: object = None
        self.work: _Work | None = None

    def of(self, whole: tuple[int, ...], shape: tuple[int, int]) -> _Work | None:
        if self.key != (whole, shape):
            self.key, self.work = (whole, shape), _prepare(whole, shape)
        return self.work


_works = _Works()
