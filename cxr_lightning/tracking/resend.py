"""Send later what a run could not send."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .address import parse_address
from .outbox import Outbox
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
    sent, reasons = 0, []
    stores: dict[str, Store] = {}
    for record in outbox.read():
        uri = tracking_uri or record["tracking_uri"]
        if uri not in stores:
            stores[uri] = Store(parse_address(uri, field="the tracking URI"))
        try:
            stores[uri].deliver(record["run_id"], [record])
        except Refused as answer:
            reasons.append(f"{record['kind']}: {answer}")
            outbox.settle(set(), {record["id"]: str(answer)})
        except ConnectionError as problem:
            reasons.append(str(problem))
            break
        else:
            sent += 1
            outbox.settle({record["id"]})
    return Sent(sent, len(outbox.read()), tuple(reasons))
