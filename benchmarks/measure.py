"""What is measured: rows of repeated values, goals of ratios between them."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from cxr_lightning.whole_file import whole_file

Measured = TypeVar("Measured")
CALM = 0.1  # share of the processor time that may be missing from a measurement
TRIES = 3  # of a measurement from which more was missing
PATIENCE = 300  # seconds to wait for a calm host before a measurement


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
    """One run of related measurements.

    `unmeasured` says what this machine could not measure, `failed` what ended the section early,
    and `origin` what was measured: commit, day, machine, versions.
    """

    title: str
    method: str
    rows: list[Row]
    goals: list[Goal]
    unmeasured: list[str] = field(default_factory=list)
    failed: str = ""
    origin: list[str] = field(default_factory=list)

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as partial:
            partial.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    @staticmethod
    def load(file: Path) -> Section:
        """Read what was saved; what cannot be read, or is of another version, counts as failed."""
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
            rows = [Row(**row) for row in held.pop("rows")]
            goals = [Goal(**goal) for goal in held.pop("goals")]
            return Section(rows=rows, goals=goals, **held)
        except (ValueError, TypeError, KeyError) as error:
            why = f"{file.name} cannot be read ({error}); measure it anew"
            return Section(file.stem.capitalize(), "", [], [], failed=why)


def seconds(call: Callable[[], Any]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def timed(calls: Mapping[str, Callable[[], Any]]) -> dict[str, Callable[[], float]]:
    """Make of each call one that returns the seconds it took."""
    return {name: partial(seconds, call) for name, call in calls.items()}


def taken() -> tuple[float, float]:
    """Processor time so far, in ticks: wanted by any process here, and what of it was not given.

    The host of a virtual machine gives it to others ("steal"); 0 elsewhere.
    """
    stat = Path("/proc/stat")
    if not stat.is_file():
        return 0.0, 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    return user + nice + system + irq + softirq + steal, steal


def share_taken(before: tuple[float, float]) -> float:
    """Return which share of the wanted processor time was not given since `before`."""
    wanted, steal = (now - then for now, then in zip(taken(), before, strict=True))
    return steal / wanted if wanted else 0.0


def settle() -> None:
    """Wait until what was written is on the disk, and while the host takes much of the processor.

    Of the latter a third of a second is looked at. Gigabytes that an installation has just written
    would else slow down whoever writes next.
    """
    os.sync()
    start = time.perf_counter()
    while time.perf_counter() - start < PATIENCE:
        before, looked = taken(), time.perf_counter()
        while time.perf_counter() - looked < 0.3:
            pass
        if share_taken(before) <= CALM:
            return
        time.sleep(5)


def calm(call: Callable[[], Measured]) -> Measured:
    """Call again where the host took much of the processor meanwhile; return the calmest."""
    found: list[tuple[float, Measured]] = []
    while len(found) < TRIES and not (found and found[-1][0] <= CALM):
        settle()
        before = taken()
        measured = call()
        found.append((share_taken(before), measured))
    return min(found, key=lambda one: one[0])[1]


def turns(calls: Mapping[str, Callable[[], float]], unit: str, repeats: int) -> dict[str, Row]:
    """Call each in its turn, `repeats` times: what else the machine does falls on all of them."""
    values: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            values[name].append(calm(call))
            print(f"  {name}: {values[name][-1]:,.4g} {unit}", flush=True)
    return {name: Row(name, unit, found) for name, found in values.items()}


def elsewhere(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a module's function in a new process, whose memory holds nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def private_memory(process: int | str = "self") -> float:
    """MiB of a process that are its own, which mapped files are not.

    0 where it is gone, or still the image of its parent: until a child becomes another program,
    the memory that it shares with its parent counts as its own.
    """
    started = [Path("/proc") / str(one) / "cmdline" for one in ("self", process)]
    try:
        status = Path(f"/proc/{process}/status").read_text()
        if process != "self" and len({file.read_bytes() for file in started}) == 1:
            return 0.0
    except OSError:
        return 0.0
    anonymous = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return sum(int(line.split()[1]) for line in anonymous) / 2**10
