"""Measure the image cache: cold build against plain decoding loops, and warm random reads.

    python benchmarks/bench_cache.py [--images 150] [--side 1024] [--size 224] [--repeats 5]

The pictures are synthetic: smooth anatomy plus film grain, which makes PNG files of NIH's size
(about 380 KB at 1024 x 1024, 8 bits). "Cold" is a cache that does not exist yet; the files
themselves are in the page cache of the operating system, so that decoding is measured and not the
disk. All rows of the table come from one run, interleaved, so that their ratios hold on a machine
with other load.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data.cache import ImageCache, open_cache
from cxr_lightning.data.images import read_resized


def radiograph(side: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Draw something as compressible as a chest radiograph of (side, side) pixels."""
    smooth = cv2.resize(
        generator.normal(size=(8, 8)).astype(np.float32),
        (side, side),
        interpolation=cv2.INTER_CUBIC,
    )
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    lungs = np.exp(-((((np.abs(x) - 0.42) / 0.3) ** 2 + ((y - 0.05) / 0.65) ** 2) ** 2))
    ribs = np.sin(14 * np.pi * (y + 0.25 * x**2))
    grain = generator.normal(size=(side, side)).astype(np.float32)
    grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), 0.8), np.float32)
    grey = 150 - 70 * lungs + 18 * smooth + 12 * ribs + 5.5 * grain
    return np.asarray(grey.clip(0, 255), np.uint8)


def write_pictures(folder: Path, count: int, side: int) -> list[Path]:
    """Write `count` PNG files, of which every eighth is a new picture."""
    generator = np.random.default_rng(0)
    paths = [folder / f"{index:06d}.png" for index in range(count)]
    encoded = b""
    for index, path in enumerate(paths):
        if index % 8 == 0:
            encoded = cv2.imencode(".png", radiograph(side, generator))[1].tobytes()
        path.write_bytes(encoded)
    return paths


def with_pillow(path: Path, image: ImageConfig) -> NDArray[np.uint8]:
    """Decode and resize as torchvision's datasets do."""
    with Image.open(path) as picture:
        size = (image.size, image.size)
        return np.asarray(picture.convert("L").resize(size, Image.Resampling.BILINEAR))


def with_opencv(path: Path, image: ImageConfig) -> NDArray[np.uint8]:
    """Decode and resize as albumentations' documentation does."""
    picture = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    size = (image.size, image.size)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def read_randomly(cache: ImageCache, generator: np.random.Generator) -> None:
    """Read 200 batches of 32."""
    for rows in generator.choice(cache.rows, size=(200, 32)):
        cache.read(rows)


def seconds(call: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--side", type=int, default=1024, help="of the source pictures, pixels")
    parser.add_argument("--size", type=int, default=224, help="of the cached pictures, pixels")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", type=int, default=None, help="none: one for each CPU")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    image = ImageConfig(size=options.size)
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder), options.images, options.side)
        kilobytes = statistics.mean(path.stat().st_size for path in paths) / 1000
        few = paths[:40]
        caches = Path(folder) / "caches"

        def build() -> ImageCache:
            return open_cache(
                paths, image=image, cache_dir=caches, processes=options.processes, progress=False
            )

        def note(name: str, images: int, call: Callable[[], object]) -> None:
            times.setdefault(name, []).append(images / seconds(call))

        generator = np.random.default_rng(0)
        for _ in range(options.repeats):
            shutil.rmtree(caches, ignore_errors=True)
            note("Pillow, 1 process", 40, lambda: [with_pillow(path, image) for path in few])
            note("OpenCV, 1 process", 40, lambda: [with_opencv(path, image) for path in few])
            note("read_resized, 1 process", 40, lambda: [read_resized(path, image) for path in few])
            note("open_cache, cold (with start-up)", len(paths), build)
            note("open_cache, warm", len(paths), build)
            note("read, random batches of 32", 6400, partial(read_randomly, build(), generator))
    reference = statistics.median(times["Pillow, 1 process"])
    table = Table(
        title=f"{options.images} PNG files of {options.side} px, {kilobytes:.0f} KB, to "
        f"{options.size} px; {os.cpu_count()} CPUs, {options.repeats} repeats"
    )
    for column in ("path", "images/s, median", "lowest", "highest", "ratio to Pillow"):
        table.add_column(column, justify="left" if column == "path" else "right")
    for name, rates in times.items():
        median = statistics.median(rates)
        cells = (f"{value:,.0f}" for value in (median, min(rates), max(rates)))
        table.add_row(name, *cells, f"{median / reference:,.1f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
