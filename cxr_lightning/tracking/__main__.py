"""Send to MLflow what a run could not send: ``python -m cxr_lightning.tracking RUN_DIR``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import UserError, bullet_list
from .resend import send_unsent

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Send unsent records; exit code 0 if none is left, 1 if some are, 2 on a wrong address."""
    parser = argparse.ArgumentParser(
        prog="python -m cxr_lightning.tracking",
        description="Send to MLflow what a run could not send while MLflow was away.",
    )
    parser.add_argument("run_dir", type=Path, help="the run's folder, such as runs/NAME")
    parser.add_argument("--tracking-uri", help="where to, if not where it was meant to go")
    options = parser.parse_args(arguments)
    try:
        result = send_unsent(options.run_dir, options.tracking_uri)
    except UserError as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    sys.stdout.write(f"{result.sent:,} records sent to MLflow, {result.kept:,} kept.\n")
    if result.kept:
        sys.stderr.write(bullet_list(result.reasons) + "\n")
    return 1 if result.kept else 0


if __name__ == "__main__":
    sys.exit(main())
