"""The files below a folder, by name, through links that do not lead back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["files_below", "suffix_of"]


def files_below(
    root: Path | str, on_error: Callable[[OSError], None] | None = None
) -> Iterator[str]:
    """Yield the path of each file, folder after folder, without what is hidden (".name").

    Parameters
    ----------
    root
        Where to begin; paths begin with it.
    on_error
        Called for each folder that cannot be listed; None: it counts as empty.
    """
    for parent, folders, files in os.walk(root, onerror=on_error, followlinks=True):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not _returns(parent, name)
        )
        for name in sorted(files):
            if not name.startswith("."):
                yield os.path.join(parent, name)


def suffix_of(path: str) -> str:
    """Return a file's suffix in lower case; "" for a number, the last part of a DICOM UID."""
    suffix = os.path.splitext(path)[1].lower()
    return "" if suffix[1:].isdigit() else suffix


def _returns(parent: str, name: str) -> bool:
    """Whether a folder is a link to one on the way to it: following it would have no end."""
    path = os.path.join(parent, name)
    if not os.path.islink(path):
        return False
    end = Path(path).resolve()
    way = (Path(parent), *Path(parent).parents)
    return any(folder.resolve().is_relative_to(end) for folder in way)
