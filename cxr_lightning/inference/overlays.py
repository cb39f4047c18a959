"""Heat maps of what was found, one picture per image and label that was called positive."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr_lightning.bundle import Bundle, load_bundle
from cxr_lightning.inference.predictor import Predicted

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

    A second image of the same name gets the folder IMAGE_2, and so on in the order of the rows.
    """

    def __init__(self, bundle: Path, folder: Path, draw: Draw, *, device: str) -> None:
        self.bundle = load_bundle(bundle, device=device)
        self.folder = folder
        self.draw = draw
        self.written = 0
        self._taken: Counter[str] = Counter()

    def write(
        self,
        paths: Sequence[str],
        images: NDArray[np.uint8],
        tabular: NDArray[np.float32] | None,
        predicted: Predicted,
    ) -> None:
        """Write the pictures of a batch: images (n, size, size), tabular inputs (n, T) or None."""
        for row, path in enumerate(paths):
            name = Path(path).stem
            self._taken[name] += 1
            positive = [
                label
                for label, yes in zip(self.bundle.info.labels, predicted.positive[row], strict=True)
                if yes
            ]
            if not positive:
                continue
            count = self._taken[name]
            folder = self.folder / (name if count == 1 else f"{name}_{count}")
            folder.mkdir(parents=True, exist_ok=True)
            pictures = self.draw(
                self.bundle,
                images[row : row + 1],
                positive,
                tabular=None if tabular is None else tabular[row : row + 1],
            )
            for label, picture in zip(positive, pictures[0], strict=True):
                file = folder / (re.sub(r"[^\w.-]", "_", label) + ".png")
                file.write_bytes(cv2.imencode(".png", _large(picture)[..., ::-1])[1].tobytes())
                self.written += 1


def _large(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = -(-LEAST // len(picture))
    large = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.uint8)
