"""The one error of everything that turns a file into pixels."""

from __future__ import annotations

from pathlib import Path

from cxr_lightning.errors import DataError

__all__ = ["UnreadableImage"]


class UnreadableImage(DataError):
    """A file that does not hold one complete picture.

    Attributes
    ----------
    reason : a few words without the path, such as ``missing`` or ``truncated PNG``.
    path : the file, or None while the decoder that raised knows its bytes only.
    passing : True where the file system, not the file's content, is the obstacle (missing, not
        permitted, an input/output error), so that another attempt may succeed.
    """

    def __init__(self, reason: str, path: Path | None = None, passing: bool = False) -> None:
        super().__init__(reason, path, passing)  # all of them, so that pickling restores them
        self.reason = reason
        self.path = path
        self.passing = passing

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{self.path}: {self.reason}"
