"""`python -m benchmarks [SECTION ...]`: measure, and write RESULTS.md."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Section
from benchmarks.origin import ROOT, origin
from benchmarks.page import write_page

SECTIONS = (
    *("loading", "decoding", "building", "scale", "training", "waiting", "gpu"),
    *("evaluation", "inference", "pruning"),
)
LONG = ("pruning",)  # a quarter of an hour; measured where it is named
MOST = {"waiting": 3, "pruning": 3}  # repeats of what takes long; that is enough to see the spread
HELP = f"of {', '.join(SECTIONS)}; without any, all but {', '.join(LONG)}"
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
WORK = ROOT / "build" / "bench"
PAGE = ROOT / "benchmarks" / "RESULTS.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=HELP)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--work",
        type=Path,
        default=WORK,
        metavar="FOLDER",
        help="for pictures and caches; build/bench by default",
    )
    parser.add_argument(
        "--page",
        type=Path,
        default=PAGE,
        metavar="FILE",
        help="what is written, and beside it results/SECTION.json, one for each section measured "
        "so far; benchmarks/RESULTS.md by default",
    )
    options = parser.parse_args()
    names: list[str] = options.sections or [name for name in SECTIONS if name not in LONG]
    if unknown := sorted(set(names) - set(SECTIONS)):
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    work, page = (folder.absolute() for folder in (options.work, options.page))
    work.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in names:
        repeats = min(options.repeats, MOST.get(name, options.repeats))
        failed |= not measured(name, repeats, work, saved(page, name))
        files = [saved(page, name) for name in SECTIONS]
        write_page([Section.load(file) for file in files if file.is_file()], page)
    print(f"written to {page}")
    return int(failed)


def saved(page: Path, name: str) -> Path:
    """Return where a section's numbers are: beside the page, and kept like it."""
    return page.parent / "results" / f"{name}.json"


def measured(name: str, repeats: int, work: Path, file: Path) -> bool:
    """Measure in a process of its own: none inherits threads, memory or caches.

    Where it fails, its last line is saved in place of numbers. Python keeps its bytecode there, as
    it does by default: without it, each start would compile the package anew.
    """
    print(f"{name} ...", flush=True)
    command = [sys.executable, "-m", "benchmarks.section", name, str(repeats), str(work), str(file)]
    environment = {key: value for key, value in os.environ.items() if key != NO_BYTECODE}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False
    )
    sys.stderr.write(done.stderr)
    if done.returncode:
        last = [f"exit code {done.returncode}", *done.stderr.strip().splitlines()][-1]
        empty = Section(name.capitalize(), "", [], [], failed=last, origin=origin())
        empty.save(file)
    return not done.returncode


if __name__ == "__main__":
    sys.exit(main())
