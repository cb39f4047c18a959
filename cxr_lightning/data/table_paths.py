"""Where the images of a table are: as written, with a suffix added, or by a pattern."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cxr_lightning.data.folders import files_below
from cxr_lightning.errors import bullet_list

__all__ = ["IMAGE_SUFFIXES", "ImagePaths", "find_images"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
_ANYWHERE = "**/"
_TRIED = 200  # so many missing images are looked for to find the pattern of all
_ALIKE = 20  # so many files of one name are considered
_WALKED = 500_000


@dataclass(frozen=True)
class ImagePaths:
    """What became of the column of images.

    Attributes
    ----------
    paths : absolute or relative to the current folder, one for each row; where `missing`, the place
        that was looked at.
    missing : rows whose file was not found.
    notes : how the column was understood.
    problem : why nothing can be done with it, and what to do; or "".
    fatal : whether leaving images out does not help: none is there, or it is not clear which.
    """

    paths: list[str]
    missing: tuple[int, ...]
    notes: tuple[str, ...]
    problem: str
    fatal: bool = False


def find_images(values: Sequence[str], root: Path, pattern: str) -> ImagePaths:
    """Find the files that a column names.

    Parameters
    ----------
    values
        The cells, stripped.
    root
        Folder that they are relative to.
    pattern
        How a cell becomes a path below `root`: ``{}`` is the cell, ``{name}`` its last part;
        ``**/`` in front: in any folder below. A suffix of `IMAGE_SUFFIXES` may be left out.
    """
    anywhere = pattern.startswith(_ANYWHERE)
    inner = pattern.removeprefix(_ANYWHERE)
    wanted = [inner.replace("{name}", _name(cell)).replace("{}", cell) for cell in values]
    places = _Anywhere(root) if anywhere else _AsWritten(root)
    paths, missing, added = [], [], Counter[str]()
    twice: list[str] = []
    for row, relative in enumerate(wanted):
        found = places.find(relative)
        if len(found) > 1:
            twice.append(f"{relative}: {', '.join(found[:3])}")
        path = found[0] if found else os.path.join(root, relative)
        if not found:
            missing.append(row)
        elif not relative.lower().endswith(suffix := os.path.splitext(path)[1].lower()):
            added[suffix] += 1
        paths.append(path)
    notes = [f"images found with {suffix} added: {n:,}" for suffix, n in added.items()]
    problem = ""
    shared = _shared(values, paths, set(missing))
    if twice:
        problem = f"data.pattern={pattern}: more than one file for\n{bullet_list(twice, limit=5)}"
    elif shared:
        problem = f"data.pattern={pattern}: one file for several\n{bullet_list(shared, limit=5)}"
    elif missing:
        problem = _explain(values, paths, missing, root)
        notes.append(f"images not found: {len(missing):,}")
    fatal = bool(twice or shared) or len(missing) == len(values)
    return ImagePaths(paths, tuple(missing), tuple(notes), problem, fatal)


class _AsWritten:
    """Lists each folder once: on a file server, asking for every single file takes minutes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: dict[str, dict[str, str]] = {}

    def find(self, relative: str) -> list[str]:
        folder, name = os.path.split(os.path.join(self.root, relative))
        if folder not in self.folders:
            self.folders[folder] = dict(_names(folder))
        listed = self.folders[folder]
        if name in listed:
            return [os.path.join(folder, name)]
        return [
            os.path.join(folder, listed[f"{name}{s}"]) for s in _SPELLED if f"{name}{s}" in listed
        ]


class _Anywhere:
    """Knows images below a folder by the last parts of their paths, with and without suffix."""

    def __init__(self, root: Path, most: int | None = None) -> None:
        self.images = list(islice(_walk(root), most))
        self.tails: dict[int, dict[str, list[str]]] = {}

    def find(self, relative: str) -> list[str]:
        parts = relative.count(os.sep) + 1
        if parts not in self.tails:
            tails = self.tails.setdefault(parts, {})
            for path in self.images:
                tail = os.sep.join(path.rsplit(os.sep, parts)[1:])
                for key in {tail, os.path.splitext(tail)[0]}:
                    tails.setdefault(key, []).append(path)
        return self.tails[parts].get(relative, [])


