"""What `export` does: write the network for other runtimes, and prove that it is the same."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from cxr_lightning.bundle import read_bundle_info
from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data.decode_stream import decode_stream
from cxr_lightning.data.images import resize_to_square
from cxr_lightning.errors import DataError
from cxr_lightning.inference.onnx_export import TOLERANCE, export_onnx
from cxr_lightning.inference.options import ExportOptions
from cxr_lightning.inference.sources import image_paths
from cxr_lightning.phantom import make_cohort, render

__all__ = ["export", "synthetic_pictures"]

SYNTHETIC = 12
MOST_PIXELS = 256 * 224**2  # of the user's images; more prove nothing more


def export(options: ExportOptions) -> None:
    """Write what `options` ask for, once it agrees with torch."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    info = read_bundle_info(options.bundle)
    pictures, given = synthetic_pictures(info.image), "0"
    if options.input:
        most = max(1, MOST_PIXELS // info.image.size**2)
        decoded = decode_stream(image_paths(options.input, sys.stdin), info.image)
        found = []
        for one in decoded:
            if one.pixels is None:
                raise DataError(f"{one.path}: {one.reason}")
            found.append(one.pixels)
            if len(found) == most:
                break
        if not found:
            raise DataError(f"input={' '.join(options.input)}: names no image")
        cut = next(decoded, None) is not None
        decoded.close()
        given = f"{'the first ' if cut else ''}{len(found):,}"
        pictures = np.concatenate([pictures, np.stack(found)])
    output = options.output or options.bundle.with_suffix(".onnx")
    worst = export_onnx(options.bundle, output, pictures, opset=options.opset)
    console.print(
        f"{output}: {len(info.labels)} labels, {info.image.size} pixels, opset {options.opset}"
    )
    console.print(
        f"agrees with torch on {SYNTHETIC} synthetic and {given} given images: largest "
        f"difference of a probability {worst['probability']:.1e} (at most {TOLERANCE:g} is "
        f"accepted), of a logit {worst['logits']:.1e}"
    )
    console.print(
        "use it with python -m cxr_lightning.predict "
        f"bundle={options.bundle} network={output} runtime=onnx"
    )


def synthetic_pictures(image: ImageConfig) -> NDArray[np.uint8]:
    """Return synthetic radiographs and what is none: uint8 (12, size, size)."""
    cases = make_cohort(SYNTHETIC - 4, seed=0)
    pictures = [resize_to_square(render(case), image) for case in cases]
    noise = np.random.default_rng(0).integers(0, 256, pictures[0].shape, dtype=np.uint8)
    black, white = np.zeros_like(noise), np.full_like(noise, 255)
    return np.stack([*pictures, 255 - pictures[0], noise, black, white])
