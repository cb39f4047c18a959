"""Any number of image files, decoded by several processes, in order and in constant memory.

The processes are those of :mod:`decode_pool`. They write into a small ring of slots; a slot is
given out again once its picture has been handed on, so a slow picture holds the others up rather
than letting them pile up.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain, cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data.decode_pool import AHEAD, DecodePool, available_cpus
from cxr_lightning.data.decoder import Job, Outcome
from cxr_lightning.data.images import UnreadableImage, read_resized

__all__ = ["Decoded", "decode_stream"]

INLINE = 24  # up to so many pictures are decoded sooner than a child has started


class Decoded(NamedTuple):
    """A file's picture, uint8 (size, size), or the reason why there is none."""

    path: str
    pixels: NDArray[np.uint8] | None = None
    reason: str | None = None


def decode_stream(
    paths: Iterable[str], image: ImageConfig, *, processes: int | None = None
) -> Generator[Decoded, None, None]:
    """Yield the picture of each path, exactly as training sees it, in the order of the paths.

    Parameters
    ----------
    paths : read as needed, so that they may come from a pipe.
    image : size and fit.
    processes : decoding processes; None: one for each available CPU.

    Closing the generator ends the processes at once.
    """
    rest = iter(paths)
    few = list(islice(rest, INLINE + 1))
    if len(few) <= INLINE:
        yield from (_decode(path, image) for path in few)
        return
    processes = processes or available_cpus()
    slots = processes * 4 * AHEAD
    with tempfile.TemporaryDirectory(prefix="cxr_lightning-") as folder:
        pixels = Path(folder) / "pixels.u8"
        with pixels.open("wb") as file:
            os.truncate(file.fileno(), slots * image.size**2)
        mapped = np.memmap(pixels, np.uint8, "r", shape=(slots, image.size, image.size))
        pool = _RingPool([str(pixels), str(image.size), image.fit, image.voi])
        yield from pool.decode(chain(few, rest), processes, mapped)


def _decode(path: str, image: ImageConfig) -> Decoded:
    try:
        return Decoded(path, read_resized(path, image))
    except UnreadableImage as error:
        return Decoded(path, reason=error.reason)
    except MemoryError:
        return Decoded(path, reason="not enough memory to decode it")


class _RingPool(DecodePool):
    """A pool whose jobs are given out one by one, as slots become free."""

    def __init__(self, arguments: list[str]) -> None:
        super().__init__((), arguments)
        self.waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()  # None: no more

    def decode(
        self, paths: Iterator[str], processes: int, pixels: NDArray[np.uint8]
    ) -> Generator[Decoded, None, None]:
        """Yield the picture of every path, in order, through the slots of `pixels`."""
        threads = [threading.Thread(target=self._feed, daemon=True) for _ in range(processes)]
        given: deque[Job] = deque()
        arrived: dict[int, Outcome] = {}
        slots = cycle(range(len(pixels)))
        try:
            for thread in threads:
                thread.start()
            while True:
                for path in islice(paths, len(pixels) - len(given)):
                    given.append(Job(next(slots), path))
                    self.waiting.put(given[-1])
                if not given:
                    return
                if len(given) < len(pixels):
                    self.waiting.put(None)
                job = given[0]
                while job.slot not in arrived:
                    result = self.results.get()
                    if isinstance(result, BaseException):
                        raise result
                    arrived[result.slot] = result
                reason = arrived.pop(job.slot).reason
                picture = None if reason else np.array(pixels[job.slot])
                given.popleft()  # the slot is free from here
                yield Decoded(job.path, picture, reason)
        finally:
            self.stop(threads)

    def stop(self, threads: Sequence[threading.Thread]) -> None:
        self.waiting.put(None)
        super().stop(threads)

    def _take(self, pending: deque[Job]) -> list[Job]:
        """Move jobs to `pending`; wait for one only where the child has nothing left to do."""
        taken: list[Job] = []
        while len(taken) < AHEAD and not self.stopped:
            try:
                job = self.waiting.get(block=not (pending or taken))
            except queue.Empty:
                break
            if job is None:
                self.waiting.put(None)  # for the others
                break
            taken.append(job)
        pending.extend(taken)
        return taken
