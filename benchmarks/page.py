"""RESULTS.md from the saved sections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.measure import Goal, Row, Section
from cxr_lightning.whole_file import whole_file

HEAD = """# Speed, measured beside others

Written by `make bench`; `make bench ARGS=loading` measures one section anew, and `results/` beside
this page has every value of each. What is timed beside other things was measured in turn, so its
ratios belong to one run. Absolute numbers are those of the machine that is named below each
section, with the commit, the day and the versions. A measurement begins when what was written
before is on the disk. A virtual machine's host may give the processor to others: a measurement
waits while it takes more than a tenth, for up to five minutes, and one that missed more than that
was made again, twice at most; the one that missed least counts. Where a section missed more than a
tenth altogether, its absolute numbers say less than its ratios.
"""


def write_page(sections: Sequence[Section], file: Path) -> None:
    """Write all sections; what was missed, failed or not measured comes first."""
    below = [
        f"- {section.title} failed: {section.failed}" for section in sections if section.failed
    ]
    below += [missed(goal) for section in sections for goal in section.goals if not goal.met]
    lines = [HEAD, "## Below its goal", "", *(below or ["Nothing."])]
    if unmeasured := [f"- {text}" for section in sections for text in section.unmeasured]:
        lines += ["", "## Not measured", "", *unmeasured]
    for section in sections:
        lines += ["", f"## {section.title}", "", section.method or f"Failed: {section.failed}"]
        if section.rows:
            head = ("what", "median", "lowest", "highest", "runs", "")
            lines += ["", *table(head, map(cells, section.rows))]
        if section.goals:
            lines += ["", *table(("goal", "wanted", "measured", ""), map(verdict, section.goals))]
        lines += ["", f"{'. '.join(section.origin)}."] if section.origin else []
    with whole_file(file) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def missed(goal: Goal) -> str:
    measured, wanted = f"{number(goal.measured)} {goal.unit}".rstrip(), number(goal.wanted)
    return f"- {goal.what}: {measured}, wanted {sign(goal)} {wanted}. {goal.why}".rstrip()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = [f"| {' | '.join(row)} |" for row in rows]
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
