"""Many image files into slots of one pixel file, by several processes.

The fast PNG decoder holds Python's global lock, so threads would decode one picture at a time. The
processes are plain children of this interpreter that run this module: unlike those of
`multiprocessing` they do not import the caller's main module again (seconds, where that imports
torch, and an endless recursion where it lacks its guard), and unlike forked ones they are safe
beside threads. A child that dies takes one image with it, not the run. It ends by itself when its
parent does, and a Ctrl-C at the terminal reaches the parent alone.
"""

from __future__ import annotations

import errno
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import cv2
import numpy as np
import xxhash
from numpy.typing import NDArray

from cxr_lightning.data.images import Drawn, UnreadableImage, read_image, resize_to_square

if TYPE_CHECKING:
    from cxr_lightning.data.dicom_display import Voi

__all__ = ["DecodePool", "Job", "Outcome", "available_cpus", "content_hash", "decode_into_slots"]

MODULE = "cxr_lightning.data.decode_pool"
INLINE = 64  # up to so many pictures are decoded sooner than a child has started
AHEAD = 8  # pictures that a child has been sent beyond those it has answered


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


def available_cpus() -> int:
    """CPUs that this process may use, which a scheduler may have limited."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def content_hash(image: NDArray[np.uint8]) -> int:
    """64 bits of XXH3 over the shape and pixels of a picture, so the same for equal pictures.

    It finds accidents, not attacks: of a million different pictures two would agree by chance once
    in 37 million such data sets. SHA-256 takes a quarter of the time of decoding.
    """
    digest = xxhash.xxh3_64(repr(image.shape).encode())
    digest.update(image.data)
    return digest.intdigest()


def decode_into_slots(
    jobs: Sequence[Job], pixels: Path, image: Drawn, processes: int | None = None
) -> Generator[Outcome, None, None]:
    """Decode every job into `pixels` and yield what became of each, in order of completion.

    A picture is in the file (not necessarily on the disk) when its outcome is yielded. Closing the
    iterator, or an exception in its consumer, ends the children at once.

    Raises
    ------
    OSError where the pixel file cannot be written, such as on a full disk.
    """
    if len(jobs) <= INLINE:
        with pixels.open("r+b", buffering=0) as file:
            for job in jobs:
                yield _decode_one(job, file, image)
        return
    processes = min(processes or available_cpus(), -(-len(jobs) // (2 * AHEAD)))
    pool = DecodePool(jobs, [str(pixels), str(image.size), image.fit, image.voi])
    yield from pool.run(processes)


def _decode_one(job: Job, file: IO[bytes], image: Drawn) -> Outcome:
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


class DecodePool:
    """Children, each with a thread that feeds it and collects its answers."""

    def __init__(self, jobs: Sequence[Job], arguments: list[str]) -> None:
        self.arguments = arguments
        self.count = len(jobs)
        self.jobs = iter(jobs)
        self.lock = threading.Lock()
        self.results: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
        self.children: set[subprocess.Popen[str]] = set()
        self.stopped = False

    def run(self, processes: int) -> Generator[Outcome, None, None]:
        threads = [threading.Thread(target=self._feed, daemon=True) for _ in range(processes)]
        try:
            for thread in threads:
                thread.start()
            for _ in range(self.count):
                result = self.results.get()
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            self.stop(threads)

    def stop(self, threads: Sequence[threading.Thread]) -> None:
        """End the children at once, and wait for their threads."""
        with self.lock:
            self.stopped = True
            for child in self.children:
                child.kill()
        for thread in threads:
            thread.join()

    def _feed(self) -> None:
        pending: deque[Job] = deque()
        try:
            while (self._take(pending) or pending) and not self.stopped:
                with tempfile.TemporaryFile() as errors, self._child(errors) as child:
                    self._serve(child, errors, pending)
                    if pending and not self.stopped:
                        ending = _ending(child, errors)
                        reason = f"the decoder crashed on it ({ending})"
                        self.results.put(
                            Outcome(pending.popleft().slot, reason=reason, passing=True)
                        )
        except BaseException as error:  # noqa: BLE001  # raised again in the consumer
            self.results.put(error)  # raised where the outcomes are consumed

    def _take(self, pending: deque[Job]) -> list[Job]:
        """Move jobs from the common list to `pending` and return them."""
        with self.lock:
            taken = [] if self.stopped else list(islice(self.jobs, AHEAD))
        pending.extend(taken)
        return taken

    @contextmanager
    def _child(self, errors: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        with self.lock:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, *self.arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
                text=True,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
            self.children.add(child)
            if self.stopped:
                child.kill()
        try:
            yield child
        finally:
            jobs, answers = _pipes(child)
            with suppress(BrokenPipeError):
                jobs.close()  # the end of its work
            answers.close()
            child.wait()
            with self.lock:
                self.children.discard(child)

    def _serve(self, child: subprocess.Popen[str], errors: IO[bytes], pending: deque[Job]) -> None:
        """Feed a child until there are no jobs left, or until it dies with some of them pending."""
        jobs, answers = _pipes(child)
        if not answers.readline() and not self.stopped:
            raise RuntimeError(f"a decoding process did not start ({_ending(child, errors)})")
        fresh = list(pending)  # with what a predecessor left
        while pending:
            with suppress(BrokenPipeError):  # its death shows in the next line
                jobs.write("".join(json.dumps(job) + "\n" for job in fresh))
                jobs.flush()
            answer = answers.readline()
            if not answer.endswith("\n"):  # it died, maybe in the middle of a line
                return
            outcome = json.loads(answer)
            if "errno" in outcome:
                raise OSError(outcome["errno"], outcome["strerror"])
            pending.popleft()
            self.results.put(Outcome(**outcome))
            fresh = self._take(pending) if len(pending) <= AHEAD else []


def _pipes(child: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    if child.stdin is None or child.stdout is None:
        raise ValueError("the child was started without pipes")
    return child.stdin, child.stdout


def _ending(child: subprocess.Popen[str], errors: IO[bytes]) -> str:
    """Say how a child ended and, where Python ended it, with which exception."""
    code = child.wait()
    if code < 0:
        return f"signal {-code}"
    errors.seek(0)
    said = errors.read().decode(errors="replace").strip().splitlines()
    return f"exit code {code}: {said[-1] if said else 'no message'}"


def _main(pixels: str, size: str, fit: str, voi: str = "lut") -> None:
    """Decode the jobs read from standard input, one JSON list a line, and answer each in a line."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # so that nothing a library prints is taken for an answer
    cv2.setNumThreads(1)
    image = Square(int(size), fit, cast("Voi", voi))
    with open(pixels, "r+b", buffering=0) as file:
        answers.write("ready\n")
        for line in sys.stdin:
            try:
                outcome: dict[str, Any] = _decode_one(Job(*json.loads(line)), file, image)._asdict()
            except OSError as error:
                outcome = {"errno": error.errno, "strerror": error.strerror}
            answers.write(json.dumps(outcome) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
