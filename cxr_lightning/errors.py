"""Errors whose message is meant for the person at the terminal.

Anything that derives from :class:`UserError` ends a verb with exit code 2 and its message, without
a traceback: it says what was given, where, what is allowed and what to do. So does a full disk.
Every other exception is a defect and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["ConfigError", "DataError", "Diverged", "UserError", "bullet_list", "nearest"]


class UserError(Exception):
    """Something the user gave cannot be used; the message says what, where and what to do."""


class ConfigError(UserError):
    """A wrong group, key, value or combination of options."""


class DataError(UserError):
    """Files or tables that are missing, unreadable or contradict themselves."""


class Diverged(UserError):
    """Training left the finite numbers; a sweep learns from it where not to look."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest allowed word, or an empty string."""
    lowered = {word.lower(): word for word in allowed}
    match = get_close_matches(given.lower(), lowered, n=1, cutoff=0.6)
    return f" Did you mean {lowered[match[0]]!r}?" if match else ""


def bullet_list(items: Iterable[str], *, limit: int = 20) -> str:
    """Format items one per line; past `limit` the rest is counted, never dropped silently."""
    items = list(items)
    lines = [f"  - {item}" for item in items[:limit]]
    if len(items) > limit:
        lines.append(f"  - ... and {len(items) - limit:,} more")
    return "\n".join(lines)
