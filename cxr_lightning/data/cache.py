"""Decoded, resized 8-bit pictures of a data set in one memory-mapped file.

A cache is a folder of its own for each data set (the folder of its images and the sorted list of
their paths), image size, fit, and version of the decoder:

- ``pixels.u8``: uint8 of shape (images, size, size). A slot for every picture of the data set, in a
  sparse file: a run on a few patients fills what it needs, takes no more room, and shares it.
- ``entries.npy``: a record a slot: status, the source file's size and time, a hash of its pixels.
- ``bad.json``: why a slot could not be filled. ``cache.json``: for people.

A record says "filled" only once the slot's pixels are on the disk, so a run killed at any moment
loses a second or so of work. A file whose size or time changed is decoded again. One process
builds at a time; others wait for it and use what it made. Readers take no lock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data.cache_files import EMPTY, FILLED, CacheFiles, decoder_versions, flush
from cxr_lightning.data.decode_pool import decode_into_slots
from cxr_lightning.data.decoder import Job, Outcome
from cxr_lightning.data.images import UnreadableImage, read_image
from cxr_lightning.data.needed import Needed, signatures_of
from cxr_lightning.data.storage import cache_home
from cxr_lightning.errors import DataError

__all__ = ["ImageCache", "open_cache"]

COMMIT_SECONDS = 1.0  # how much work a kill can cost
_HELD_AT_ONCE = 1024  # pictures copied to memory in one step
_OF_A_PROCESS = ("_mapped", "_held")  # attributes of a cache that are not pickled


@dataclass(frozen=True)
class ImageCache:
    """The pictures of one run in a cache; cheap to pickle, as every process maps the file itself.

    Attributes
    ----------
    folder : where the cache is.
    shape : (images of the data set, size, size).
    rows : int64 of shape (n,), the slot of each path that was asked for, in that order; -1 where it
        is bad.
    content_hash : uint64 of shape (n,), equal for files whose decoded pixels are equal, at full
        resolution and whatever their format; 0 where bad.
    source_shape : int64 of shape (n, 2), height and width before resizing; 0 where bad.
    bad : (path, reason) of each path that is missing or unreadable.
    decoded : how many pictures this call had to decode.
    """

    folder: Path
    shape: tuple[int, int, int]
    rows: NDArray[np.int64]
    content_hash: NDArray[np.uint64]
    source_shape: NDArray[np.int64]
    bad: tuple[tuple[Path, str], ...]
    decoded: int

    def read(self, rows: NDArray[np.integer] | Sequence[int]) -> NDArray[np.uint8]:
        """Copy slots out of the cache: uint8 of shape (len(rows), size, size)."""
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and rows.min() < 0:
            raise IndexError("row -1 is that of a bad picture; ask for the rows that are not")
        if (held := self.__dict__.get("_held")) is None:
            return np.asarray(self._pixels[rows])
        places, pictures = held
        if rows.size and places[rows].min() < 0:
            raise IndexError("only the pictures of the run are in memory; ask for rows of `rows`")
        return np.asarray(pictures[places[rows]])

    def held(self) -> ImageCache:
        """Return this cache with the pictures of the run, and no others, in memory.

        Processes forked from this one share it; those that are started anew map the file.

        Raises
        ------
        DataError where memory has no room for them.
        """
        wanted = np.unique(self.rows[self.rows >= 0])
        try:
            held = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        except MemoryError:
            raise DataError(
                f"data.residency=memory: {len(wanted):,} images of {self.shape[1]} x "
                f"{self.shape[2]} pixels take {len(wanted) * self.shape[1] * self.shape[2]:,} "
                "bytes, for which memory has no room; use data.residency=disk, or a smaller "
                "data.image.size"
            ) from None
        for start in range(0, len(wanted), _HELD_AT_ONCE):
            part = slice(start, start + _HELD_AT_ONCE)
            held[part] = self._pixels[wanted[part]]
        places = np.full(self.shape[0], -1, np.int32)
        places[wanted] = np.arange(len(wanted))
        cache = copy(self)
        cache.__dict__["_held"] = places, held
        return cache

    @property
    def _pixels(self) -> NDArray[np.uint8]:
        mapped: NDArray[np.uint8] | None = self.__dict__.get("_mapped")
        if mapped is None:
            file = np.memmap(self.folder / "pixels.u8", np.uint8, "r", shape=self.shape)
            mapped = np.asarray(file)  # memmap's own indexing is slower
            self.__dict__["_mapped"] = mapped
        return mapped

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in _OF_A_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def open_cache(
    paths: Sequence[Path | str],
    *,
    all_paths: Sequence[Path | str] | None = None,
    image: ImageConfig,
    cache_dir: Path | None = None,
    processes: int | None = None,
    progress: bool = True,
) -> ImageCache:
    """Open the cache that holds `paths`, after decoding those of them that it lacks.

    Parameters
    ----------
    paths : the pictures that are needed now.
    all_paths : every picture of the data set, of which `paths` are some; None: the same. Runs that
        give the same ones share a cache.
    image : size and fit; mean and std do not matter here.
    cache_dir : folder of all caches; None: see :func:`storage.cache_home`.
    processes : decoding processes; None: one for each available CPU.
    progress : show a progress bar and messages on stderr.

    Bad pictures do not raise: they are listed in the result, so that the caller can refuse all of
    them at once. A file that cannot be decoded is tried again when it, or an installed decoder,
    changes, the latter where the cache may be written; one that is missing or not permitted, every
    time.

    Raises
    ------
    DataError where the cache cannot be written, or would not fit on the disk.
    """
    wanted = [_absolute(path) for path in paths]
    whole = wanted if all_paths is None else [_absolute(path) for path in all_paths]
    files = CacheFiles.locate(whole, image, cache_home(cache_dir))
    slots = files.slots(wanted)
    console = Console(stderr=True, quiet=not progress)

    unique, first = np.unique(slots, return_index=True)
    sources = [wanted[index] for index in first]
    needed = Needed(unique, sources, signatures_of(sources), decoder_versions())
    missing = np.flatnonzero(needed.signatures[:, 0] < 0)
    absent = {int(unique[i]): _reason(sources[i]) for i in missing}
    decoded = 0
    held = files.entries() if files.exist() else None
    # Of a cache that may only be read, such as a shared one, the verdict on bad files stands.
    retry = held is None or files.writable()
    if needed.stale(held, retry=retry).size:
        with files.writing(console):
            files.create_if_missing()
            stale = needed.stale(files.entries())
            if stale.size:  # else: another process has just built it
                absent |= _build(files, needed, stale, image, processes, console)
                decoded = stale.size
    return _result(files, wanted, slots, absent, decoded)


def _build(
    files: CacheFiles,
    needed: Needed,
    stale: NDArray[np.int64],
    image: ImageConfig,
    processes: int | None,
    console: Console,
) -> dict[int, str]:
    """Decode the stale files and return the reasons of failures that are not kept."""
    entries = files.entries(writable=True)
    slots = needed.slots[stale]
    files.check_free_space(int((entries["status"][slots] == EMPTY).sum()))
    entries["status"][slots] = EMPTY  # from here to its commit, nobody trusts what is in a slot
    flush(entries)
    position = dict(zip(slots.tolist(), stale.tolist(), strict=True))
    jobs = [Job(slot, needed.sources[at]) for slot, at in position.items()]
    passing: dict[int, str] = {}
    started = committed = time.monotonic()
    waiting: list[Outcome] = []
    outcomes = decode_into_slots(jobs, files.pixels, image, processes)

    def commit() -> None:
        kept = [outcome for outcome in waiting if not outcome.passing]
        signatures = needed.signatures[[position[outcome.slot] for outcome in kept]]
        files.commit(entries, kept, signatures, needed.decoders)
        waiting.clear()

    try:
        with _progress(console) as bar:
            task = bar.add_task("Decoding images", total=len(jobs))
            for outcome in outcomes:
                waiting.append(outcome)
                if outcome.passing:
                    passing[outcome.slot] = str(outcome.reason)
                bar.advance(task)
                if time.monotonic() - committed > COMMIT_SECONDS:
                    commit()
                    committed = time.monotonic()
    finally:  # also on Ctrl-C: what is decoded is kept
        outcomes.close()
        commit()
    seconds = time.monotonic() - started
    console.print(
        f"Decoded {len(jobs):,} images in {seconds:.1f} s into {files.folder}", soft_wrap=True
    )
    return passing


def _result(
    files: CacheFiles,
    wanted: list[str],
    slots: NDArray[np.int64],
    absent: dict[int, str],
    decoded: int,
) -> ImageCache:
    # no files: none of the pictures is there
    entries = files.entries()[slots] if files.exist() else files.no_entries(len(slots))
    good = (entries["status"] == FILLED) & ~np.isin(slots, list(absent))
    reasons = files.reasons() | absent
    bad = tuple(
        (Path(wanted[i]), reasons.get(int(slots[i]), "could not be decoded"))
        for i in np.flatnonzero(~good)
    )
    return ImageCache(
        folder=files.folder,
        shape=files.shape,
        rows=np.where(good, slots, -1),
        content_hash=np.where(good, entries["content_hash"], 0).astype(np.uint64),
        source_shape=np.stack([entries["height"], entries["width"]], 1)
        * good[:, None].astype(np.int64),
        bad=bad,
        decoded=decoded,
    )


def _absolute(path: Path | str) -> str:
    text = os.fspath(path)
    plain = text.startswith("/") and "//" not in text and "/." not in text
    return text if plain else os.path.abspath(text)


def _reason(path: str) -> str:
    try:
        read_image(path)
    except UnreadableImage as error:
        return error.reason
    return "appeared while the cache was opened"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=console.quiet,
    )
