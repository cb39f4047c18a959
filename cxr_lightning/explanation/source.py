"""The images that are explained: drawn from a split, prepared as the bundle says, with boxes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_lightning.bundle import BundleInfo
from cxr_lightning.config.schema import DataConfig, ImageConfig
from cxr_lightning.data.cache import ImageCache, open_cache
from cxr_lightning.data.cohort import Cohort, build_cohort
from cxr_lightning.data.images import Placement, placement, read_image
from cxr_lightning.data.nih import BOX_SPACE, read_boxes
from cxr_lightning.data.previous import PREVIOUS
from cxr_lightning.data.seen import UNSEEN, why_untold
from cxr_lightning.errors import ConfigError, DataError, bullet_list, nearest
from cxr_lightning.explanation.options import ExplainOptions
from cxr_lightning.studies import label_array

__all__ = ["BOX_SPACE", "Source", "open_source"]


@dataclass(frozen=True)
class Source:
    """Images with what is known of them; every array and table has a row per image.

    Attributes
    ----------
    table : the rows of the study table, numbered from 0; `seen` is the split in which the bundle's
        training had the patient, "unseen" where in none, "" where that cannot be told.
    untold : why it cannot.
    labels : the labels that are explained.
    truth : float32 of shape (n, labels), 1, 0, NaN where unknown or uncertain.
    boxes : `row`, `label`, `x`, `y`, `width`, `height` in BOX_SPACE; empty where there are none.
    image, cache : how the pictures become squares, and the squares.
    tabular : float32 of shape (n, inputs), or None where the network takes the image alone.
    fingerprint : that of the whole cohort.
    skipped : images that could not be read.
    """

    table: pd.DataFrame
    labels: tuple[str, ...]
    truth: NDArray[np.float32]
    boxes: pd.DataFrame
    image: ImageConfig
    cache: ImageCache
    tabular: NDArray[np.float32] | None
    fingerprint: str
    skipped: int
    untold: str

    def __len__(self) -> int:
        return len(self.table)

    def squares(self, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return the network's squares, uint8 of shape (len(rows), size, size)."""
        return self.cache.read(self.cache.rows[rows])

    def batches(self, size: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32] | None]]:
        """Yield all squares and the inputs beside them, `size` at a time."""
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)))
            yield self.squares(rows), None if self.tabular is None else self.tabular[rows]

    def picture(self, row: int) -> NDArray[np.uint8]:
        """Read the radiograph itself, uint8 of shape (height, width)."""
        return read_image(str(self.table["image_path"].iat[row]), voi=self.image.voi)

    def placement(self, row: int) -> tuple[Placement, tuple[int, int]]:
        """Return how the radiograph lies in the square, and its height and width."""
        height, width = self.cache.source_shape[row].tolist()
        return placement(height, width, self.image), (height, width)

    def boxes_of(self, row: int, label: str) -> NDArray[np.float64]:
        """Return the boxes of a label on an image, (boxes, 4), in BOX_SPACE."""
        chosen = (self.boxes["row"] == row) & (self.boxes["label"] == label)
        return self.boxes.loc[chosen, ["x", "y", "width", "height"]].to_numpy(np.float64)


def open_source(
    info: BundleInfo, labels: tuple[str, ...], options: ExplainOptions, config: DataConfig
) -> Source:
    """Read the data set as the bundle wants it, draw the images, decode what the cache lacks.

    Raises
    ------
    ConfigError, DataError
        A label the data set lacks, an empty split, one of patients that cannot be told, unknown
        sample ids, unreadable images.
    """
    untold = why_untold(info.seen, config)
    if untold and options.split == UNSEEN:
        raise ConfigError(f"split={UNSEEN}: {untold}")
    inputs = tuple(column.name for column in info.tabular.columns)
    # the visit before is told in all of the bundle's labels
    read = info.labels if PREVIOUS in inputs else labels
    cohort = build_cohort(
        config.model_copy(update={"image": info.image, "labels": read, "tabular": inputs})
    )
    seen = info.seen.split_of(cohort.table, config) if info.seen and not untold else ""
    table = cohort.table.assign(seen=seen)
    if options.split != "all":
        column = "seen" if options.split == UNSEEN else "split"
        table = table[table[column] == options.split].reset_index(drop=True)
    if table.empty:
        raise DataError(f"split={options.split}: data={config.name} has no image in it")
    boxes = _boxes(config, table, labels)
    always = np.union1d(boxes["row"].to_numpy(np.int64), _named(options, table))
    table, boxes = _draw(table, boxes, always, options)
    table, boxes, cache, skipped = _decode(table, boxes, cohort, info.image, config)
    truth = label_array(table, cohort.labels)[:, [cohort.labels.names.index(x) for x in labels]]
    return Source(
        table=table,
        labels=labels,
        truth=np.where(truth == -1, np.nan, truth).astype(np.float32),
        boxes=boxes,
        image=info.image,
        cache=cache,
        tabular=info.tabular.encode(table) if inputs else None,
        fingerprint=cohort.fingerprint,
        skipped=skipped,
        untold=untold,
    )


