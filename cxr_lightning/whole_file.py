"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["whole_file"]


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Yield a path beside `file` to write to, and move it there once the block has ended.

    Where the block ends with an exception, what it wrote is removed and `file` stays as it was.
    What a killed process left is overwritten by the next. One process at a time may write a file:
    where several could, the caller holds a lock.

    Raises
    ------
    OSError
        What the block or the move raised. Where the system named no file, as it does while one is
        written to a full disk, this one is named.
    """
    partial = file.with_name(file.name + ".partial")
    try:
        yield partial
        os.replace(partial, file)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(file)
        raise
