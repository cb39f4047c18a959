"""Calls to a storage that may be away for a while, as a database server is when it restarts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from cxr_lightning.errors import UserError
from cxr_lightning.tracking.reach import one_line

__all__ = ["patiently"]

_PATIENCE_SECONDS = 120.0
Result = TypeVar("Result")


def patiently(call: Callable[[], Result]) -> Result:
    """Repeat a call while the storage is away, for up to two minutes.

    Raises
    ------
    UserError
        It is still away.
    """
    deadline, wait = time.monotonic() + _PATIENCE_SECONDS, 0.2
    while True:
        try:
            return call()
        except (StorageInternalError, OperationalError, TimeoutError) as problem:
            if time.monotonic() + wait > deadline:
                raise UserError(
                    f"the study's storage has been away for {_PATIENCE_SECONDS / 60:.0f} minutes "
                    f"({one_line(problem.__cause__ or problem)}). The same command continues; what "  # type: ignore[arg-type]
                    "was running is begun again"
                ) from problem
            time.sleep(wait)
            wait = min(2 * wait, 8.0)