def _named(options: ExplainOptions, table: pd.DataFrame) -> NDArray[np.int64]:
    if isinstance(options.images, int):
        return np.zeros(0, np.int64)
    known = list(table["sample_id"])
    if unknown := [name for name in options.images if name not in known]:
        wrong = [f"{name!r}.{nearest(name, known)}" for name in unknown]
        raise ConfigError(
            f"images: not sample ids of split={options.split}:\n{bullet_list(wrong)}\n"
            f"They are like {known[0]!r}; split=all looks in all three."
        )
    return np.array([known.index(name) for name in options.images], np.int64)


def _boxes(config: DataConfig, table: pd.DataFrame, labels: tuple[str, ...]) -> pd.DataFrame:
    """Return the boxes of these images and labels; none where the data set has no list of them."""
    module = importlib.import_module(f"cxr_lightning.data.{config.name}")
    folder: Path | None = module.boxes_folder(config) if hasattr(module, "boxes_folder") else None
    names = ("BBox_List_2017.csv", "BBox_List_2017.csv.gz")
    if folder is None or not any((folder / name).is_file() for name in names):
        columns = ["row", "label", "x", "y", "width", "height"]
        return pd.DataFrame(columns=columns).astype({"row": np.int64})
    found = read_boxes(folder)
    rows = pd.Series(np.arange(len(table)), index=table["sample_id"].to_numpy())
    found = found.assign(row=found["sample_id"].map(rows))
    found = found[found["row"].notna() & found["label"].isin(labels)]
    return found.assign(row=found["row"].astype(np.int64)).reset_index(drop=True)


def _draw(
    table: pd.DataFrame,
    boxes: pd.DataFrame,
    always: NDArray[np.int64],
    options: ExplainOptions,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    others = np.setdiff1d(np.arange(len(table)), always)
    room = max(options.limit - len(always), 0)
    if len(others) > room:
        others = np.random.default_rng(options.seed).choice(others, room, replace=False)
    return _keep(table, boxes, np.union1d(always, others))


def _keep(
    table: pd.DataFrame, boxes: pd.DataFrame, rows: NDArray[np.int64]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return table and boxes of some rows, ascending, numbered anew."""
    kept = boxes[boxes["row"].isin(rows)]
    renumbered = kept.assign(row=np.searchsorted(rows, kept["row"].to_numpy(np.int64)))
    return table.iloc[rows].reset_index(drop=True), renumbered.reset_index(drop=True)


def _decode(
    table: pd.DataFrame,
    boxes: pd.DataFrame,
    cohort: Cohort,
    image: ImageConfig,
    config: DataConfig,
) -> tuple[pd.DataFrame, pd.DataFrame, ImageCache, int]:
    def opened(part: pd.DataFrame) -> ImageCache:
        return open_cache(
            list(part["image_path"]),
            all_paths=list(cohort.all_images),
            image=image,
            cache_dir=config.cache_dir,
        )

    cache = opened(table)
    if not cache.bad:
        return table, boxes, cache, 0
    reasons = [f"{path}: {reason}" for path, reason in cache.bad]
    if config.on_bad_image == "refuse" or len(reasons) == len(table):
        raise DataError(
            f"{len(reasons):,} of {len(table):,} images cannot be used:\n"
            f"{bullet_list(reasons, limit=50)}\n"
            "Restore them, or leave them out with data.on_bad_image=skip."
        )
    good, boxes = _keep(table, boxes, np.flatnonzero(cache.rows >= 0))
    return good, boxes, opened(good), len(reasons)
