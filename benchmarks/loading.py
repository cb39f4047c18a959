"""From files to augmented batches: the first epoch, and those after it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.measure import Goal, Row, Section
from benchmarks.pictures import nih_folder
from cxr_lightning.config.compose import compose
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.decode_pool import available_cpus

OURS = "cxr_lightning"
EPOCHS = 10  # of later ones, where an epoch takes a tenth of a second


def measure(work: Path, repeats: int) -> Section:
    root, workers = nih_folder(work), available_cpus()
    caches = work / "caches"

    def monai(cache: Path | None) -> Any:
        return peers.monai(root, workers, cache)

    makers: dict[str, Callable[[], Any]] = {
        "torchxrayvision": lambda: peers.torchxrayvision(root, workers, "skimage"),
        "torchxrayvision, cv2 engine": lambda: peers.torchxrayvision(root, workers, "cv2"),
        "MONAI CacheDataset": lambda: monai(None),
        "MONAI PersistentDataset": lambda: monai(caches / "monai"),
        "torchvision on PIL": lambda: peers.torchvision(root, workers),
        "albumentations on cv2": lambda: peers.by_albumentations(root, workers),
    }
    first: dict[str, list[float]] = {}
    later: dict[str, list[float]] = {}
    grown: list[float] = []

    def note(rates: dict[str, list[float]], name: str, images: int, start: float) -> None:
        rates.setdefault(name, []).append(images / (time.perf_counter() - start))
        print(f"  {name}: {rates[name][-1]:,.0f} images/s", flush=True)

    for _ in range(repeats):
        for name, make in makers.items():
            shutil.rmtree(caches, ignore_errors=True)
            start = time.perf_counter()
            loader = make()
            note(first, name, drain(loader), start)
            start = time.perf_counter()
            note(later, name, drain(loader), start)
            del loader
        shutil.rmtree(caches, ignore_errors=True)
        start = time.perf_counter()
        data = module(root, caches)
        data.prepare()
        training = data.train_dataloader()
        images = sum(map(drain, (training, data.val_dataloader(), data.test_dataloader())))
        note(first, OURS, images, start)
        before = private_memory()
        start = time.perf_counter()
        images = 0
        for epoch in range(1, EPOCHS + 1):
            training.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            images += drain(training)
        note(later, OURS, images, start)
        grown.append((private_memory() - before) / 2**20)
    rows = [Row(f"{name}: first epoch", "images/s", rates) for name, rates in first.items()]
    rows += [Row(f"{name}: later epochs", "images/s", rates) for name, rates in later.items()]
    rows.append(Row("memory that later epochs took", "MiB", grown))

    def ratio(rates: dict[str, list[float]], peer: str) -> float:
        found = {row.name: row.median for row in (Row(*item) for item in as_rows(rates))}
        return found[OURS] / found[peer]

    goals = [
        Goal(f"first epoch, beside {peer}", ratio(first, peer), wanted, why=FIRST)
        for peer, wanted in (
            ("torchxrayvision", 5),
            ("torchvision on PIL", 2.5),
            ("albumentations on cv2", 1.9),
        )
    ]
    goals += [
        Goal(f"later epochs, beside {peer}", ratio(later, peer), wanted, why=LATER)
        for peer, wanted in (
            ("torchxrayvision", 100),
            ("MONAI CacheDataset", 8),
            ("MONAI PersistentDataset", 8),
        )
    ]
    goals.append(Goal("memory that later epochs took", max(grown), 16, "MiB", at_most=True))
    return Section("Loading", METHOD.format(workers=workers), rows, goals)


METHOD = (
    "600 PNG files of 1024 x 1024 pixels and about 400 KB (in the system's page cache, so that "
    "decoding is measured and not the disk) into batches of 32 at 224 pixels. The first epoch "
    "includes making the loader and whatever cache it builds; of cxr_lightning also reading, "
    "splitting and auditing the table, and one hash per image. Peers load with {workers} worker "
    "processes and augment (torchxrayvision does not); cxr_lightning augments (`standard`) in the "
    "main process, through its own data module and sampler, and decodes with {workers} processes."
)
FIRST = "Decoding is the cost, and of 600 files a second or so is the start of its processes."
LATER = "The warp of each image is the cost."


def module(root: Path, caches: Path) -> ChestXrayDataModule:
    words = ["data=nih", f"data.root={root}", "data.split=patient", f"data.cache_dir={caches}"]
    config = compose([*words, "augment=standard"])
    return ChestXrayDataModule(config.data, config.augment, seed=0)


def drain(loader: Iterable[Any]) -> int:
    """Take every batch and count its images."""
    images = 0
    for batch in loader:
        if isinstance(batch, dict):
            batch = batch["image"] if "image" in batch else batch["img"]
        images += len(batch)
    return images


def as_rows(rates: dict[str, list[float]]) -> Iterable[tuple[str, str, list[float]]]:
    return ((name, "images/s", values) for name, values in rates.items())


def private_memory() -> int:
    """Bytes of this process that are its own; mapped files are not."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0
