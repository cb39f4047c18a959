"""Send to MLflow what a run could not send: ``python -m cxr_lightning.tracking RUN_DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..cli import leave, run_verb
from ..errors import ConfigError, bullet_list
from .resend import send_unsent

__all__ = ["main"]

STOPPED = "stopped; the same command sends the rest"


def main(argv: Sequence[str]) -> int:
    """Send unsent records; returns the exit code: 0 if none is left, 1 if some are."""
    parser = argparse.ArgumentParser(
        prog="python -m cxr_lightning.tracking",
        description="Send to MLflow what a run could not send while MLflow was away.",
    )
    parser.add_argument("run_dir", type=Path, help="the run's folder, such as runs/NAME")
    parser.add_argument("--tracking-uri", help="where to, if not where it was meant to go")
    options = parser.parse_args(argv)
    if not options.run_dir.is_dir():
        raise ConfigError(f"{options.run_dir}: no such folder; give a run's, such as runs/NAME")
    result = send_unsent(options.run_dir, options.tracking_uri)
    sys.stdout.write(f"{result.sent:,} records sent to MLflow, {result.kept:,} kept.\n")
    if result.kept:
        sys.stderr.write(bullet_list(result.reasons) + "\n")
    return 1 if result.kept else 0


if __name__ == "__main__":
    leave(run_verb(main, stopped=STOPPED))
