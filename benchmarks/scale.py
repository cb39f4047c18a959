"""A whole data set: its table, its cache, and how soon a run starts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.fitting import data_module, run_words
from benchmarks.measure import Goal, Row, Section, elsewhere, private_memory, seconds, turns
from benchmarks.pictures import IMAGES, PATIENTS, nih_folder, whole_folder
from cxr_lightning.config.compose import compose
from cxr_lightning.data.cache import ImageCache
from cxr_lightning.whole_file import whole_file

SLOTS, SIDE = 8192, 512  # 2 GiB

FIRST_STEP = """
import sys, time
from lightning.pytorch import Callback
from cxr_lightning.config.compose import compose
from cxr_lightning.config.schema import Config
from cxr_lightning.training import run_fit
class FirstStep(Callback):
    def on_train_batch_end(self, *arguments):
        print("first step", time.time(), flush=True)
        raise KeyboardInterrupt
run_fit(compose(sys.argv[1:]), [FirstStep()])
"""


def measure(work: Path, repeats: int) -> Section:
    few, whole = few_words(work), whole_words(work)
    for words in (few, whole):
        data_module(compose(words)).prepare()
    cache = big_cache(work)
    generator = np.random.default_rng(0)
    grown: list[float] = []

    def read(count: int) -> float:
        batches = generator.choice(SLOTS, (count // 32, 32), replace=False)
        before = private_memory()
        taken = seconds(lambda: [len(cache.read(batch)) for batch in batches])
        grown.append(private_memory() - before)
        return count / taken

    def cold() -> float:
        cache.__dict__.pop("_mapped", None)  # pages of a mapping are not forgotten
        with (cache.folder / "pixels.u8").open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return read(2048)

    def warm() -> float:
        with (cache.folder / "pixels.u8").open("rb") as file:
            while file.read(2**24):
                pass
        return read(2048)

    runs = work / "start"  # with a database since the first run there
    shutil.rmtree(runs, ignore_errors=True)
    runs.mkdir(parents=True)
    first_step(few, runs)
    held = {
        f"the table of {IMAGES:,} images: read, validated, encoded, split, audited": (
            lambda: seconds(data_module(compose(whole)).read)
        ),
        "`fit --help`": lambda: seconds(lambda: run(["-m", "cxr_lightning.fit", "--help"])),
        "`sweep --help`": lambda: seconds(lambda: run(["-m", "cxr_lightning.sweep", "--help"])),
        "start to first step, 600 images at 224 pixels": lambda: first_step(few, runs),
        f"start to first step, {IMAGES:,} images at 32 pixels": lambda: first_step(whole, runs),
    }
    rows = turns({name: partial(again, call) for name, call in held.items()}, "s", repeats)
    reads = turns({"512-px images at random, warm": warm, "the same, not in memory": cold},
                  "images/s", repeats)  # fmt: skip
    limits = (0.5, 1.0, 1.0, 10.0, 10.0)
    goals = [
        Goal(name, row.median, limit, "s", at_most=True, why=why)
        for (name, row), limit, why in zip(rows.items(), limits, WHY, strict=True)
    ]
    quarter = [*whole, f"data.max_patients={PATIENTS // 4}"]
    later = turns(
        {
            "private memory of later epochs, a quarter of the images": (
                lambda: elsewhere(taken_by_epochs, quarter)
            ),
            "private memory of later epochs, all images": lambda: elsewhere(taken_by_epochs, whole),
        },
        "MiB", repeats,
    )  # fmt: skip
    part, all_of_it = (row.median for row in later.values())
    goals += [
        Goal("memory kept after 2,048 random reads", max(grown), 64, "MiB", at_most=True),
        Goal("memory of later epochs, all images beside a quarter", all_of_it - part, 16, "MiB",
             at_most=True),
    ]  # fmt: skip
    read_memory = Row("memory kept after 2,048 random reads", "MiB", grown)
    rows_of_all = [*rows.values(), *reads.values(), read_memory, *later.values()]
    return Section("Scale", METHOD, rows_of_all, goals)


METHOD = (
    f"A synthetic ChestX-ray14: {IMAGES:,} images of {PATIENTS:,} patients in one folder, with "
    "official lists, each a PNG file of 32 x 32 pixels. What takes seconds was done once before, "
    "untimed, so that programs and tables are in the system's page cache. Start to first step is "
    "from the start of Python, with simple_cnn, a warm cache and the MLflow database of an earlier "
    "run: imports, the table, a `stat` of each file, the audit of all content hashes, the first "
    "step of training. Later epochs are two of that data set through the loader, "
    "`augment=standard`; their memory is the most that was seen beyond that after the first one, "
    "when the table is held already. Random reads are batches of 32 from a "
    f"{SLOTS * SIDE * SIDE / 2**30:.0f} GiB cache, once with the file in the "
    "system's page cache, once after it was asked to forget it: that stands for a cache larger "
    "than memory, at the speed of this machine's disk (or of its host's memory)."
)
IMPORTS = "Imports of torch, lightning, torchmetrics and mlflow take most of it"
WHY = (
    "Half is reading table, lists and folder, half checking, splitting and the fingerprint.",
    "Starting Python and importing pydantic and hydra take most of it.",
    "The same, and reading the space of conf/sweep.",
    f"{IMPORTS}.",
    f"{IMPORTS}; then come the table, and a `stat` of every file.",
)


def few_words(work: Path) -> list[str]:
    return ["data=nih", f"data.root={nih_folder(work)}", "data.split=patient",
            f"data.cache_dir={work / 'caches'}"]  # fmt: skip


def whole_words(work: Path) -> list[str]:
    return ["data=nih", f"data.root={whole_folder(work)}", "data.image.size=32",
            f"data.cache_dir={work / 'caches-scale'}"]  # fmt: skip


def taken_by_epochs(words: list[str]) -> float:
    loader = data_module(compose(words)).train_dataloader()
    deque(loader, maxlen=0)
    peak = before = private_memory()
    for epoch in (1, 2):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for _ in loader:
            peak = max(peak, private_memory())
    return peak - before


def big_cache(work: Path) -> ImageCache:
    folder = work / "cache-512"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pixels.u8"
    if not file.is_file():
        generator = np.random.default_rng(0)
        with whole_file(file) as partial, partial.open("wb") as out:
            for _ in range(SLOTS // 64):
                out.write(generator.bytes(64 * SIDE * SIDE))
            os.fsync(out.fileno())
    none = np.zeros(SLOTS, np.int64)
    return ImageCache(
        folder=folder,
        shape=(SLOTS, SIDE, SIDE),
        rows=np.arange(SLOTS),
        content_hash=none.astype(np.uint64),
        source_shape=np.zeros((SLOTS, 2), np.int64),
        bad=(),
        decoded=0,
    )


def again(call: Callable[[], float]) -> float:
    """Call twice and return the second result: programs and files are in the page cache then.

    A virtual machine may give pages back that were not used for seconds.
    """
    call()
    return call()


def run(arguments: list[str]) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode not in (0, -signal.SIGINT):  # after its first step a run ends as by Ctrl-C
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{said}")
    return said


def first_step(words: list[str], runs: Path) -> float:
    shutil.rmtree(runs / "run", ignore_errors=True)
    start = time.time()
    said = run(["-c", FIRST_STEP, *words, *run_words(runs)])
    marked = [line for line in said.splitlines() if line.startswith("first step")]
    if not marked:
        raise RuntimeError(f"no step was made:\n{said}")
    return float(marked[0].split()[2]) - start
