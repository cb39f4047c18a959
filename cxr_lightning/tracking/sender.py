"""A thread that delivers records, so that training never waits for MLflow.

Data (metrics, params, tags, status) and files (artifacts) go two separate ways: an artifact store
that fails does not hold up the curves. Within each way the order is kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .outbox import Outbox
from .records import Record, batches, is_file

__all__ = ["Refused", "Sender"]

_log = logging.getLogger("cxr_lightning.tracking")


class Refused(Exception):
    """MLflow answered that it will never take a record; sending it again is of no use."""


class Sender:
    """Queue, thread, and what happens when delivery fails.

    `deliver` raises `Refused` for a record that can never be taken and anything else for a failure
    that may pass. After such a failure, records of the same way are written to the outbox; delivery
    is tried again after 1, 2, 4 ... 60 s, the outbox first.

    Parameters
    ----------
    deliver : callable
        Sends a list of records: several of metrics, or one of another kind.
    outbox : Outbox
    run_id, shown : str
        The run, and MLflow's address as it may be printed.
    gather : float
        Seconds to collect records before a call; one call with many metrics costs the training
        thread less (of the interpreter's lock) than many calls.
    """

    def __init__(
        self,
        deliver: Callable[[list[Record]], None],
        outbox: Outbox,
        *,
        run_id: str,
        shown: str,
        gather: float = 0.3,
        first_wait: float = 1.0,
        longest_wait: float = 60.0,
    ) -> None:
        self._deliver = deliver
        self._outbox = outbox
        self._run_id = run_id
        self._shown = shown
        self._gather = gather
        self._first_wait = first_wait
        self._longest_wait = longest_wait
        self._state = threading.Condition()
        self._queue: list[Record] = []
        self._taken: list[Record] = []  # out of the queue, neither delivered nor written yet
        self._given_up = False
        self._closing = False
        self._hurry = False
        self._progress = 0  # calls that came back, whatever their answer
        self._retry_at: dict[bool, float] = {}  # way (files?) -> when to try it again
        self._wait = {False: first_wait, True: first_wait}
        self._warned = False
        if any("refused" not in record for record in outbox.read(run_id)):  # of a killed process
            self._retry_at = {False: 0.0, True: 0.0}
        self._thread = threading.Thread(target=self._run, name="mlflow-sender", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Queue a record; microseconds, whatever MLflow does."""
        with self._state:
            self._queue.append(record)
            self._state.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until what was queued so far is delivered or written to the outbox."""
        with self._state:
            self._hurry = True
            self._state.notify_all()
            return self._state.wait_for(lambda: not (self._queue or self._taken), timeout)

    def close(self, patience: float) -> int:
        """Deliver everything, then stop; return how many records stayed in the outbox.

        Parameters
        ----------
        patience : float
            Seconds without any progress after which the rest is written to the outbox instead. An
            artifact on its way gets one more second for each megabyte.
        """
        with self._state:
            self._closing = True
            self._state.notify_all()
        try:
            seen, since = -1, time.monotonic()
            while self._thread.is_alive():
                self._thread.join(0.1)
                if self._progress != seen:
                    seen, since = self._progress, time.monotonic()
                elif time.monotonic() - since > patience + self._megabytes():
                    break
        finally:  # Ctrl-C while waiting must not lose records either
            with self._state:
                self._given_up = self._thread.is_alive()
                left, self._taken, self._queue = self._taken + self._queue, [], []
            self._keep(left)
        return len(self._outbox.read(self._run_id))

    def _megabytes(self) -> float:
        with self._state:
            paths = [Path(r["path"]) for r in self._taken[:1] if "path" in r]
        return sum(p.stat().st_size for p in paths if p.is_file()) / 1e6

    def _run(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._queue or self._closing, self._until_retry())
                if self._queue and not self._closing:
                    self._state.wait_for(lambda: self._closing or self._hurry, self._gather)
                self._hurry = False
                closing = self._closing
                self._taken, self._queue = self._queue, []
            self._retry(closing)
            for batch in batches(list(self._taken)):
                if self._given_up:
                    return
                self._send(batch)
                with self._state:
                    del self._taken[: len(batch)]
            with self._state:
                self._state.notify_all()
                if closing and not self._queue:
                    return

    def _until_retry(self) -> float | None:
        if not self._retry_at:
            return None
        return max(0.0, min(self._retry_at.values()) - time.monotonic())

    def _attempt(self, batch: list[Record]) -> Exception | None:
        try:
            self._deliver(batch)
        except Exception as problem:  # noqa: BLE001  # whatever MLflow does, training goes on
            return problem
        finally:
            self._progress += 1
        return None

    def _send(self, batch: list[Record]) -> None:
        """Deliver one batch, or keep it."""
        way = is_file(batch[0])
        if way in self._retry_at:
            self._keep(batch)
            return
        problem = self._attempt(batch)
        if isinstance(problem, Refused) and len(batch) > 1:
            for record in batch:
                self._send([record])
        elif isinstance(problem, Refused):
            self._keep([{**batch[0], "refused": str(problem)}])
            _log.warning("MLflow refused %s: %s", batch[0]["kind"], problem)
        elif problem is not None:
            self._went_away(way, problem)
            if not self._given_up:  # else close() has kept it already
                self._keep(batch)

    def _retry(self, closing: bool) -> None:
        """Deliver the outbox as far as it goes, where it is time to try."""
        now = time.monotonic()
        due = [way for way, when in self._retry_at.items() if closing or when <= now]
        if not due:
            return
        for way in due:
            del self._retry_at[way]
            try:
                waiting = [r for r in self._outbox.read(self._run_id) if "refused" not in r]
                self._send_kept([r for r in waiting if is_file(r) == way], way)
            except (OSError, ValueError) as problem:  # of the outbox itself, such as a full disk
                self._went_away(way, problem)
            if way not in self._retry_at:
                self._wait[way] = self._first_wait
        if self._warned and not self._retry_at:
            self._warned = False
            _log.warning("MLflow (%s) is back; what was kept has been sent.", self._shown)

    def _send_kept(self, records: list[Record], way: bool) -> None:
        for batch in batches(records):
            if self._given_up:
                return
            problem = self._attempt(batch)
            if problem is None:
                self._outbox.settle({record["id"] for record in batch})
            elif isinstance(problem, Refused) and len(batch) > 1:
                for record in batch:
                    self._send_kept([record], way)
            elif isinstance(problem, Refused):
                self._outbox.settle(set(), {batch[0]["id"]: str(problem)})
            else:
                self._went_away(way, problem)
            if way in self._retry_at:
                return

    def _went_away(self, way: bool, problem: Exception) -> None:
        self._retry_at[way] = time.monotonic() + self._wait[way]
        self._wait[way] = min(2 * self._wait[way], self._longest_wait)
        if not self._warned:
            self._warned = True
            _log.warning(
                "MLflow (%s) takes no %s: %s. Training goes on; what cannot be sent is kept in %s "
                "and sent when MLflow is back.",
                self._shown,
                "files" if way else "metrics",
                str(problem).rstrip("."),
                self._outbox.path,
            )

    def _keep(self, records: list[Record]) -> None:
        try:
            self._outbox.append(records, run_id=self._run_id, tracking_uri=self._shown)
        except (OSError, ValueError) as problem:  # a full disk must not end training either
            _log.warning("%d records for MLflow are lost: %s", len(records), problem)
