"""Pictures of a label: which images, the overlays on them, and the page that shows them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cxr_lightning.evaluation.localisation import on_picture
from cxr_lightning.evaluation.plots.gallery import Example, example_gallery
from cxr_lightning.evaluation.plots.style import display_name
from cxr_lightning.explanation.overlays import draw_boxes, overlay
from cxr_lightning.explanation.source import BOX_SPACE, Source

__all__ = ["choose_examples", "draw_examples"]

SIDES = 512, 1024  # pixels: the least and the most of an overlay's longer side
_SEEN = {"train": " (patient trained on)", "val": " (patient of validation)"}


def choose_examples(
    truth: NDArray[np.float32], probability: NDArray[np.float32], boxed: NDArray[np.bool_], n: int
) -> NDArray[np.int64]:
    """Choose n images of one label.

    Two of three have the finding, those with boxes first and then by probability; the others are
    the most probable of those without it. Where one kind runs short the other fills up.

    Parameters
    ----------
    truth, probability, boxed : arrays of shape (images,)
        Unknown truth is NaN; such an image is not chosen.
    """
    order = np.lexsort((-probability, ~boxed))
    present = order[truth[order] == 1]
    absent = np.argsort(-probability, kind="stable")
    absent = absent[truth[absent] == 0]
    wanted = max(n - n // 3, n - len(absent))
    first = present[:wanted]
    return np.concatenate([first, absent[: n - len(first)]]).astype(np.int64)


def draw_examples(
    source: Source,
    label: str,
    rows: Sequence[int],
    heat: NDArray[np.float32],
    *,
    probability: NDArray[np.float32],
    threshold: float,
    method: str,
    folder: Path,
) -> Figure:
    """Write an overlay per image to `folder`/LABEL and return the page that shows all.

    Parameters
    ----------
    rows
        Images of the source.
    heat : float32 array of shape (len(rows), h, w)
    probability : float32 array of shape (len(rows),)
    threshold
        From which probability the label is called; NaN where none was fitted.
    """
    target = folder / re.sub(r"[^\w.-]+", "_", label)
    target.mkdir(parents=True, exist_ok=True)
    truth = source.truth[:, source.labels.index(label)]
    examples = []
    for place, (row, one, p) in enumerate(zip(rows, heat, probability, strict=True), start=1):
        picture, warmth = _drawn(source, row, one)
        boxes = _scaled(source.boxes_of(row, label), picture.shape)
        explained = overlay(picture, warmth)
        name = Path(re.sub(r"[^\w.-]+", "_", str(source.table["sample_id"].iat[row]))).stem
        file = target / f"{place:02d}_{name}.png"
        cv2.imwrite(str(file), draw_boxes(explained, boxes)[..., ::-1])
        word = {1.0: "present", 0.0: "absent"}.get(float(truth[row]), "unknown")
        called = "called" if p >= threshold else "not called"
        agrees = None if np.isnan(truth[row] + threshold) else bool((p >= threshold) == truth[row])
        said = f"p = {p:.2f}" + ("" if np.isnan(threshold) else f", {called}")
        empty = "" if one.any() else "; no map"
        known = _SEEN.get(str(source.table["seen"].iat[row]), "")
        examples.append(
            Example(
                picture, explained, boxes, f"{said}; truth: {word}{empty}\n{name}{known}", agrees
            )
        )
    at = "" if np.isnan(threshold) else f" Called from p = {threshold:.2f}."
    return example_gallery(
        examples,
        title=f"{display_name(label)}: {method}",
        note="Each radiograph, and with its heat map: yellow where most speaks for the label; "
        f"drawn boxes in cyan. p is the network's score, not calibrated.{at} Solid frame: call "
        "and truth agree; dashed: they do not. Maps are scaled one by one: they say where, not "
        "how much.",
    )


def _drawn(
    source: Source, row: int, heat: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the radiograph, within SIDES, and its heat map of the same shape."""
    picture = source.picture(row)
    placed, shape = source.placement(row)
    factor = float(np.clip(max(shape), *SIDES)) / max(shape)
    height, width = round(shape[0] * factor), round(shape[1] * factor)
    if (height, width) != shape:
        by = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=by), np.uint8)
    return picture, on_picture(heat, placed, source.image.size, shape, (height, width))


def _scaled(boxes: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Boxes of BOX_SPACE in the pixels of a picture."""
    factor = np.array([shape[1] / BOX_SPACE[1], shape[0] / BOX_SPACE[0]])
    return boxes * np.tile(factor, 2)
