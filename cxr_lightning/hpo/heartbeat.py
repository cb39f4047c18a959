"""Signs of life of the trials that this process runs."""

from __future__ import annotations

import contextlib
import threading

from optuna.exceptions import OptunaError

from cxr_lightning.hpo.storage import HEARTBEAT_SECONDS, Storage

__all__ = ["Heartbeat"]


class Heartbeat:
    """A thread that records a sign of life for each running trial, every ten seconds.

    Optuna's own belongs to `Study.optimize`. The thread ends with the process, however that ends.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._trials: set[int] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def add(self, trial_id: int) -> None:
        """Begin with a trial, by its id in the storage."""
        with self._lock:
            self._trials.add(trial_id)

    def remove(self, trial_id: int) -> None:
        """Stop with a trial."""
        with self._lock:
            self._trials.discard(trial_id)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()

    def beat(self) -> None:
        """Record a sign of life of each trial now."""
        with self._lock:
            trials = sorted(self._trials)
        for trial in trials:
            # The storage may be away for a while; the next beat follows soon.
            with contextlib.suppress(OptunaError):
                self._storage.rdb.record_heartbeat(trial)

    def _beat(self) -> None:
        while not self._closed.wait(HEARTBEAT_SECONDS):
            self.beat()
        self._storage.rdb.remove_session()
