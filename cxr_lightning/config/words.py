"""The command line of verbs that take KEY=VALUE words and no configuration file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cxr_lightning import __version__
from cxr_lightning.config.help import describe_default, describe_type
from cxr_lightning.config.messages import explain
from cxr_lightning.config.schema import Section
from cxr_lightning.errors import ConfigError, bullet_list, nearest

__all__ = ["options_from_words", "print_options"]

Options = TypeVar("Options", bound=Section)
_FLAGS = re.compile(r"--?[a-zA-Z][\w-]*")


def options_from_words(
    words: Sequence[str], options: type[Options], *, verb: str, bare: str | None = None
) -> Options:
    """Return the options that KEY=VALUE words describe.

    Parameters
    ----------
    words
        The command line.
    options
        A section; a field that is a tuple may be given several times.
    verb
        For the messages.
    bare
        Field that takes words without a key, such as what a shell makes of ``*.png``.

    Raises
    ------
    ConfigError
        Everything that is wrong, at once.
    """
    fields = options.model_fields
    given: dict[str, list[str]] = {}
    problems = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in fields:
            given.setdefault(key, []).append(value)
        elif bare is not None and (not equals or Path(word).exists()) and not _FLAGS.match(word):
            given.setdefault(bare, []).append(word)
        elif equals and key.isidentifier():
            problems.append(
                f"{word}: no such key.{nearest(key, fields)} {verb} has: {', '.join(fields)}"
            )
        else:
            problems.append(f"{word!r} is not understood: write KEY=VALUE")
    raw: dict[str, object] = {}
    for key, values in given.items():
        several = str(fields[key].annotation).startswith("tuple")
        if len(values) > 1 and not several:
            problems.append(f"{key} is given {len(values)} times: {', '.join(values)}")
        raw[key] = tuple(values) if several else values[-1]
    try:
        found = options.model_validate(raw)
    except ValidationError as error:
        problems += explain(error, options, (), {})
    else:
        if not problems:
            return found
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise ConfigError(
        f"{count} on the command line\n{bullet_list(problems, limit=50)}\n"
        f"See python -m cxr_lightning.{verb} --help"
    )


def print_options(
    words: Sequence[str],
    options: type[Section],
    *,
    verb: str,
    usage: str,
    description: str,
    examples: Sequence[str],
) -> bool:
    """Print help or version where the words ask for it; say whether they did."""
    console = Console(soft_wrap=False, highlight=False)
    if "--version" in words:
        console.print(f"cxr_lightning {__version__}")
        return True
    if not {"-h", "--help"} & set(words):
        return False
    console.print(Text(f"usage: python -m cxr_lightning.{verb} {usage}"))
    console.print(Text(f"\n{' '.join(description.split())}\n"))
    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for key, field in options.model_fields.items():
        limits = f"  [{describe_type(field)}; default {describe_default(field)}]"
        table.add_row(
            Text(f"  {key}", style="bold"), Text.assemble(field.description or "", (limits, "dim"))
        )
    console.print(table)
    console.print(Text("\nExamples"))
    for example in examples:
        console.print(Text(f"  python -m cxr_lightning.{verb} {example}"), soft_wrap=True)
    return True
