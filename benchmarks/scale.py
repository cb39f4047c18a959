"""A whole data set: its table, its cache, and how soon a run starts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.loading import module, private_memory
from benchmarks.measure import Goal, Section, seconds, turns
from benchmarks.pictures import nih_folder, nih_table
from cxr_lightning.config.compose import compose
from cxr_lightning.config.schema import Config
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.cache import ImageCache

IMAGES, PATIENTS = 112_120, 30_805  # of ChestX-ray14
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
    table, root, caches = big_table(work), nih_folder(work), work / "caches"
    module(root, caches).prepare()
    cache = big_cache(work)
    generator = np.random.default_rng(0)
    grown: list[float] = []

    def read(count: int) -> float:
        batches = generator.choice(SLOTS, (count // 32, 32), replace=False)
        before = private_memory()
        taken = seconds(lambda: [len(cache.read(batch)) for batch in batches])
        grown.append((private_memory() - before) / 2**20)
        return count / taken

    def cold() -> float:
        with (cache.folder / "pixels.u8").open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        cache.__dict__.pop("_mapped", None)  # a mapping holds its pages
        return read(2048)

    def warm() -> float:
        with (cache.folder / "pixels.u8").open("rb") as file:
            while file.read(2**24):
                pass
        return read(2048)

    held = {
        "the table of 112,120 images: read, validated, encoded, split, audited": (
            lambda: seconds(lambda: ChestXrayDataModule(table.data, table.augment, seed=0).read())
        ),
        "`fit --help`": lambda: seconds(lambda: run(["-m", "cxr_lightning.fit", "--help"])),
        "start to first step with a warm cache": lambda: first_step(root, caches),
    }
    rows = turns(held, "s", repeats)
    reads = turns({"512-px images at random, warm": warm, "the same, not in memory": cold},
                  "images/s", repeats)  # fmt: skip
    wanted = (0.5, 1.0, 10.0)
    goals = [
        Goal(name, row.median, limit, "s", at_most=True, why=WHY[index])
        for index, ((name, row), limit) in enumerate(zip(rows.items(), wanted, strict=True))
    ]
    goals.append(Goal("memory that 2,048 random reads took", max(grown), 64, "MiB", at_most=True))
    return Section("Scale", METHOD, [*rows.values(), *reads.values()], goals)


METHOD = (
    "The table is synthetic and as large as ChestX-ray14's, with official lists. Random reads are "
    f"batches of 32 from a {SLOTS * SIDE * SIDE / 2**30:.0f} GiB cache, once with the file in the "
    "system's page cache, once after it was asked to forget it: that is how a cache larger than "
    "memory is read, at the speed of this machine's disk (or of its host's memory)."
)
WHY = (
    "Half is reading table, lists and folder, half checking, splitting and the fingerprint.",
    "Starting Python and importing pydantic and hydra take most of it.",
    "Imports of torch, lightning, timm and mlflow, and MLflow's new database.",
)


def big_table(work: Path) -> Config:
    folder = work / "nih-table"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "test_list.txt").is_file():
        rows = nih_table(IMAGES, PATIENTS, np.random.default_rng(0))
        rows.to_csv(folder / "Data_Entry_2017.csv", index=False)
        test = rows["Patient ID"] % 4 == 0
        for name, part in (("train_val_list.txt", rows[~test]), ("test_list.txt", rows[test])):
            (folder / name).write_text("\n".join(part["Image Index"]) + "\n")
    return compose(["data=nih", f"data.root={folder}"])


def big_cache(work: Path) -> ImageCache:
    folder = work / "cache-512"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pixels.u8"
    if not file.is_file():
        generator = np.random.default_rng(0)
        with file.open("wb") as out:
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


def run(arguments: list[str]) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def first_step(root: Path, caches: Path) -> float:
    words = ["data=nih", f"data.root={root}", "data.split=patient", f"data.cache_dir={caches}"]
    with tempfile.TemporaryDirectory() as folder:
        runs = [f"run.dir={folder}/run", f"run.tracking_uri=sqlite:///{folder}/mlflow.db"]
        start = time.time()
        said = run(["-c", FIRST_STEP, *words, *runs])
    marked = [line for line in said.splitlines() if line.startswith("first step")]
    if not marked:
        raise SystemExit(f"no step was made:\n{said}")
    return float(marked[0].split()[2]) - start
