"""`python -m benchmarks.section NAME REPEATS FOLDER FILE`: measure one section here, save it."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Section, share_taken, taken
from benchmarks.origin import commit, origin


def main(name: str, repeats: int, work: Path, file: Path) -> None:
    begun, before = origin(), taken()
    measured: Section = importlib.import_module(f"benchmarks.{name}").measure(work, repeats)
    missing = f"Of the processor time wanted meanwhile, {share_taken(before):.0%} was not given"
    if commit() not in begun[0]:
        begun[0] += ", and files were changed meanwhile"
    replace(measured, origin=[*begun, missing]).save(file)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
