"""Tables written batch by batch: CSV, Parquet and JSON lines, complete or not at all."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from cxr_lightning.errors import ConfigError
from cxr_lightning.inference.options import TableFormat

__all__ = ["ErrorList", "open_table", "printable"]

Write = Callable[[pd.DataFrame], None]


def printable(path: str) -> str:
    r"""Return a path as text for any file: bytes of its name that are no UTF-8 as \xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextmanager
def open_table(output: Path | None, kind: TableFormat, stdout: TextIO) -> Iterator[Write]:
    """Yield what appends a batch of rows to the table.

    The file has its name only once it is complete; until then, and for good where an exception ends
    it, it is called NAME.partial.

    Parameters
    ----------
    output
        The file; None writes to `stdout`, as CSV or JSON lines.
    """
    if output is None:
        yield _text_writer(stdout, kind)
        return
    partial = output.with_name(output.name + ".partial")
    if kind == "parquet":
        with _parquet(partial) as write:
            yield write
    else:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield _text_writer(file, kind)
    os.replace(partial, output)


def _text_writer(file: TextIO, kind: TableFormat) -> Write:
    started = False

    def csv_rows(batch: pd.DataFrame) -> None:
        nonlocal started
        batch.to_csv(file, index=False, header=not started, lineterminator="\n")
        started = True
        file.flush()

    def json_lines(batch: pd.DataFrame) -> None:
        for row in batch.to_dict("records"):
            file.write(json.dumps(nested(row), ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()

    return json_lines if kind == "jsonl" else csv_rows


def nested(row: dict[Any, Any]) -> dict[str, Any]:
    """Return a row as an object with one object per label under `labels`; NaN becomes null."""
    found: dict[str, Any] = {"labels": {}}
    for name, value in row.items():
        plain = None if isinstance(value, float) and not math.isfinite(value) else value
        kind, slash, label = str(name).partition("/")
        if slash:
            found["labels"].setdefault(label, {})[kind] = plain
        elif name == "flags":
            found["flags"] = str(value).split("; ") if value else []
        else:
            found[str(name)] = plain
    labels = found.pop("labels")
    return found | {"labels": labels}


@contextmanager
def _parquet(file: Path) -> Iterator[Write]:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    writer = None

    def write(batch: pd.DataFrame) -> None:
        nonlocal writer
        table = pyarrow.Table.from_pandas(batch, preserve_index=False)
        if writer is None:
            writer = ParquetWriter(file, table.schema)
        writer.write_table(table)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


class ErrorList:
    """`errors.csv`: the path and reason of everything that could not be read.

    An older list of the same name is replaced, and taken away where nothing went wrong this time;
    a file of that name which is no such list is left alone.
    """

    HEADER = ("path", "reason")

    def __init__(self, file: Path) -> None:
        self.file = file
        self.count = 0
        if file.exists() and not self._is_ours():
            raise ConfigError(
                f"{file}: what cannot be read would be listed here, but this file is something "
                "else; move it, or write the output to another folder"
            )
        file.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        try:
            with self.file.open(encoding="utf-8", newline="") as file:
                return tuple(next(csv.reader(file), ())) == self.HEADER
        except (OSError, UnicodeDecodeError):
            return False

    def add(self, path: str, reason: str) -> None:
        """Append a line, which is on its way to the disk when this returns."""
        with self.file.open("a", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            if not self.count:
                rows.writerow(self.HEADER)
            rows.writerow((printable(path), printable(reason)))
        self.count += 1
