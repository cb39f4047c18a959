"""`python -m cxr_lightning.evaluate`: bundles or saved predictions, on any data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cxr_lightning.assessment.options import EvaluateOptions
from cxr_lightning.cli import leave, run_verb
from cxr_lightning.config.compose_verbs import compose_data, compose_options
from cxr_lightning.config.schema import DataConfig
from cxr_lightning.config.words import print_options
from cxr_lightning.errors import ConfigError

__all__ = ["main"]

DESCRIPTION = (
    "Evaluate bundles on any split of any data set, or predictions that were saved: discrimination "
    "with patient-bootstrap intervals, calibration, decision curves, subgroups, comparisons of "
    "models, ensembles, and a report that can be read in a browser or printed. The data are chosen "
    "as for fit (data=NAME and data.KEY=VALUE); labels, image size and inputs beside the image are "
    "the bundle's. A + between words begins a further data set: every model is evaluated on each."
)
EXAMPLES = (
    "bundle=runs/NAME/bundle.safetensors data=nih data.root=/data/nih",
    "bundle=A.safetensors,B.safetensors data=nih data.root=/data/nih weights=validation",
    "bundle=A.safetensors data=nih data.root=/data/nih + data=chexpert data.root=/data/chexpert",
    "predictions=runs/NAME/predictions_test.parquet validation=runs/NAME/predictions_val.parquet",
)
_LISTS = ("bundle", "predictions", "validation", "subgroups")


def main(argv: Sequence[str]) -> int:
    """Evaluate as the command line says; returns the exit code."""
    asked = print_options(
        argv,
        EvaluateOptions,
        verb="evaluate",
        usage="bundle=FILE[,FILE...] data=NAME [KEY=VALUE ...] [+ data=NAME ...]",
        description=DESCRIPTION,
        examples=EXAMPLES,
    )
    if asked:
        return 0
    parts = list(_parts(argv))
    options, configs = _read(parts)
    # Evaluating imports torch; a mistake on the command line is answered before that.
    from cxr_lightning.assessment.run import run_evaluate

    run_evaluate(options, configs)
    return 0


def _parts(argv: Sequence[str]) -> Iterator[list[str]]:
    """Split the words at each +, and write A,B as a list."""
    part: list[str] = []
    for word in argv:
        key, _, value = word.partition("=")
        if word == "+":
            yield part
            part = []
        elif key in _LISTS and not value.startswith("["):
            part.append(f"{key}=[{value}]")
        else:
            part.append(word)
    yield part


def _read(parts: list[list[str]]) -> tuple[EvaluateOptions, list[DataConfig]]:
    first, *further = parts
    if any(word.startswith("predictions=") for word in first):
        if further or any(word.startswith("data") for word in first):
            raise ConfigError("predictions=... holds the images already: leave data out")
        return compose_options(first, EvaluateOptions), []
    options, config = compose_data(first, EvaluateOptions)
    configs = [config]
    for part in further:
        own = [word for word in part if not word.startswith("data")]
        if own:
            raise ConfigError(f"{' '.join(own)}: after + only data=... may stand")
        base = [word for word in first if not word.startswith("data")]
        configs.append(compose_data([*base, *part], EvaluateOptions)[1])
    return options, configs


if __name__ == "__main__":
    leave(run_verb(main))
