"""A process that draws its share of a phantom: `python -m cxr_lightning.phantom.worker < JOB`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

import cv2

from cxr_lightning.phantom.draw import draw, job_from_json

__all__ = ["main"]


def main(job: str) -> None:
    """Draw the job given as JSON; answer with one line of JSON per image, or one with the error."""
    cv2.setNumThreads(1)
    try:
        for drawn in draw(job_from_json(job)):
            _answer(asdict(drawn))
    except BrokenPipeError:
        # Whoever asked for the pictures is gone; leave without a complaint at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _answer({"error": error.strerror or str(error)})


def _answer(fields: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.stdin.read())
