"""The files of one image cache: where they are, what is in them, in which order they change."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from rich.console import Console

from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data.decoder import Outcome
from cxr_lightning.data.images import DECODER_VERSION
from cxr_lightning.errors import DataError
from cxr_lightning.whole_file import whole_file

__all__ = ["BAD", "EMPTY", "FILLED", "CacheFiles", "decoder_versions", "flush"]

LAYOUT_VERSION = 1
EMPTY, FILLED, BAD = 0, 1, 2
ENTRY = np.dtype(
    [
        ("status", "u1"),
        ("height", "<u4"),
        ("width", "<u4"),
        ("decoders", "<u4"),  # of the attempt
        ("size", "<i8"),  # of the source file, bytes
        ("mtime_ns", "<i8"),
        ("content_hash", "<u8"),
    ],
    align=True,
)
DECODERS = (
    "kornia-rs",
    "opencv-python-headless",
    "pillow",
    "pydicom",
    "pylibjpeg",
    "pylibjpeg-libjpeg",
    "pylibjpeg-openjpeg",
    "python-gdcm",
)


def decoder_versions() -> int:
    """Return a checksum of the installed decoders: with others, a bad file deserves another try."""
    found = []
    for name in DECODERS:
        try:
            found.append(f"{name}={version(name)}")
        except PackageNotFoundError:
            continue
    return zlib.crc32(" ".join(found).encode())


def flush(entries: NDArray[Any]) -> None:
    """Write mapped records to the disk."""
    if isinstance(entries, np.memmap):
        entries.flush()


@dataclass(frozen=True)
class CacheFiles:
    """Paths of one cache and the operations on them; `names` are sorted and relative to `root`."""

    folder: Path
    root: str
    names: list[str]
    image: ImageConfig
    shape: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        shape = (len(self.names), self.image.size, self.image.size)
        object.__setattr__(self, "shape", shape)

    @classmethod
    def locate(cls, paths: list[str], image: ImageConfig, cache_dir: Path) -> CacheFiles:
        """Find the cache of a data set's absolute `paths` in a folder of caches."""
        ordered = sorted(set(paths))
        if not ordered:
            raise DataError("no images: there is nothing to cache")
        # of sorted texts, first and last share the least
        root = os.path.commonpath([os.path.dirname(ordered[0]), os.path.dirname(ordered[-1])])
        names = [path[len(root) :].lstrip(os.sep) for path in ordered]
        identity = [root, str(image.size), image.fit, str(DECODER_VERSION), str(LAYOUT_VERSION)]
        if image.voi != "lut":  # the only one that older caches know
            identity.append(image.voi)
        digest = blake2b(
            "\0".join([*identity, *names]).encode(errors="surrogateescape"), digest_size=8
        ).hexdigest()
        folder = f"{os.path.basename(root) or 'root'}-{image.size}px-{image.fit}-{digest}"
        return cls(cache_dir.expanduser().absolute() / folder, root, names, image)

    @property
    def pixels(self) -> Path:
        """The file of shape (images, size, size)."""
        return self.folder / "pixels.u8"

    def slots(self, paths: list[str]) -> NDArray[np.int64]:
        """Return the slot of each absolute path."""
        prefix = os.path.join(self.root, "")
        slot = {prefix + name: index for index, name in enumerate(self.names)}
        try:
            return np.fromiter(map(slot.__getitem__, paths), np.int64, len(paths))
        except KeyError as error:
            raise ValueError(f"{error.args[0]} is not among the data set's images") from None

    def exist(self) -> bool:
        """Say whether the cache was set up completely; its slots may still be empty."""
        try:
            size = self.pixels.stat().st_size
            records = (self.folder / "entries.npy").stat().st_size
        except OSError:
            return False
        return size == int(np.prod(self.shape)) and records >= self.shape[0] * ENTRY.itemsize

    def writable(self) -> bool:
        """Say whether a cache that exists may be changed."""
        return all(os.access(path, os.W_OK) for path in (self.folder, *self.folder.iterdir()))

    def entries(self, *, writable: bool = False) -> NDArray[Any]:
        """Map the records, of shape (images,)."""
        mapped: NDArray[Any] = np.load(
            self.folder / "entries.npy", mmap_mode="r+" if writable else "r"
        )
        if mapped.dtype != ENTRY or mapped.shape != self.shape[:1]:
            raise DataError(
                f"{self.folder} does not hold what it should; delete that folder and run again"
            )
        return mapped

    @staticmethod
    def no_entries(count: int) -> NDArray[Any]:
        """Return records of slots that are all empty."""
        return np.zeros(count, ENTRY)

    @contextmanager
    def writing(self, console: Console) -> Iterator[None]:
        """Be the only process that writes, after waiting (and saying so) for any other.

        Raises
        ------
        DataError in place of what the file system refuses inside the context.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                console.print(
                    f"Waiting for another process that fills the image cache {self.folder}",
                    soft_wrap=True,
                )
                lock.acquire()
            try:
                yield
            finally:
                lock.release()
        except OSError as error:
            raise DataError(
                f"the image cache cannot be written in {self.folder}: {error.strerror or error}.\n"
                "Choose a folder with enough room that can be written, with data.cache_dir=DIR."
            ) from error

    def create_if_missing(self) -> None:
        """Write empty files; the records come last, since they say that the cache is there."""
        if self.exist():
            return
        # records that outlived their pixels must not vouch for the empty ones
        (self.folder / "entries.npy").unlink(missing_ok=True)
        self._replace_json(
            "cache.json",
            {
                "what": "decoded radiographs of cxr_lightning; may be deleted at any time",
                "images_in": self.root,
                "images": self.shape[0],
                "size": self.image.size,
                "fit": self.image.fit,
                "decoder_version": DECODER_VERSION,
                "layout_version": LAYOUT_VERSION,
            },
        )
        with self.pixels.open("wb") as file:
            file.truncate(int(np.prod(self.shape)))
        with whole_file(self.folder / "entries.npy") as partial, partial.open("wb") as file:
            np.save(file, self.no_entries(self.shape[0]))  # written out: never short of disk later
            file.flush()
            os.fsync(file.fileno())

    def check_free_space(self, new_slots: int) -> None:
        """Raise DataError where so many slots more do not fit on the disk."""
        needed = new_slots * self.image.size**2
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise DataError(
                f"the image cache needs {needed:,} more bytes in {self.folder}, and "
                f"{free:,} are free there.\nMake room, or choose a folder on another disk with "
                "data.cache_dir=DIR, or smaller images with data.image.size=N."
            )

    def commit(
        self,
        entries: NDArray[Any],
        outcomes: list[Outcome],
        signatures: NDArray[np.int64],
        decoders: int,
    ) -> None:
        """Record outcomes, given the (size, mtime_ns) of their files.

        First the pixels reach the disk, then the reasons, then the records, and of a record the
        status last: a reader that trusts the status finds the rest in place.
        """
        if not outcomes:
            return
        with self.pixels.open("r+b") as file:
            os.fsync(file.fileno())
        if bad := {str(one.slot): one.reason for one in outcomes if one.reason is not None}:
            known = {str(slot): reason for slot, reason in self.reasons().items()}
            self._replace_json("bad.json", known | bad)
        slots = np.array([one.slot for one in outcomes])
        entries["size"][slots], entries["mtime_ns"][slots] = signatures.T
        entries["decoders"][slots] = decoders
        entries["height"][slots] = [one.height for one in outcomes]
        entries["width"][slots] = [one.width for one in outcomes]
        entries["content_hash"][slots] = np.array([one.content_hash for one in outcomes], np.uint64)
        entries["status"][slots] = [BAD if one.reason else FILLED for one in outcomes]
        flush(entries)

    def reasons(self) -> dict[int, str]:
        """Return why slots are bad, as far as it was recorded; later successes are not removed."""
        try:
            recorded = json.loads((self.folder / "bad.json").read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return {int(slot): reason for slot, reason in recorded.items()}

    def _replace_json(self, name: str, content: dict[str, Any]) -> None:
        with whole_file(self.folder / name) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n")
