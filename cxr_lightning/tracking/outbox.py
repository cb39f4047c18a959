"""What could not be sent, kept in the run's folder: one JSON record a line.

The file is appended to while MLflow is away, so that a killed process loses nothing that had been
written; a line cut off by the kill is skipped. It disappears when everything was delivered.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from ..whole_file import whole_file
from .records import Record, dumps

__all__ = ["UNSENT", "Outbox"]

UNSENT = "mlflow_unsent.jsonl"


class Outbox:
    """The file of unsent records in one run's folder.

    Each line is self-contained: `id`, `run_id`, `tracking_uri` (without password) and the record.
    A lock guards it, as somebody may send by hand what a live run is still adding to.

    Parameters
    ----------
    folder : Path
        The run's folder; created when there is something to write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.path = self.folder / UNSENT
        self._lock = FileLock(self.folder / f".{UNSENT}.lock", timeout=30)

    def append(self, records: Iterable[Record], *, run_id: str, tracking_uri: str) -> None:
        """Add records at the end, flushed to the disk before this returns."""
        where = {"run_id": run_id, "tracking_uri": tracking_uri}
        lines = [dumps({"id": uuid.uuid4().hex, **where, **self._portable(r)}) for r in records]
        if not lines:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock, self.path.open("ab+") as file:
            if file.tell() and not self._ends_line(file):
                lines[0] = "\n" + lines[0]
            file.write(("\n".join(lines) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def read(self, run_id: str | None = None) -> list[Record]:
        """Return the records in order, of one run or of all."""
        if not self.path.exists():
            return []
        with self._lock:
            records = self._records()
        return [self._resolved(r) for r in records if run_id in (None, r["run_id"])]

    def settle(self, sent: Collection[str], refused: Mapping[str, str] | None = None) -> None:
        """Take out what was sent, by id, and note beside what was refused why."""
        refused = refused or {}
        if not sent and not refused:
            return
        with self._lock:
            kept = [
                {**r, "refused": refused[r["id"]]} if r["id"] in refused else r
                for r in self._records()
                if r["id"] not in sent
            ]
            if not kept:
                self.path.unlink(missing_ok=True)
                Path(self._lock.lock_file).unlink(missing_ok=True)
                return
            with whole_file(self.path) as partial, partial.open("w", encoding="utf-8") as file:
                file.writelines(dumps(record) + "\n" for record in kept)
                file.flush()
                os.fsync(file.fileno())

    def _records(self) -> list[Record]:
        records = []
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:  # the process was killed while it wrote this line
                continue
            if isinstance(record, dict) and {"id", "run_id", "kind"} <= record.keys():
                records.append(record)
        return records

    def _portable(self, record: Record) -> Record:
        """Name files relative to the run's folder, which may be moved before it is sent."""
        if "path" not in record:
            return record
        path = Path(record["path"])
        if path.is_relative_to(self.folder):
            return {**record, "path": str(path.relative_to(self.folder))}
        return record

    def _resolved(self, record: Record) -> Record:
        if "path" not in record:
            return record
        return {**record, "path": str(self.folder / record["path"])}

    @staticmethod
    def _ends_line(file: BinaryIO) -> bool:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
