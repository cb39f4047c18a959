"""Ctrl-C and termination signals while jobs run: the jobs are asked to end, and waited for."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from cxr_lightning.hpo.client import Job, ServerClient, ServerLost

__all__ = ["Stopping"]

_STOP_SECONDS = 20.0


class Stopping:
    """Counts signals, and ends the jobs that run.

    Parameters
    ----------
    client
        The server that they run on.

    Attributes
    ----------
    signals
        How many came.
    """

    def __init__(self, client: ServerClient) -> None:
        self._client = client
        self.signals = 0
        self._asked_at = math.inf

    @contextmanager
    def answered(self) -> Iterator[None]:
        """Count Ctrl-C and termination signals in this block, instead of raising."""

        def answer(number: int, frame: FrameType | None) -> None:
            self.signals += 1

        before = {one: signal.signal(one, answer) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def stop(self, jobs: Iterable[Job]) -> bool:
        """Ask jobs to end; called again after a while, or a second Ctrl-C, end them.

        Returns
        -------
        bool
            Whether this was the first time.
        """
        now = time.monotonic()
        first = self._asked_at == math.inf
        if first:
            self._asked_at = now
            self._send(jobs, signal.SIGINT)
        elif now > self._asked_at + _STOP_SECONDS or self.signals > 1:
            self._send(jobs, signal.SIGKILL)
        return first

    def _send(self, jobs: Iterable[Job], number: signal.Signals) -> None:
        for job in jobs:
            try:
                self._client.signal(job, number)
            except ServerLost:
                return  # heard of in the next round
