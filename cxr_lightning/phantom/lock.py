"""A folder that one process at a time works in; what a killed process left there is removed."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["exclusive_folder"]


@contextmanager
def exclusive_folder(path: Path) -> Iterator[Path]:
    """Make the folder empty and hold it until the block ends; other processes wait for it.

    The block may rename the folder when its work is complete. Whatever still lies under `path`
    afterwards is removed. The lock is on the folder itself (flock), so that the system releases it
    when a process is killed and no lock file stays behind.
    """
    descriptor = _acquire(path)
    try:
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        yield path
    finally:
        if _is_still(path, descriptor):
            shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        path.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        # Some network file systems know no locks; two processes then do the work twice.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # The holder we waited for may have renamed or removed the folder that we opened.
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
