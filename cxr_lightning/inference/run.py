"""What `predict` does: read, compute, write, and say what became of every image."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cxr_lightning.bundle import BundleInfo
from cxr_lightning.data.decode_stream import Decoded, decode_stream
from cxr_lightning.inference.beside import BesideTable, wanted_columns
from cxr_lightning.inference.options import ERRORS, SUFFIXES, PredictOptions, TableFormat
from cxr_lightning.inference.overlays import Draw, OverlayWriter
from cxr_lightning.inference.predictor import (
    FLAGS,
    Predicted,
    Predictor,
    nothing_predicted,
    prediction_table,
)
from cxr_lightning.inference.runtimes import open_runtime, torch_device
from cxr_lightning.inference.sources import image_paths, open_ended
from cxr_lightning.inference.writers import ErrorList, open_table, printable

__all__ = ["predict"]


def predict(
    options: PredictOptions,
    *,
    draw: Draw | None = None,
    stdin: TextIO | None = None,
    stdout: TextIO | None = None,
) -> int:
    """Predict all images that `options` name; return how many could not be read.

    `draw` makes the heat maps that `options.overlays` asks for.

    Raises
    ------
    ConfigError, DataError
        Before anything is written; of an image, only its row is missing.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    info, compute = open_runtime(
        options.bundle,
        runtime=options.runtime,
        network=options.network,
        device=options.device,
        precision=options.precision,
    )
    predictor = Predictor(info, compute)
    beside = BesideTable(info.tabular, options.table)
    paths: Iterable[str] = image_paths(options.input, stdin or sys.stdin)
    if not open_ended(options.input):
        paths = list(paths)
    overlays = None
    if options.overlays is not None and draw is not None:
        device = torch_device(options.device)
        overlays = OverlayWriter(options.bundle, options.overlays, draw, device=device)
    _say_before(console, info, options)
    if isinstance(paths, list):
        beside.rows(paths)  # refuses before anything is written
    errors = ErrorList((options.output.parent if options.output else Path()) / ERRORS)
    counts: Counter[str] = Counter()
    decoded = decode_stream(paths, info.image, processes=options.processes)
    total = len(paths) if isinstance(paths, list) else None
    with (
        open_table(options.output, _format(options), stdout or sys.stdout) as write,
        _progress(console) as bar,
    ):
        task = bar.add_task("Predicting", total=total)
        for batch, seen in _batches(decoded, options.batch_size, errors):
            if batch:
                names = [one.path for one in batch]
                pixels = np.stack([one.pixels for one in batch if one.pixels is not None])
                tabular = beside.of(names)
                predicted = predictor(pixels, tabular)
                folders = None
                if overlays is not None:
                    folders = overlays.write(names, pixels, tabular, predicted)
                write(_table(names, predicted, folders, info))
                counts["images"] += len(batch)
                counts.update(flag for flags in predicted.flags for flag in flags)
            bar.advance(task, seen)
        if not counts["images"]:  # a table all the same, with its columns
            none: list[str] | None = None if overlays is None else []
            write(_table([], nothing_predicted(info), none, info))
    _say_after(console, counts, errors, beside, options)
    if overlays is not None:
        console.print(f"{overlays.written:,} heat maps in {options.overlays}")
    return errors.count


def _table(
    names: list[str], predicted: Predicted, folders: list[str] | None, info: BundleInfo
) -> pd.DataFrame:
    """Return the rows of a batch: path, where its heat maps are (if any are asked), prediction."""
    table = prediction_table(predicted, info)
    table.insert(0, "path", pd.Series([*map(printable, names)], dtype="str"))
    if folders is not None:
        table.insert(1, "overlays", pd.Series([*map(printable, folders)], dtype="str"))
    return table


def _batches(
    decoded: Iterator[Decoded], size: int, errors: ErrorList
) -> Iterator[tuple[list[Decoded], int]]:
    """Yield readable images in batches, and how many paths each took; list the others."""
    batch: list[Decoded] = []
    seen = 0
    for one in decoded:
        seen += 1
        if one.pixels is None:
            errors.add(one.path, str(one.reason))
        else:
            batch.append(one)
        if len(batch) == size or seen == 4 * size:
            yield batch, seen
            batch, seen = [], 0
    yield batch, seen


def _format(options: PredictOptions) -> TableFormat:
    named = SUFFIXES.get(options.output.suffix.lower()) if options.output else None
    return options.format or named or "csv"


def _say_before(console: Console, info: BundleInfo, options: PredictOptions) -> None:
    if info.provenance.get("data") == "phantom":
        console.print(
            "This bundle was trained on synthetic radiographs: no number that it gives says "
            "anything about patients.",
            style="yellow",
        )
    if info.tabular.columns and options.table is None:
        console.print(
            f"This network takes {', '.join(wanted_columns(info.tabular)) or 'previous labels'} "
            "beside the image; without table=FILE they count as missing for every image.",
            style="yellow",
        )
    fitted = dict(zip(info.thresholds.labels, info.thresholds.fitted, strict=True))
    if unfitted := [label for label in info.labels if not fitted[label]]:
        console.print(
            f"Validation held one class only of {', '.join(unfitted)}: no threshold was fitted, "
            "and `calibrated` is the plain probability.",
            style="yellow",
        )
    if info.familiarity is None:
        console.print(
            "This bundle does not describe its training images: images unlike them, and inverted "
            "ones, are not flagged.",
            style="yellow",
        )
    elif info.familiarity.validation * (1 - info.familiarity.quantile) < 1:
        console.print(
            f"What counts as unfamiliar was learnt from {info.familiarity.validation:,} validation "
            "images, which are few: images unlike them may go unflagged, and others be flagged.",
            style="yellow",
        )


def _say_after(
    console: Console,
    counts: Counter[str],
    errors: ErrorList,
    beside: BesideTable,
    options: PredictOptions,
) -> None:
    where = f" in {options.output}" if options.output else ""
    console.print(f"{_images(counts['images'])} predicted{where}")
    flagged = [f"{counts[flag]:,} {flag}" for flag in FLAGS if counts[flag]]
    if flagged:
        console.print(f"flagged as unlike the training images: {', '.join(flagged)}")
    if beside.without and options.table is not None:
        console.print(
            f"{_images(beside.without)} without a row in {options.table}: the inputs beside the "
            "image count as missing",
            style="yellow",
        )
    if errors.count:
        console.print(
            f"{_images(errors.count)} could not be read; see {errors.file}", style="bold red"
        )


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
