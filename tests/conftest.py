"""What tests share: a small phantom, a private cache folder, and the optional real data."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxr_lightning.phantom import write_phantom

# Shells start jobs in the background with Ctrl-C ignored, and processes inherit that; several tests
# interrupt processes of theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep caches of tests out of the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of 160 radiographs of 64 pixels; not to be changed."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(root, images=160, seed=3, size=64, processes=1, progress=False)
    return root


@pytest.fixture
def shared_data() -> Path:
    """The folder of real radiographs beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the real radiographs (../shared/data) are not on this machine")
    return SHARED
