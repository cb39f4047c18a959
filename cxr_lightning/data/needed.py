"""Which of the files that a run needs its cache lacks, or has of another size or time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_lightning.data.cache_files import BAD, FILLED

__all__ = ["Needed", "signatures_of"]


@dataclass(frozen=True)
class Needed:
    """What a run needs: slots (n,), their files, (size, mtime_ns) of shape (n, 2) or -1."""

    slots: NDArray[np.int64]
    sources: list[str]
    signatures: NDArray[np.int64]
    decoders: int

    def stale(self, entries: NDArray[Any] | None, *, retry: bool = True) -> NDArray[np.int64]:
        """Positions in `slots` of the files that are there and must be decoded.

        `retry`: also those that other versions of the decoders could not read.
        """
        present = self.signatures[:, 0] >= 0
        if entries is None:
            return np.flatnonzero(present)
        held = entries[self.slots]
        same = (held["size"] == self.signatures[:, 0]) & (held["mtime_ns"] == self.signatures[:, 1])
        known = (held["status"] == BAD) & ((held["decoders"] == self.decoders) | (not retry))
        return np.flatnonzero(present & ~(same & ((held["status"] == FILLED) | known)))


def signatures_of(paths: list[str]) -> NDArray[np.int64]:
    """Size and time of each file, of shape (n, 2); -1 where there is no file."""
    signatures = np.full((len(paths), 2), -1, np.int64)
    for index, path in enumerate(paths):
        try:
            status = os.stat(path)
        except OSError:
            continue
        signatures[index] = status.st_size, status.st_mtime_ns
    return signatures
