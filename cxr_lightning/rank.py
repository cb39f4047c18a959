"""A further process of a run, started by `launch` and not by hand."""

from __future__ import annotations

import os
import sys
import threading

from cxr_lightning.cli import leave, run_verb
from cxr_lightning.config.compose import config_from_file
from cxr_lightning.errors import UserError
from cxr_lightning.launch import launched_run, launched_splits

__all__ = ["join_run"]


def join_run() -> int:
    """Join the run whose folder the environment names; returns the exit code."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = launched_run()
    if folder is None:
        raise UserError("cxr_lightning.rank is started by a run, not by hand")
    from cxr_lightning.training import run_fit

    run_fit(config_from_file(folder / "config.yaml"), splits=launched_splits())
    return 0


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns at the end of file; Python's own buffer would lock
    os._exit(1)


if __name__ == "__main__":
    leave(run_verb(lambda argv: join_run()))
