"""Where files that can be made again are kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_home"]


def cache_home(chosen: Path | None = None) -> Path:
    """Return the folder of caches: the chosen one, or in $XDG_CACHE_HOME or ~/.cache."""
    if chosen is not None:
        return chosen
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cxr_lightning"
