"""`python -m cxr_lightning.sweep`: search for a better configuration, in isolated trials."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from contextlib import closing

from cxr_lightning.cli import config_parser, leave, run_verb
from cxr_lightning.config.help import describe_default, describe_type, fields_of
from cxr_lightning.hpo.options import SweepOptions
from cxr_lightning.hpo.space import PrunerConfig, SamplerConfig

__all__ = ["main", "options_of"]

DESCRIPTION = """\
Search a space (sweep=NAME) in isolated trials until the study holds --trials of
them, over restarts, workers and machines; what is best, and why, is on the
sweep's page in MLflow. Ctrl-C ends the running trials; the same command
continues. The test set is read by --refit-best alone."""
STOPPED = "stopped; the same command continues, to the same total"


def main(argv: Sequence[str]) -> int:
    """Sweep as the command line says; returns the exit code."""
    options = options_of(argv)
    # Optuna, MLflow and torch take seconds to import: here, and in the process that trials are
    # started from, at the same time.
    from cxr_lightning.hpo.client import ServerClient

    with closing(ServerClient()) as client:
        from cxr_lightning.hpo.run import run_sweep

        return run_sweep(options, client)


def options_of(argv: Sequence[str]) -> SweepOptions:
    """Return what a command line says; a wrong one, or `--help`, ends the process."""
    parser = config_parser("sweep", DESCRIPTION, flags="[--trials N] [--study NAME] [...]")
    _add_flags(parser)
    parser.epilog = _space_fields()
    arguments = parser.parse_intermixed_args(argv)
    return SweepOptions(
        words=tuple(arguments.overrides),
        config_file=arguments.config,
        config_dir=arguments.config_dir,
        trials=arguments.trials,
        study=arguments.study,
        storage=arguments.storage,
        workers=arguments.workers,
        refit_best=arguments.refit_best,
        refit_seeds=arguments.refit_seeds,
    )


def _space_fields() -> str:
    """Return what `sweep.KEY=VALUE` can set, as the end of the help's first part."""
    lines = ["sweep.KEY=VALUE sets a field of the space, such as:"]
    for key, section in (("sampler", SamplerConfig), ("pruner", PrunerConfig)):
        for name, field in fields_of(section, f"sweep.{key}"):
            default = describe_default(field)
            lines.append(f"  {name}  [{describe_type(field)}; default {default}]")
            text = field.description or ""
            lines += textwrap.wrap(text, 74, initial_indent=" " * 6, subsequent_indent=" " * 6)
    lines.append("A value for a parameter of the space fixes it: it is not varied.")
    return "\n".join(lines)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    flags = parser.add_argument_group("sweep")
    flags.add_argument(
        "--trials",
        type=_count,
        metavar="N",
        help="trials that the study should hold in the end; what it holds already counts",
    )
    flags.add_argument("--study", metavar="NAME", help="default: the space and the data set")
    flags.add_argument(
        "--storage",
        metavar="URL",
        default="sqlite:///optuna.db",
        help="sqlite:///FILE, or postgresql://... for several machines (mysql://... is taken, not "
        "tested); default %(default)s",
    )
    flags.add_argument(
        "--workers",
        type=_count,
        metavar="N",
        default=1,
        help="trials at a time: a GPU each, shared where there are fewer; CPU threads divided",
    )
    flags.add_argument(
        "--refit-best",
        type=_count,
        metavar="N",
        help="train the best N again, with the whole budget and other seeds, and test them",
    )
    flags.add_argument(
        "--refit-seeds",
        type=_count,
        metavar="N",
        default=3,
        help="seeds for each of them; default %(default)s",
    )


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number, 1 or more")
    return number


if __name__ == "__main__":
    leave(run_verb(main, stopped=STOPPED))
