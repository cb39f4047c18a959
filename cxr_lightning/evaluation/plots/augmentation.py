"""What augmentation makes of some training images."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cxr_lightning.evaluation.plots.style import INK, TEXT, TITLE, new_figure

__all__ = ["augmentation_grid"]

_SIDE = 1.25  # inches of a picture


def augmentation_grid(
    originals: NDArray[np.uint8], augmented: NDArray[np.uint8], *, policy: str
) -> Figure:
    """Draw a row for each image: as it is, then as the network sees it in the first epochs.

    Parameters
    ----------
    originals
        uint8 array of shape (images, H, W).
    augmented
        uint8 array of shape (images, epochs, H, W).
    policy
        The policy's name, for the title.
    """
    pictures = np.concatenate([originals[:, None], augmented], axis=1)
    gap = max(2, pictures.shape[-1] // 32)
    around = ((0, 0), (0, 0), (0, gap), (0, gap))
    tiles = np.pad(pictures, around, constant_values=255)
    lines, columns, height, width = tiles.shape
    mosaic = tiles.swapaxes(1, 2).reshape(lines * height, columns * width)
    figure = new_figure(columns * _SIDE + 0.2, lines * _SIDE + 0.75)
    figure.suptitle(f"Training images under augment={policy}", fontsize=TITLE + 2, color=INK)
    axes = figure.subplots()  # one for all: each further one takes longer than its picture
    axes.imshow(mosaic[:-gap, :-gap], cmap="gray", vmin=0, vmax=255)
    names = ["as it is", *(f"epoch {epoch + 1}" for epoch in range(columns - 1))]
    middle = (width - gap) / 2 + width * np.arange(columns)
    axes.set_xticks(middle, names, fontsize=TEXT, color=INK)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure
