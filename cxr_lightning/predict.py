"""`python -m cxr_lightning.predict`: probabilities and decisions for images, with one bundle."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cxr_lightning.cli import leave, run_verb
from cxr_lightning.config.words import options_from_words, print_options
from cxr_lightning.inference.checks import check_predict
from cxr_lightning.inference.options import PredictOptions

__all__ = ["main"]

DESCRIPTION = """\
Read radiographs exactly as training did, and write a row for each: for every label the raw and the
calibrated probability, the decision at the threshold that was fitted on validation, and that
threshold. Images unlike those of training (no chest, inverted, nearly constant) are flagged. What
cannot be read is listed with its reason in errors.csv. Exit code 0; 3 if some images could not be
read, all others being done; 2 for a mistake in the command."""
EXAMPLES = (
    "bundle=runs/NAME/bundle.safetensors input=/data/new output=predictions.csv",
    "bundle=runs/NAME/bundle.safetensors a.png b.dcm format=jsonl",
    "bundle=runs/NAME/bundle.safetensors input=@list.txt output=predictions.parquet",
    "bundle=runs/NAME/bundle.safetensors input=/data/new runtime=onnx output=predictions.csv",
)
EXIT_UNREADABLE = 3
STOPPED = "stopped by Ctrl-C; what was written so far is in the output's name with .partial"


def main(argv: Sequence[str]) -> int:
    """Predict as the command line says; returns the exit code."""
    usage = "bundle=FILE input=PATH ... [KEY=VALUE ...]"
    if print_options(
        argv,
        PredictOptions,
        verb="predict",
        usage=usage,
        description=DESCRIPTION,
        examples=EXAMPLES,
    ):
        return 0
    options = options_from_words(argv, PredictOptions, verb="predict", bare="input")
    check_predict(options)
    # torch takes seconds to import; a mistake on the command line is answered before that.
    from cxr_lightning.inference.overlays import Draw
    from cxr_lightning.inference.run import predict

    draw: Draw | None = None
    if options.overlays is not None:
        from cxr_lightning.explanation.overlays import overlay_for

        draw = overlay_for
    try:
        return EXIT_UNREADABLE if predict(options, draw=draw) else 0
    except BrokenPipeError:  # what reads standard output has seen enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    leave(run_verb(main, stopped=STOPPED))
