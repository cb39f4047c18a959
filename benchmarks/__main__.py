"""`python -m benchmarks [SECTION ...]`: measure, and write RESULTS.md."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Section
from benchmarks.page import write_page

SECTIONS = ("loading", "training", "waiting", "scale", "evaluation", "inference", "pruning")
ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "bench"  # pictures, caches and the sections measured so far
RESULTS = ROOT / "benchmarks" / "RESULTS.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    names: list[str] = options.sections or [*SECTIONS]
    if unknown := sorted(set(names) - set(SECTIONS)):
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if len(names) > 1:
        for name in names:  # a process for each: none inherits threads, memory or caches
            arguments = [name, "--repeats", str(options.repeats)]
            subprocess.run([sys.executable, "-m", "benchmarks", *arguments], check=True, cwd=ROOT)
        return
    (name,) = names
    print(f"{name} ...", flush=True)
    measured = importlib.import_module(f"benchmarks.{name}").measure(WORK, options.repeats)
    measured.save(WORK / f"{name}.json")
    saved = [WORK / f"{name}.json" for name in SECTIONS]
    write_page([Section.load(file) for file in saved if file.is_file()], RESULTS)
    print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
