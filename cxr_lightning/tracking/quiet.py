"""MLflow kept to its place: no telemetry, no lines of its own, no call that takes minutes."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["bounded", "prepare", "quiet"]

_ENVIRONMENT = {
    # Usage telemetry would go out from behind a hospital's firewall.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_UV_AUTO_DETECT": "false",  # else a model holds copies of the current folder's files
}
# MLflow's own (7 retries, 120 s each) add up to many minutes; the sender retries by itself.
_LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}

_lock = threading.Lock()
_bounded: Counter[str] = Counter()  # name -> calls under way for which we set it
_quiet_threads: set[int] = set()


def prepare() -> None:
    """Set what MLflow reads when it is imported; what the user has set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def bounded() -> Iterator[None]:
    """Bound MLflow's HTTP calls where the user has not; the environment is its only switch."""
    with _lock:
        mine = [name for name in _LIMITS if _bounded[name] or name not in os.environ]
        _bounded.update(mine)
        os.environ.update({name: _LIMITS[name] for name in mine})
    try:
        yield
    finally:
        with _lock:
            _bounded.subtract(mine)
            for name in mine:
                if not _bounded[name]:
                    os.environ.pop(name, None)


class _OnlyOthers(logging.Filter):
    """Holds back what was logged by a thread that is inside one of our calls."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread not in _quiet_threads


_only_others = _OnlyOthers()


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what MLflow, Alembic and urllib3 log on this thread: we say it in our own words."""
    logging.getLogger("urllib3.connectionpool").addFilter(_only_others)
    for name in ("mlflow", "alembic", "sqlalchemy.engine"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_only_others)
    me = threading.get_ident()
    outermost = me not in _quiet_threads
    _quiet_threads.add(me)
    try:
        yield
    finally:
        if outermost:
            _quiet_threads.discard(me)
