"""`python -m cxr_lightning.export`: a bundle's network as ONNX, proven equal to torch."""

from __future__ import annotations

from collections.abc import Sequence

from cxr_lightning.cli import leave, run_verb
from cxr_lightning.config.words import options_from_words, print_options
from cxr_lightning.inference.checks import check_export
from cxr_lightning.inference.options import ExportOptions

__all__ = ["main"]

DESCRIPTION = """\
Write the network of a bundle as ONNX, for ONNX Runtime, OpenVINO and others. The file takes uint8
images (batch, 1, size, size), normalises them itself, and carries labels, preprocessing, thresholds
and calibration in its metadata. It is compared with torch on synthetic radiographs, and on yours
with input=PATH; a difference of a probability above 1e-4 is refused."""
EXAMPLES = (
    "bundle=runs/NAME/bundle.safetensors",
    "bundle=runs/NAME/bundle.safetensors input=/data/nih/images output=network.onnx",
)


def main(argv: Sequence[str]) -> int:
    """Export as the command line says; returns the exit code."""
    usage = "bundle=FILE [format=onnx] [KEY=VALUE ...]"
    if print_options(
        argv, ExportOptions, verb="export", usage=usage, description=DESCRIPTION, examples=EXAMPLES
    ):
        return 0
    options = options_from_words(argv, ExportOptions, verb="export")
    check_export(options)
    from cxr_lightning.inference.export import export

    export(options)
    return 0


if __name__ == "__main__":
    leave(run_verb(main, stopped="stopped by Ctrl-C; nothing was written"))
