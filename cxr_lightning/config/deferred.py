"""Let `--help` answer before torch and pandas have been imported.

The modules of data sets and losses hold their `Config` beside the code that uses it, and importing
one imports pandas or torch, which takes seconds. Help wants nothing but the `Config`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

__all__ = ["heavy_imports_stubbed"]


@contextmanager
def heavy_imports_stubbed(names: tuple[str, ...] = ("torch", "pandas")) -> Iterator[None]:
    """Stand empty modules in for `names`, unless they are imported already.

    Only for a process that prints and ends: what is imported in here keeps the empty modules. A
    module that uses one of them while it is imported raises AttributeError or ImportError.
    """
    stubs = {name: ModuleType(name) for name in names if name not in sys.modules}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in stubs:
            sys.modules.pop(name, None)
