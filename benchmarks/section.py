"""`python -m benchmarks.section NAME REPEATS`: measure one section in this process, and save it."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace

from benchmarks.measure import Section, share_taken, taken
from benchmarks.origin import ROOT, origin

WORK = ROOT / "build" / "bench"  # pictures, caches and the sections measured so far


def main(name: str, repeats: int) -> None:
    before = taken()
    measured: Section = importlib.import_module(f"benchmarks.{name}").measure(WORK, repeats)
    missing = f"Of the processor time wanted meanwhile, {share_taken(before):.0%} was not given"
    replace(measured, origin=[*origin(), missing]).save(WORK / f"{name}.json")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
