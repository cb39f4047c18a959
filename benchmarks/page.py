"""RESULTS.md from the saved sections."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.measure import Goal, Row, Section
from cxr_lightning.data.decode_pool import available_cpus

PACKAGES = (
    *("torch", "torchvision", "lightning", "torchmetrics", "torchxrayvision", "monai"),
    *("albumentations", "opencv-python-headless", "kornia-rs", "pillow", "numpy", "scikit-learn"),
    "openvino",
)


def write_page(sections: Sequence[Section], file: Path) -> None:
    """Write all sections; goals that were missed come first."""
    lines = [
        "# Speed, measured beside others",
        "",
        "Written by `make bench`; `make bench ARGS=loading` measures one section anew. The rows",
        "of a table were measured in turn, so their ratios belong to one run. Absolute numbers",
        "are those of this machine:",
        "",
        f"- {machine()}",
        f"- Python {platform.python_version()}; {', '.join(versions())}",
        "",
        "## Below its goal",
        "",
    ]
    missed = [goal for section in sections for goal in section.goals if not goal.met]
    lines += [
        f"- {goal.what}: {number(goal.measured)} {goal.unit}, wanted {sign(goal)} "
        f"{number(goal.wanted)}. {goal.why}"
        for goal in missed
    ] or ["Nothing."]
    for section in sections:
        lines += ["", f"## {section.title}", "", section.method, ""]
        lines += table(
            ("what", "median", "lowest", "highest", "runs", ""),
            [cells(row) for row in section.rows],
        )
        if section.goals:
            lines += ["", *table(("goal", "wanted", "measured", ""), map(verdict, section.goals))]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def machine() -> str:
    """Cores, processor and memory; no name of the machine."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        named = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{available_cpus()} cores of {model}, {memory:.0f} GiB of memory"


def versions() -> list[str]:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return found


def table(head: Sequence[str], rows: object) -> list[str]:
    body = [f"| {' | '.join(row)} |" for row in rows]  # type: ignore[attr-defined]
    return [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 2) + "|---|", *body]


def cells(row: Row) -> tuple[str, ...]:
    numbers = (row.median, min(row.values), max(row.values))
    return (row.name, *map(number, numbers), str(len(row.values)), row.unit)


def verdict(goal: Goal) -> tuple[str, ...]:
    return (
        goal.what,
        f"{sign(goal)} {number(goal.wanted)} {goal.unit}",
        f"{number(goal.measured)} {goal.unit}",
        "met" if goal.met else "missed",
    )


def sign(goal: Goal) -> str:
    return "at most" if goal.at_most else "at least"


def number(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
