"""`python -m cxr_lightning.prepare`: decode, cache and audit a data set before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cxr_lightning.cli import config_parser, leave, run_verb
from cxr_lightning.config.compose import compose

__all__ = ["main"]

DESCRIPTION = """\
Read a data set, decode its images into the cache, and look for everything that would invalidate a
study on it: patients or pictures in more than one split, unreadable images, labels with one class.
Writes audit.json and audit.html. Exit code 1 if a study would be invalid, 2 for a mistake in the
command or the files. --download first fetches what is public: NIH's sample of 5,606 images."""

EXIT_INVALID = 1


def main(argv: Sequence[str]) -> int:
    """Prepare the data set that the command line names; returns the exit code."""
    parser = config_parser("prepare", DESCRIPTION, flags="[--download] [--output DIR]")
    parser.add_argument(
        "--download",
        action="store_true",
        help="data=nih: fetch the public sample from Kaggle first, and go on where it broke off",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the report (default: audit/DATA)"
    )
    arguments = parser.parse_intermixed_args(argv)
    config = compose(
        arguments.overrides, config_file=arguments.config, config_dir=arguments.config_dir
    )
    data = config.data
    if arguments.download:
        from cxr_lightning.data.download import download
        from cxr_lightning.terminal import Reporter

        data = download(data, Reporter().say)
    from cxr_lightning.audit.run import prepare

    audit = prepare(data, arguments.output or Path("audit") / config.data.name)
    return EXIT_INVALID if audit.invalid else 0


if __name__ == "__main__":
    leave(run_verb(main))
