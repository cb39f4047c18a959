"""Many image files into slots of one pixel file, by several processes.

The fast PNG decoder holds Python's global lock, so threads would decode one picture at a time. The
processes are plain children of this interpreter that run :mod:`decoder`: unlike those of
`multiprocessing` they do not import the caller's main module again (seconds, where that imports
torch, and an endless recursion where it lacks its guard), and unlike forked ones they are safe
beside threads. A child that dies takes one image with it, not the run. It ends by itself when its
parent does, and a Ctrl-C at the terminal reaches the parent alone.
"""

from __future__ import annotations

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
from typing import IO

from cxr_lightning.data.decoder import Job, Outcome, decode_one
from cxr_lightning.data.images import Drawn

__all__ = ["DecodePool", "available_cpus", "decode_into_slots"]

MODULE = "cxr_lightning.data.decoder"
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
INLINE = 64  # up to so many pictures are decoded sooner than a child has started
AHEAD = 8  # pictures that a child has been sent beyond those it has answered


def available_cpus() -> int:
    """CPUs that this process may use, which a scheduler may have limited."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


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
                yield decode_one(job, file, image)
        return
    processes = min(processes or available_cpus(), -(-len(jobs) // (2 * AHEAD)))
    pool = DecodePool(jobs, [str(pixels), str(image.size), image.fit, image.voi])
    yield from pool.run(processes)


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
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": paths},
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
