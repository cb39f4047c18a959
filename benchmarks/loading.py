"""From files to augmented batches: the first epoch, and those after it."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import peers
from benchmarks.fitting import data_module
from benchmarks.measure import Goal, Row, Section, calm
from benchmarks.pictures import nih_folder, nih_words
from cxr_lightning.config.compose import compose
from cxr_lightning.data.decode_pool import available_cpus
from cxr_lightning.models.network import Normalise

OURS, BYTES = "cxr_lightning", "cxr_lightning, before its normalisation"
Taken = tuple[int, Callable[[int], int]]
"""How many images a first epoch had, and what does a later one and counts its images."""
LATER = 3.0  # seconds of later epochs, whole ones; at least one


def measure(work: Path, repeats: int) -> Section:
    root, workers = nih_folder(work), available_cpus()
    caches = work / "caches"
    config = compose(nih_words(root, caches))
    image = config.data.image
    normalise = Normalise((image.mean,), (image.std,))
    monai = partial(peers.monai, root, workers)
    makers: dict[str, Callable[[], Iterable[Any]]] = {
        "torchxrayvision": lambda: peers.torchxrayvision(root, workers, "skimage"),
        "torchxrayvision, cv2 engine": lambda: peers.torchxrayvision(root, workers, "cv2"),
        "MONAI CacheDataset": monai,
        "MONAI CacheDataset, ThreadDataLoader": partial(monai, threaded=True),
        "MONAI PersistentDataset": partial(monai, cache=caches / "monai"),
        "torchvision on PIL": lambda: peers.torchvision(root, workers),
        "albumentations on cv2": lambda: peers.by_albumentations(root, workers),
    }
    first: dict[str, list[float]] = {}
    later: dict[str, list[float]] = {}

    def rates_of(first_epoch: Callable[[], Taken]) -> tuple[float, float]:
        shutil.rmtree(caches, ignore_errors=True)
        first_epoch()
        shutil.rmtree(caches, ignore_errors=True)
        os.sync()
        start = time.perf_counter()
        images, later_epoch = first_epoch()
        return images / (time.perf_counter() - start), later_rate(later_epoch)

    def by_peer(make: Callable[[], Iterable[Any]]) -> Taken:
        loader = make()
        return drain(loader), lambda epoch: drain(loader)

    def by_us(finished: Callable[[Iterable[Any]], Iterable[Any]]) -> Taken:
        data = data_module(config)
        data.prepare()
        training = data.train_dataloader()
        loaders = (training, data.val_dataloader(), data.test_dataloader())

        def epoch_of_training(epoch: int) -> int:
            training.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            return drain(finished(training))

        return sum(drain(finished(one)) for one in loaders), epoch_of_training

    calls: dict[str, Callable[[], Taken]] = {
        name: partial(by_peer, make) for name, make in makers.items()
    }
    calls |= {OURS: partial(by_us, partial(normalised, normalise)), BYTES: partial(by_us, iter)}
    for _ in range(repeats):
        for name, call in calls.items():
            rates = calm(partial(rates_of, call))
            for epochs, rate in zip((first, later), rates, strict=True):
                epochs.setdefault(name, []).append(rate)
            print(f"  {name}: {rates[0]:,.0f} images/s, then {rates[1]:,.0f}", flush=True)
    rows = [Row(f"{name}: first epoch", "images/s", rates) for name, rates in first.items()]
    rows += [Row(f"{name}: later epochs", "images/s", rates) for name, rates in later.items()]

    def ratio(rates: dict[str, list[float]], peer: str) -> float:
        return statistics.median(rates[OURS]) / statistics.median(rates[peer])

    fast = "torchxrayvision, cv2 engine"
    rows += [
        Row(f"first epoch, beside {fast}", "x", [ratio(first, fast)]),
        Row(f"later epochs, beside {fast}", "x", [ratio(later, fast)]),
    ]
    goals = [
        Goal(f"first epoch, beside {peer}", ratio(first, peer), wanted, why=WHY_FIRST)
        for peer, wanted in (
            ("torchxrayvision", 5),
            ("torchvision on PIL", 2.5),
            ("albumentations on cv2", 1.9),
        )
    ]
    goals += [
        Goal(f"later epochs, beside {peer}", ratio(later, peer), wanted, why=WHY_LATER)
        for peer, wanted in (
            ("torchxrayvision", 100),
            ("MONAI CacheDataset", 8),
            ("MONAI CacheDataset, ThreadDataLoader", 8),
            ("MONAI PersistentDataset", 8),
        )
    ]
    return Section("Loading", METHOD.format(workers=workers), rows, goals)


METHOD = (
    "600 PNG files of 1024 x 1024 pixels and about 400 KB into batches of 32 at 224 pixels, as "
    "normalised float32. Each loader does its first epoch once before, untimed, and the cache of "
    "that is removed: files and programs are in the system's page cache then, and imports done, so "
    "that decoding is measured and not the disk. The first epoch includes making the loader and "
    "whatever cache it builds; of cxr_lightning also reading, splitting and auditing the table, "
    "and one hash per image. Its first epoch is of training, validation and test images, of which "
    "the first are augmented; its later ones are of training images. Later epochs are whole ones, "
    f"for {LATER:.0f} seconds. "
    "Peers load with {workers} worker processes of one thread each, which stay, and MONAI's "
    "ThreadDataLoader in a thread, as its fast training guide has it; they augment all images by "
    "turns, zooms and exposure with the same chances, and but for MONAI by shifts (torchxrayvision "
    "does not augment at all), and, but for torchxrayvision, read no labels. torchxrayvision's "
    "default engine is compared, as it is what its documentation shows; the ratios beside its "
    "quicker one are given as well. Reading the configuration is not timed. cxr_lightning delivers "
    "targets as well, augments (`standard`) in the main process, through its own data module and "
    "sampler, and decodes with {workers} processes. Its batches are bytes, which the network "
    "normalises: that is done here too, by the same code on one thread, except in the rows that "
    "say so. Both it and albumentations shrink by averages over areas, as OpenCV's INTER_AREA has "
    "them."
)
WHY_FIRST = "Decoding is the cost, and of 600 files a part is the start of its processes."
WHY_LATER = "The warp of each image is the cost."


def later_rate(epoch: Callable[[int], int]) -> float:
    """Run whole epochs for `LATER` seconds, and return images per second."""
    start, number, images = time.perf_counter(), 0, 0
    while time.perf_counter() - start < LATER:
        number += 1
        images += epoch(number)
    return images / (time.perf_counter() - start)


def drain(loader: Iterable[Any]) -> int:
    """Take every batch and count its images."""
    images = 0
    for batch in loader:
        if isinstance(batch, dict):
            batch = batch["image"] if "image" in batch else batch["img"]
        images += len(batch)
    return images


def normalised(normalise: Normalise, loader: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Batches as the network's first layer takes them.

    On one thread, as in the others' worker processes: torch's further threads would go on spinning
    for milliseconds after each batch, on cores that the next one needs.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for batch in loader:
            yield normalise(batch["image"])
    finally:
        torch.set_num_threads(threads)
