"""What is measured: rows of repeated values, goals of ratios between them."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One thing, measured several times."""

    name: str
    unit: str
    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Goal:
    """What is asked of the measured numbers; `why` is written where it is missed."""

    what: str
    measured: float
    wanted: float
    unit: str = "x"
    at_most: bool = False
    why: str = ""

    @property
    def met(self) -> bool:
        return self.measured <= self.wanted if self.at_most else self.measured >= self.wanted


@dataclass(frozen=True)
class Section:
    """One run of related measurements."""

    title: str
    method: str
    rows: list[Row]
    goals: list[Goal]

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    @staticmethod
    def load(file: Path) -> Section:
        held = json.loads(file.read_text(encoding="utf-8"))
        return Section(
            held["title"],
            held["method"],
            [Row(**row) for row in held["rows"]],
            [Goal(**goal) for goal in held["goals"]],
        )


def seconds(call: Callable[[], Any]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def timed(calls: Mapping[str, Callable[[], Any]]) -> dict[str, Callable[[], float]]:
    """Make of each call one that returns the seconds it took."""
    return {name: partial(seconds, call) for name, call in calls.items()}


def turns(calls: Mapping[str, Callable[[], float]], unit: str, repeats: int) -> dict[str, Row]:
    """Call each in its turn, `repeats` times: what else the machine does falls on all of them."""
    values: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            values[name].append(call())
            print(f"  {name}: {values[name][-1]:,.4g} {unit}", flush=True)
    return {name: Row(name, unit, found) for name, found in values.items()}
