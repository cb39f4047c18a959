"""What every verb shares: arguments in, exit code out, messages instead of tracebacks."""

from __future__ import annotations

import argparse
import atexit
import errno
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from cxr_lightning import __version__
from cxr_lightning.config.compose import add_config_arguments
from cxr_lightning.config.help import print_help
from cxr_lightning.errors import ConfigError, UserError

__all__ = ["config_parser", "leave", "run_verb"]

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
RESUMABLE = "stopped; the same command with resume=auto continues where it stopped"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}\nSee python -m cxr_lightning.{self.prog} --help")


class _Help(argparse.Action):
    """Print groups and fields as well as flags; `--config-dir` before it adds the user's own."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        config_dir: Path | None = getattr(namespace, "config_dir", None)
        print_help(parser.prog, parser.format_help(), config_dir=config_dir)
        parser.exit(0)


def config_parser(verb: str, description: str, *, flags: str = "") -> argparse.ArgumentParser:
    """Return the parser of a verb that takes a configuration, and `flags` of its own."""
    parser = _Parser(
        prog=verb,
        usage=" ".join(
            word
            for word in (
                f"python -m cxr_lightning.{verb}",
                flags,
                "[--config FILE] [--config-dir DIR] [GROUP=CHOICE | KEY=VALUE ...]",
            )
            if word
        ),
        description=description,
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-h", "--help", action=_Help, nargs=0, help="show all of this and stop")
    parser.add_argument("--version", action="version", version=f"cxr_lightning {__version__}")
    add_config_arguments(parser)
    return parser


def run_verb(
    main: Callable[[Sequence[str]], int],
    argv: Sequence[str] | None = None,
    *,
    stopped: str = RESUMABLE,
) -> int:
    """Run a verb and return its exit code: 0, 2 for what the user can mend, 130 for Ctrl-C.

    A full disk is the user's to mend too.

    `stopped` is what is said after Ctrl-C.
    """
    try:
        return main(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        return _refuse(str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(
            f"{where}{error.strerror}. Make room, or write elsewhere (run.dir, output); a run goes "
            "on from its last epoch with resume=auto"
        )
    except KeyboardInterrupt:
        Console(stderr=True, highlight=False).print(escape(stopped))
        return EXIT_INTERRUPTED


def _refuse(text: str) -> int:
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"[bold red]error:[/bold red] {escape(text)}"
    )
    return EXIT_USER_ERROR


def leave(code: int) -> NoReturn:
    """End the process: what was registered for its end is done, and Python is not taken apart.

    That would take seconds, in which Python looks through all that torch, Lightning and MLflow
    hold. And threads of libraries that it stops in their C++ abort the process ("terminate called
    without an active exception"): a rank that has done its work would fail, and the run with it.
    Whatever runs a verb in its own process, such as a profiler, calls `run_verb` instead.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as a regular end does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # as where the shell closed it
                stream.flush()
        except BrokenPipeError:  # its reader has seen enough
            pass
        except OSError:  # said, but not written: the disk is full
            code = code or EXIT_USER_ERROR
    os._exit(code)
