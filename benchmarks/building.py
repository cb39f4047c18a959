"""Building an image cache: in constant memory, and resumed after a kill."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.measure import Goal, Row, Section, calm, elsewhere, private_memory, settle
from benchmarks.pictures import nih_folder
from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data.cache import COMMIT_SECONDS, ImageCache, open_cache
from cxr_lightning.data.cache_files import FILLED, CacheFiles

IMAGE = ImageConfig()
COPIES = 4
METHOD = (
    "600 PNG files of 1024 x 1024 pixels, and the same under four names each, into a cache at "
    f"{IMAGE.size} pixels. Memory is the private one of the building process and its decoders, the "
    "most that was seen in 10 ms steps, each time in a new process. A build of the larger set is "
    "killed (SIGKILL) once a quarter is on record and the next commit is due, then run again: a "
    "picture whose pixels were there but not on record is decoded twice, one on record is not."
)
WHY_LOST = (
    f"Records follow their pixels to the disk every {COMMIT_SECONDS:.0f} s; the rest is its sync."
)


def measure(work: Path, repeats: int) -> Section:
    rates: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    lost: list[float] = []
    again: list[float] = []
    files = sorted((nih_folder(work) / "images").iterdir())
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(dir=work) as folder:
            more = linked(files, Path(folder))
            for name, paths in (("600 images", [*map(str, files)]), ("2,400 images", more)):
                peak, rate = calm(partial(elsewhere, anew, paths, Path(folder) / name))
                print(f"  {name}: {rate:,.0f} images/s, {peak:,.1f} MiB", flush=True)
                rates.setdefault(name, []).append(rate)
                peaks.setdefault(name, []).append(peak)
            settle()
            drawn, recorded, decoded = killed(more, Path(folder) / "killed")
        lost.append((drawn - recorded) / rates["2,400 images"][-1])
        again.append(decoded - (len(more) - recorded))
        print(f"  killed: {drawn} decoded, {recorded} on record, then {decoded}", flush=True)
    rows = [Row(f"building, {name}", "images/s", values) for name, values in rates.items()]
    memory = [Row(f"private memory, {name}", "MiB", values) for name, values in peaks.items()]
    rows += [*memory, Row("work that a kill cost", "s", lost)]
    grown = memory[1].median - memory[0].median
    goals = [
        Goal("memory for 2,400 images, beyond that for 600", grown, 8, "MiB", at_most=True),
        Goal("images on record that were decoded again", max(again), 0, "", at_most=True),
        Goal("work that a kill cost", max(lost), 2, "s", at_most=True, why=WHY_LOST),
    ]
    return Section("Building a cache", METHOD, rows, goals)


def linked(files: Sequence[Path], folder: Path) -> list[str]:
    """Give each file further names."""
    paths = [folder / str(copy) / file.name for copy in range(COPIES) for file in files]
    for copy in range(COPIES):
        (folder / str(copy)).mkdir()
    for index, path in enumerate(paths):
        os.link(files[index % len(files)], path)
    return [*map(str, paths)]


def build(paths: list[str], cache: Path) -> ImageCache:
    return open_cache(paths, image=IMAGE, cache_dir=cache, progress=False)


def anew(paths: list[str], cache: Path) -> tuple[float, float]:
    """Return the most private memory, in MiB, and images/s of a build from nothing."""
    shutil.rmtree(cache, ignore_errors=True)
    over, peak = threading.Event(), [0.0]

    def watch() -> None:
        while not over.wait(0.01):
            children: list[str] = []
            for file in Path("/proc/self/task").glob("*/children"):
                with contextlib.suppress(OSError):  # a thread that has just ended
                    children += file.read_text().split()
            peak[0] = max(peak[0], sum(map(private_memory, ["self", *children])))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        build(paths, cache)
    finally:
        taken = time.perf_counter() - start
        over.set()
        watcher.join()
    return peak[0], len(paths) / taken


def killed(paths: list[str], cache: Path) -> tuple[int, int, int]:
    """Return how many pictures a killed build drew, how many it recorded, and the next decodes."""
    files = CacheFiles.locate(paths, IMAGE, cache)

    def recorded() -> int:
        return int((files.entries()["status"] == FILLED).sum()) if files.exist() else 0

    process = get_context("spawn").Process(target=build, args=(paths, cache))
    process.start()
    while process.is_alive() and recorded() < len(paths) / 4:
        time.sleep(0.01)
    time.sleep(0.9 * COMMIT_SECONDS)
    process.kill()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        raise RuntimeError(f"nothing to kill: {len(paths):,} images were built before; add COPIES")
    time.sleep(0.5)  # its decoders end by themselves
    pixels = np.memmap(files.pixels, np.uint8, "r", shape=files.shape)
    drawn = sum(bool(picture.any()) for picture in pixels)
    return drawn, recorded(), build(paths, cache).decoded
