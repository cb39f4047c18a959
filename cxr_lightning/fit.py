"""`python -m cxr_lightning.fit`: train, evaluate on the test set, write the bundle."""

from __future__ import annotations

from collections.abc import Sequence

from cxr_lightning.cli import config_parser, leave, run_verb
from cxr_lightning.config.compose import compose

__all__ = ["main"]

DESCRIPTION = """\
Train a multi-label classifier of chest radiographs, evaluate it on the test set and write
everything to runs/<name>/ and to MLflow. Without arguments it trains on synthetic radiographs."""


def main(argv: Sequence[str]) -> int:
    """Train as the command line says; returns the exit code."""
    arguments = config_parser("fit", DESCRIPTION).parse_intermixed_args(argv)
    config = compose(
        arguments.overrides, config_file=arguments.config, config_dir=arguments.config_dir
    )
    # Training imports torch and lightning; a mistake on the command line is answered before that.
    from cxr_lightning.training import run_fit

    run_fit(config)
    return 0


if __name__ == "__main__":
    leave(run_verb(main))
