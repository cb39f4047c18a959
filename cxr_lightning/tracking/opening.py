"""A store contacted, a run begun or continued in it, and what sends to it started."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from ..errors import ConfigError
from .address import Address, parse_address
from .outbox import Outbox
from .records import clean_name
from .sender import Sender
from .store import RunFacts, Store

__all__ = ["start_sender"]

_PATIENCE = 600.0  # seconds that a trial waits for a store in which its sweep has a run
_AGAIN = 5.0
_log = logging.getLogger("cxr_lightning.tracking")


def start_sender(
    tracking_uri: str,
    experiment: str,
    run_name: str | None,
    tags: Mapping[str, str],
    run_dir: Path,
    run_id: str | None,
    parent_run_id: str | None,
) -> tuple[RunFacts, Sender, str]:
    """Contact MLflow, start or continue the run, and start its sender."""
    address = parse_address(tracking_uri)
    tags = {clean_name(name): value for name, value in tags.items()}
    if parent_run_id is not None:
        tags["mlflow.parentRunId"] = parent_run_id
    outbox = Outbox(run_dir)
    store = _opened(address, patience=_PATIENCE if parent_run_id is not None else 0.0)
    if run_id is None:
        facts = store.start(experiment, run_name, tags)
    else:
        facts = store.resume(run_id, tags)
        # An unsent end of the first part is no longer true.
        old = [r for r in outbox.read(run_id) if r["kind"] == "status"]
        outbox.settle({record["id"] for record in old})
    sender = Sender(
        lambda batch: store.deliver(facts.run_id, batch),
        outbox,
        run_id=facts.run_id,
        shown=address.shown,
    )
    return facts, sender, address.uri


def _opened(address: Address, patience: float) -> Store:
    """Open the store; where it does not answer, try again for `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return Store(address)
        except ConfigError as problem:
            if time.monotonic() >= deadline:
                raise
            _log.warning("waiting for MLflow, as runs of this sweep were kept before: %s", problem)
            time.sleep(_AGAIN)
