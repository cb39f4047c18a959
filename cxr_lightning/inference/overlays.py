"""Heat maps of what was found, one picture per image and label that was called positive."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr_lightning.bundle import Bundle, load_bundle
from cxr_lightning.inference.predictor import Predicted
from cxr_lightning.inference.sources import IMAGE_SUFFIXES

__all__ = ["Draw", "OverlayWriter"]


LEAST = 512  # pixels: smaller squares are enlarged, to be looked at


class Draw(Protocol):
    """Draws images (n, size, size) with what speaks for labels: (n, labels, size, size, 3), RGB."""

    def __call__(
        self,
        bundle: Bundle,
        images: NDArray[np.uint8],
        labels: Sequence[str],
        *,
        tabular: NDArray[np.float32] | None,
    ) -> NDArray[np.uint8]: ...


class OverlayWriter:
    """Writes FOLDER/IMAGE/LABEL.png by `draw`; nothing for an image without a positive label.

    Where another image has the folder IMAGE, the next one gets IMAGE_2, or what else is free: no
    two rows share a folder.
    """

    def __init__(self, bundle: Path, folder: Path, draw: Draw, *, device: str) -> None:
        self.bundle = load_bundle(bundle, device=device)
        self.folder = folder
        self.draw = draw
        self.written = 0
        self._folders: set[str] = set()
        files: set[str] = set()
        self._files = {
            label: _free(re.sub(r"[^\w.-]", "_", label), files) + ".png"
            for label in self.bundle.info.labels
        }

    def write(
        self,
        paths: Sequence[str],
        images: NDArray[np.uint8],
        tabular: NDArray[np.float32] | None,
        predicted: Predicted,
    ) -> list[str]:
        """Write the pictures of a batch: images (n, size, size), tabular inputs (n, T) or None.

        Returns the folder of each image, "" where no label is positive.
        """
        folders = []
        for row, path in enumerate(paths):
            positive = [
                label
                for label, yes in zip(self.bundle.info.labels, predicted.positive[row], strict=True)
                if yes
            ]
            if not positive:
                folders.append("")
                continue
            folder = self.folder / _free(_name(path), self._folders)
            folder.mkdir(parents=True)
            pictures = self.draw(
                self.bundle,
                images[row : row + 1],
                positive,
                tabular=None if tabular is None else tabular[row : row + 1],
            )
            for label, picture in zip(positive, pictures[0], strict=True):
                file = folder / self._files[label]
                file.write_bytes(cv2.imencode(".png", _large(picture)[..., ::-1])[1].tobytes())
                self.written += 1
            folders.append(str(folder))
        return folders


def _name(path: str) -> str:
    """Return the file's name without an image's suffix; a DICOM UID has dots, but no suffix."""
    file = Path(path)
    return file.stem if file.suffix.lower() in IMAGE_SUFFIXES else file.name


def _free(name: str, used: set[str]) -> str:
    """Return the name, numbered where it is used already, and add it to those used.

    On some file systems A and a are one name.
    """
    numbered = (name if count == 1 else f"{name}_{count}" for count in itertools.count(1))
    found = next(one for one in numbered if one.casefold() not in used)
    used.add(found.casefold())
    return found


def _large(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = -(-LEAST // len(picture))
    large = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.uint8)
