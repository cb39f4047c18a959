"""What a trial said last, and what its exit code means."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from cxr_lightning.hpo.channel import Message

__all__ = ["last_words"]

_LINES = 20
_MEANINGS = {
    signal.SIGKILL: "by another process, or by the system for want of memory",
    signal.SIGSEGV: "a segmentation fault",
    signal.SIGABRT: "it gave up by itself",
    signal.SIGBUS: "a bus error: is shared memory or the disk full?",
}


def last_words(result: Message, code: int | None, log: Path) -> str:
    """Return why a trial failed: a line that says it, then the end of what it said."""
    if "error" in result:
        head = str(result["error"])
    elif code is not None and code < 0:
        try:
            name = signal.Signals(-code)
            head = f"killed by {name.name} ({_MEANINGS.get(name, 'a signal')})"
        except ValueError:
            head = f"killed by signal {-code}"
    else:
        head = f"it ended with exit code {code}, without a result"
    tail = _tail(log)
    return f"{head}\n{tail}" if tail and tail not in head else head


def _tail(log: Path) -> str:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    return "\n".join(plain.rstrip().splitlines()[-_LINES:])
