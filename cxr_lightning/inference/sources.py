"""From the words of a command line to the paths of images."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from cxr_lightning.data.folders import files_below, suffix_of
from cxr_lightning.errors import ConfigError, DataError, nearest

__all__ = ["IMAGE_SUFFIXES", "check_sources", "image_paths", "open_ended"]

STANDARD_INPUT = "-"
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".dic", ".ima"})


def check_sources(words: Sequence[str]) -> list[str]:
    """Return what is wrong with the words; each is a problem in a sentence."""
    problems = []
    for word in words:
        if word == STANDARD_INPUT:
            continue
        path = Path(word.removeprefix("@"))
        if word.startswith("@") and not path.is_file():
            problems.append(f"input={word}: there is no list {path}{_similar(path)}")
        elif not word:
            problems.append("input=: names no path")
        elif not word.startswith("@") and not path.exists() and not glob.glob(word):
            problems.append(f"input={word}: there is no such file or folder{_similar(path)}")
    if list(words).count(STANDARD_INPUT) > 1:
        problems.append("input=-: standard input can be read once only")
    return problems


def _similar(path: Path) -> str:
    try:
        return nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return ""


def open_ended(words: Sequence[str]) -> bool:
    """Whether how many images there are is known only at the end."""
    return STANDARD_INPUT in words


def image_paths(words: Sequence[str], stdin: TextIO) -> Iterator[str]:
    """Yield the paths in the order of the words; files of a folder by name, folder after folder.

    A file that is named is yielded whatever it is. In folders, images are told by suffix, and where
    there is none that says otherwise (as in archives of DICOM files) by their first bytes.

    Raises
    ------
    ConfigError
        A folder holds no image.
    DataError
        A list is not text.
    """
    for word in words:
        path = Path(word)
        if word == STANDARD_INPUT:
            yield from _lines(stdin, "standard input")
        elif path.is_dir():
            yield from _in_folder(path)
        elif path.exists():
            yield word
        elif word.startswith("@"):
            with open(word[1:], encoding="utf-8-sig") as file:
                yield from _lines(file, word[1:])
        else:
            for found in sorted(glob.glob(word, recursive=True)):
                if os.path.isdir(found):
                    yield from _in_folder(Path(found))
                else:
                    yield found


def _lines(file: TextIO, name: str) -> Iterator[str]:
    try:
        for line in file:
            if text := line.strip():
                yield text
    except UnicodeDecodeError:
        raise DataError(f"{name}: not a list of paths in UTF-8 text, one a line") from None


def _in_folder(folder: Path) -> Iterator[str]:
    found = False
    for path in files_below(folder):
        if _is_image(path):
            found = True
            yield path
    if not found:
        raise ConfigError(f"input={folder}: no PNG, JPEG or DICOM in this folder or below it")


def _is_image(path: str) -> bool:
    suffix = suffix_of(path)
    if suffix or os.path.basename(path).upper() == "DICOMDIR":
        return suffix in IMAGE_SUFFIXES
    try:
        with open(path, "rb") as file:
            head = file.read(132)
    except OSError:
        return False
    return head.startswith((b"\x89PNG", b"\xff\xd8\xff")) or head[128:] == b"DICM"