_SPELLED = tuple(suffix for s in IMAGE_SUFFIXES for suffix in (s, s.upper()))


def _names(folder: str) -> Iterator[tuple[str, str]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.name, entry.name
    except OSError:
        return


def _walk(root: Path) -> Iterator[str]:
    """Yield images below a folder."""
    return (path for path in files_below(root) if path.lower().endswith(IMAGE_SUFFIXES))


def _shared(values: Sequence[str], paths: list[str], missing: set[int]) -> list[str]:
    """Say which cells lead to one file, as 1.png of two folders does by {name}."""
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        if row not in missing:
            rows.setdefault(path, []).append(row)
    return [
        f"{', '.join(repr(values[row]) for row in some[:3])}: {path}"
        for path, some in rows.items()
        if len({values[row] for row in some}) > 1
    ]


def _explain(values: Sequence[str], paths: list[str], missing: list[int], root: Path) -> str:
    count = f"{len(missing):,} of {len(values):,} images are not there"
    looked = bullet_list([f"{values[row]!r}: looked at {paths[row]}" for row in missing[:3]])
    if not root.is_dir():
        return f"{count}: data.root={root}: there is no such folder"
    everywhere = _Anywhere(root, _WALKED)
    sample = missing[:: max(1, len(missing) // _TRIED)]
    patterns: dict[str, set[str]] = {}
    found_any = ambiguous = 0
    for row in sample:
        files = _nearest(everywhere, values[row])
        found_any += bool(files)
        ambiguous += len(files) > 1
        for path in files[:_ALIKE]:
            patterns.setdefault(_pattern(values[row], os.path.relpath(path, root)), set()).add(path)
    if not patterns:
        images = everywhere.images
        below = (
            f"{len(images):,} images are below {root}, none of these names; for example "
            f"{os.path.relpath(min(images), root)}"
            if images
            else f"there is no image below {root}; data.root=FOLDER says where they are"
        )
        return f"{count}:\n{looked}\n{below}."
    # Of a right pattern, each cell leads to a file of its own.
    best, of_best = max(patterns.items(), key=lambda item: len(item[1]))
    hits = len(of_best)
    if hits < found_any and ambiguous:
        return (
            f"{count}:\n{looked}\nFiles of these names exist, such as {min(of_best)}, but in "
            "several folders, and no pattern tells which is meant: write their paths below "
            "data.root into the table."
        )
    if hits < found_any:  # several folders hold them
        best, hits = f"{_ANYWHERE}{{name}}", found_any
    share = f"all {len(sample):,}" if hits == len(sample) else f"{hits:,} of {len(sample):,}"
    tried = f"data.pattern='{best}' finds {share} tried."
    return f"{count}:\n{looked}\nFiles of these names exist: {tried}"


def _nearest(everywhere: _Anywhere, cell: str) -> list[str]:
    """Return the files that share the most last parts with a cell: its name, or more."""
    parts = cell.replace("\\", "/").strip("/").split("/")
    best: list[str] = []
    for count in range(1, len(parts) + 1):
        tail = os.sep.join(parts[-count:])
        files = everywhere.find(tail) or everywhere.find(os.path.splitext(tail)[0])
        if not files:
            break
        best = files
    return best


def _pattern(cell: str, relative: str) -> str:
    """Return the pattern that leads from a cell to a file of the same name."""
    for known, placeholder in ((cell, "{}"), (_name(cell), "{name}")):
        at = relative.rfind(known)
        if known and at >= 0:
            return relative[:at] + placeholder + relative[at + len(known) :]
    stem = os.path.splitext(_name(cell))[0]
    return relative.replace(stem, "{name}")


def _name(cell: str) -> str:
    return cell.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
