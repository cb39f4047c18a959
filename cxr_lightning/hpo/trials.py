"""Which trials a study holds, which of them count, and which lost their process.

`--trials` is what a study should hold in the end. Complete, pruned and failed trials count, and so
do those that are under way anywhere. A trial whose process was lost, or that was stopped, is put
back into the queue with its values: the new trial counts in place of the old one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

__all__ = [
    "BASELINE",
    "LAST_WORDS",
    "OWNER",
    "REASON",
    "RETRIES",
    "counted",
    "is_alive",
    "owner",
    "requeue",
    "retry_lost",
]

OWNER = "cxr_lightning:owner"
"""Attribute: the process that runs a trial."""

BASELINE, LAST_WORDS, REASON = "baseline", "last_words", "reason"
"""Attributes: it is what the sweep started from; why it failed; why it was pruned."""

RETRIES = 3
"""How often a trial that loses its process is begun again: it may be what kills it."""

_FIRST, _HISTORY = "failed_trial", "retry_history"


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count towards `--trials`, by number."""
    replaced = {number for trial in trials for number in trial.system_attrs.get(_HISTORY, ())}
    return [trial for trial in trials if trial.number not in replaced]


def requeue(study: optuna.Study, trial: FrozenTrial, *, limit: int | None = None) -> bool:
    """Put the values of an ended trial back into the queue, and return whether that was done.

    The names are those of Optuna's RetryHeartbeatStaleTrialCallback, so that its own tools
    understand them; runs and last words stay with the old trial.

    Parameters
    ----------
    limit
        How often at most; None: always.
    """
    history = [*trial.system_attrs.get(_HISTORY, ()), trial.number]
    if limit is not None and len(history) > limit:
        return False
    first = trial.system_attrs.get(_FIRST, trial.number)
    kept = {key: value for key, value in trial.system_attrs.items() if key != OWNER}
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={key: one for key, one in trial.user_attrs.items() if key == BASELINE},
            system_attrs={**kept, _FIRST: first, _HISTORY: history},
        )
    )
    return True


def retry_lost(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put a trial whose process was lost back into the queue."""
    requeue(study, trial, limit=RETRIES)


def owner(pid: int | None = None) -> dict[str, Any]:
    """Return what identifies a process on any machine: nothing that names a host or a user."""
    pid = os.getpid() if pid is None else pid
    return {"machine": _machine(), "pid": pid, "started": _started(pid)}


def is_alive(one: dict[str, Any]) -> bool | None:
    """Return whether an owner still runs; None: it is on another machine."""
    if one.get("machine") != _machine():
        return None
    return one.get("started") == _started(int(one.get("pid", 0))) != ""


def _machine() -> str:
    """Return what processes that see one another share: a boot, and a process namespace."""
    parts = []
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        parts.append(str(os.getppid()))  # unknown: nobody else's
    return "/".join(parts)


def _started(pid: int) -> str:
    """Return when a process began, in ticks since the boot; empty: it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
