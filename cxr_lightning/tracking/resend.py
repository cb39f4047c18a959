"""Send later what a run could not send."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from .address import parse_address
from .outbox import Outbox
from .records import Record, batches
from .sender import Refused
from .store import Store

__all__ = ["Sent", "send_unsent"]


class Sent(NamedTuple):
    """Result of `send_unsent`: records sent, records kept, and why they were kept."""

    sent: int
    kept: int
    reasons: tuple[str, ...]


def send_unsent(run_dir: Path | str, tracking_uri: str | None = None) -> Sent:
    """Send what a run could not send while MLflow was away.

    Parameters
    ----------
    run_dir : Path
        The run's folder with its ``mlflow_unsent.jsonl``.
    tracking_uri : str, optional
        Where to; by default where it was meant to go. Needed where that address had a password,
        which is not written to files.

    Raises
    ------
    ConfigError
        If MLflow cannot be reached now. Nothing is lost, nothing arrives twice.
    """
    outbox = Outbox(Path(run_dir))
    reasons: list[str] = []
    total = len(outbox.read())
    for (uri, run_id), records in groupby(outbox.read(), _destination):
        store = _open(tracking_uri or uri)
        try:
            for batch in batches(records):
                reasons += _send(store, run_id, batch, outbox)
        except ConnectionError as problem:
            reasons.append(str(problem))
            break
    kept = len(outbox.read())
    return Sent(total - kept, kept, tuple(reasons))


def _destination(record: Record) -> tuple[str, str]:
    return record["tracking_uri"], record["run_id"]


def _open(uri: str) -> Store:
    return Store(parse_address(uri, option="the tracking URI"))


def _send(store: Store, run_id: str, batch: list[Record], outbox: Outbox) -> list[str]:
    """Send one batch, or each record by itself where the batch is refused; return the refusals."""
    try:
        store.deliver(run_id, batch)
    except Refused as answer:
        if len(batch) > 1:
            return [why for one in batch for why in _send(store, run_id, [one], outbox)]
        outbox.settle(set(), {batch[0]["id"]: str(answer)})
        return [f"{batch[0]['kind']}: {answer}"]
    outbox.settle({record["id"] for record in batch})
    return []
