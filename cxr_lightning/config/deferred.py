"""Let `--help` and configuration errors answer before torch and pandas have been imported.

The modules of data sets and losses hold their `Config` beside the code that uses it. Importing one
imports pandas or torch, which takes seconds; but neither is touched until a table is read or a loss is
built. Under :func:`defer_heavy_imports` such an import is carried out at the first use of an attribute
(`importlib.util.LazyLoader`). Modules need not know: one that does use torch at import time is only
slower.
"""

from __future__ import annotations

import importlib.util
import sys

__all__ = ["defer_heavy_imports"]


def defer_heavy_imports(names: tuple[str, ...] = ("torch", "pandas", "numpy")) -> None:
    """Register `names` for import at first use, unless they are imported already."""
    for name in names:
        if name in sys.modules:
            continue
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            continue  # the plain import will say that it is not installed
        loader = importlib.util.LazyLoader(spec.loader)
        spec.loader = loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        loader.exec_module(module)
