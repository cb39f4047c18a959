"""`make bench`: what it saves, what its page says, and that every section is there."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

import benchmarks.__main__ as command
from benchmarks import gpu, measure
from benchmarks.measure import Goal, Row, Section, private_memory
from benchmarks.page import write_page

FASTER = Goal("ratio", 2.0, 3.0, why="The disk.")
SMALLER = Goal("memory", 12.0, 16.0, "MiB", at_most=True)
SECTION = Section(
    "Loading",
    "How.",
    [Row("ours", "images/s", [300.0, 100.0, 1234.0])],
    [FASTER, SMALLER],
    unmeasured=["A disk: none here."],
    origin=["Commit abc1234 with changes, 2026-01-31", "2 cores of a processor"],
)


@pytest.mark.parametrize(
    ("measured", "at_most", "met"),
    [
        (2.9, False, False),
        (3.0, False, True),
        (3.1, False, True),
        (2.9, True, True),
        (3.0, True, True),
        (3.1, True, False),
        (float("nan"), False, False),
        (float("nan"), True, False),
    ],
)
def test_a_goal_is_met_on_its_side_of_what_is_wanted(
    measured: float, at_most: bool, met: bool
) -> None:
    assert Goal("it", measured, 3.0, at_most=at_most).met is met


def test_a_saved_section_is_read_back_whole(tmp_path: Path) -> None:
    SECTION.save(tmp_path / "deeper" / "loading.json")
    assert Section.load(tmp_path / "deeper" / "loading.json") == SECTION


def test_the_page_says_what_is_missed_failed_and_not_measured(tmp_path: Path) -> None:
    failed = Section("Scale", "", [], [], failed="OSError: disk full", origin=["Commit def5678"])
    write_page([SECTION, failed], tmp_path / "RESULTS.md")
    _, _, page = (tmp_path / "RESULTS.md").read_text().partition("## Below its goal")
    assert page == (
        """

- Scale failed: OSError: disk full
- ratio: 2 x, wanted at least 3. The disk.

## Not measured

- A disk: none here.

## Loading

How.

| what | median | lowest | highest | runs |  |
|---|---:|---:|---:|---:|---|
| ours | 300 | 100 | 1,234 | 3 | images/s |

| goal | wanted | measured |  |
|---|---:|---:|---|
| ratio | at least 3 x | 2 x | missed |
| memory | at most 16 MiB | 12 MiB | met |

Commit abc1234 with changes, 2026-01-31. 2 cores of a processor.

## Scale

Failed: OSError: disk full

Commit def5678.
"""
    )


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"rows": [], "goals": [{"why": ""}]}'])
def test_a_saved_section_that_cannot_be_read_counts_as_failed(tmp_path: Path, text: str) -> None:
    (tmp_path / "scale.json").write_text(text)
    section = Section.load(tmp_path / "scale.json")
    assert (section.title, section.rows) == ("Scale", [])
    assert section.failed.startswith("scale.json cannot be read (")
    write_page([section], tmp_path / "RESULTS.md")
    assert f"## Scale\n\nFailed: {section.failed}\n" in (tmp_path / "RESULTS.md").read_text()


def test_a_page_without_misses_says_so(tmp_path: Path) -> None:
    write_page([Section("Scale", "How.", [], [SMALLER])], tmp_path / "RESULTS.md")
    assert "## Below its goal\n\nNothing.\n\n## Scale" in (tmp_path / "RESULTS.md").read_text()


def test_the_page_is_that_of_the_saved_sections(tmp_path: Path) -> None:
    files = [command.saved(command.PAGE, name) for name in command.SECTIONS]
    assert [file.name for file in files if not file.is_file()] == []
    write_page([Section.load(file) for file in files], tmp_path / "RESULTS.md")
    assert (tmp_path / "RESULTS.md").read_text() == command.PAGE.read_text()


@pytest.mark.parametrize("name", command.SECTIONS)
def test_every_section_measures(name: str) -> None:
    section = importlib.import_module(f"benchmarks.{name}")
    assert list(inspect.signature(section.measure).parameters) == ["work", "repeats"]


def test_a_section_measured_alone_joins_the_others_and_a_failure_leaves_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # There is no such section, so that its process ends with an error at once.
    monkeypatch.setattr(command, "SECTIONS", ("loading", "nothing"))
    page = tmp_path / "RESULTS.md"
    words = ["benchmarks", "nothing", "--work", str(tmp_path), "--page", str(page)]
    monkeypatch.setattr("sys.argv", words)
    for name in command.SECTIONS:
        SECTION.save(command.saved(page, name))
    assert command.main() == 1
    assert re.findall("^## (.*)", page.read_text(), re.MULTILINE)[2:] == ["Loading", "Nothing"]
    last = "ModuleNotFoundError: No module named 'benchmarks.nothing'"
    assert f"- Nothing failed: {last}" in page.read_text()
    assert Section.load(command.saved(page, "nothing")).rows == []
    assert last in capfd.readouterr().err


def test_without_a_gpu_the_section_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    section = gpu.measure(tmp_path, 1)
    assert section.rows == []
    assert "no GPU on this machine" in section.unmeasured[0]


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ([5], 1),  # nothing to repeat
        ([30, 5], 2),
        ([30, 40, 20, 0], 3),  # the last of three, which is the calmest of them
        ([20, 40, 30, 0], 1),
    ],
)
def test_what_the_host_disturbed_is_measured_again(
    missing: list[int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = [(0.0, 0.0)]
    for share in missing:
        ticks.append((ticks[-1][0] + 100, ticks[-1][1] + share))
    made: list[int] = []
    monkeypatch.setattr(measure, "taken", lambda: ticks[len(made)])
    monkeypatch.setattr(measure, "settle", lambda: None)

    def call() -> int:
        made.append(1)
        return len(made)

    assert measure.calm(call) == expected


def test_a_measurement_waits_for_a_calm_host(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter((0.5, 0.3, 0.05, 0.5))
    slept: list[float] = []
    monkeypatch.setattr(measure, "share_taken", lambda before: next(shares))
    monkeypatch.setattr("time.sleep", slept.append)
    measure.settle()
    assert len(slept) == 2
    assert next(shares) == 0.5  # it looked three times


def test_processor_time_that_is_missing_is_a_part_of_what_was_wanted() -> None:
    before = measure.taken()
    sum(range(10**7))
    assert measure.taken()[0] > before[0]
    assert 0 <= measure.share_taken(before) <= 1


def test_private_memory_is_that_of_a_process_and_0_of_none() -> None:
    assert 10 < private_memory() < 100_000
    assert private_memory("no process") == 0
