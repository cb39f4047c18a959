"""`python -m benchmarks.section NAME REPEATS`: measure one section in this process, and save it."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace

from benchmarks.measure import Section
from benchmarks.origin import ROOT, origin

WORK = ROOT / "build" / "bench"  # pictures, caches and the sections measured so far


def main(name: str, repeats: int) -> None:
    measured: Section = importlib.import_module(f"benchmarks.{name}").measure(WORK, repeats)
    replace(measured, origin=origin()).save(WORK / f"{name}.json")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
