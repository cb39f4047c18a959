"""MLflow, and the only place that imports it.

``open_tracker`` gives Lightning's Trainer a logger, ``open_run`` is the same without Lightning.
``open_existing`` opens a finished run again. ``send_unsent`` delivers later what could not be sent,
as does ``python -m cxr_lightning.tracking``; ``describe_environment`` says what a run ran on.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .address import Address, parse_address
    from .environment import describe_environment
    from .existing import open_existing
    from .logger import MLflowTracker, open_tracker
    from .resend import Sent, send_unsent
    from .run import Status, TrackedRun, open_run

__all__ = [
    "Address",
    "MLflowTracker",
    "Sent",
    "Status",
    "TrackedRun",
    "describe_environment",
    "open_existing",
    "open_run",
    "open_tracker",
    "parse_address",
    "send_unsent",
]

# Looked up on first use: the logger needs Lightning, which takes seconds to import.
_HOME = {
    "Address": "address",
    "MLflowTracker": "logger",
    "Sent": "resend",
    "Status": "run",
    "TrackedRun": "run",
    "describe_environment": "environment",
    "open_existing": "existing",
    "open_run": "run",
    "open_tracker": "logger",
    "parse_address": "address",
    "send_unsent": "resend",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
