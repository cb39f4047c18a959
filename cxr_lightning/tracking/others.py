"""Tags and ends of runs whose own process cannot say them, such as the killed trials of a sweep."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .address import parse_address
from .outbox import Outbox
from .records import Record, tag_records
from .sender import Refused
from .store import Store

__all__ = ["OtherRuns"]

_Words = tuple[str, list[Record]]  # to a run, by its id
_ATTEMPTS = 4
_log = logging.getLogger("cxr_lightning.tracking")


class OtherRuns:
    """Writes to runs that this process did not open, on a thread of its own; never raises.

    Parameters
    ----------
    tracking_uri
        Where the runs are kept.
    folder
        What could not be written is kept there, for ``python -m cxr_lightning.tracking``.
    """

    def __init__(self, tracking_uri: str, folder: Path) -> None:
        self._uri = tracking_uri
        self._outbox = Outbox(folder)
        self._queue: queue.Queue[_Words | None] = queue.Queue()
        self._given: _Words | None = None  # what is on its way
        self._kept = self._lost = 0
        self._thread = threading.Thread(target=self._deliver, name="other-runs", daemon=True)
        self._thread.start()

    def write(self, run_id: str, tags: Mapping[str, Any], status: str | None = None) -> None:
        """Set tags of a run, and end it with a status where one is given."""
        records = tag_records(tags)
        if status is not None:
            now = time.time_ns() // 1_000_000
            records.append({"kind": "status", "status": status, "time": now})
        self._queue.put((run_id, records))

    def close(self, seconds: float = 30.0) -> None:
        """Deliver what is left, or keep what takes longer."""
        self._queue.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            left = [self._given]
            with suppress(queue.Empty):
                while True:
                    left.append(self._queue.get_nowait())
            self._queue.put(None)
            for words in filter(None, left):  # the first may arrive all the same, which is no harm
                self._keep(*words)
        if self._kept:
            _log.warning(
                "MLflow did not take the state of %d trial(s); it is kept in %s. Send it when "
                "MLflow is back: python -m cxr_lightning.tracking %s",
                self._kept,
                self._outbox.path,
                self._outbox.folder,
            )
        if self._lost:
            _log.warning("MLflow did not take the state of %d trial(s)", self._lost)

    def _keep(self, run_id: str, records: list[Record]) -> None:
        shown = parse_address(self._uri).shown
        try:
            self._outbox.append(records, run_id=run_id, tracking_uri=shown)
            self._kept += 1
        except OSError as problem:
            self._lost += 1
            _log.debug("run %s: %s", run_id, problem)

    def _deliver(self) -> None:
        store: Store | None = None
        while (item := self._queue.get()) is not None:
            self._given = item
            run_id, records = item
            for attempt in range(_ATTEMPTS):
                try:
                    store = store or Store(parse_address(self._uri))
                    for record in records:
                        store.deliver(run_id, [record])
                    break
                except Refused:
                    self._lost += 1
                    break
                except Exception as problem:  # noqa: BLE001 - MLflow may not end a sweep
                    if attempt + 1 == _ATTEMPTS:
                        _log.debug("run %s: %s", run_id, problem)
                        self._keep(run_id, records)
                    else:
                        time.sleep(0.5 * 2**attempt)
