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
    images, epochs = augmented.shape[:2]
    figure = new_figure((epochs + 1) * _SIDE + 0.2, images * _SIDE + 0.75)
    figure.suptitle(f"Training images under augment={policy}", fontsize=TITLE + 2, color=INK)
    grid = figure.subplots(images, epochs + 1, squeeze=False, gridspec_kw={"wspace": 0.02})
    names = ["as it is", *(f"epoch {epoch + 1}" for epoch in range(epochs))]
    for name, axes in zip(names, grid[0], strict=True):
        axes.set_title(name, fontsize=TEXT, color=INK)
    for line, original, variants in zip(grid, originals, augmented, strict=True):
        for axes, picture in zip(line, [original, *variants], strict=True):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
            axes.set_axis_off()
    return figure
