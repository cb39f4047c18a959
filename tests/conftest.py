"""What tests share: a small phantom, a private cache folder, and the optional real data."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from cxr_lightning.phantom import write_phantom

if TYPE_CHECKING:
    from cxr_lightning.hpo.client import ServerClient

# Shells start jobs in the background with Ctrl-C ignored, and processes inherit that; several tests
# interrupt processes of theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)

# the same examples each time, however long they take on a busy machine
hypothesis.settings.register_profile("cxr_lightning", deadline=None, derandomize=True)
hypothesis.settings.load_profile("cxr_lightning")

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("torch sees no CUDA device")


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep caches of tests out of the user's own: one for all of pytest's processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
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


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store without runs, to be copied: MLflow takes seconds to make one."""
    from cxr_lightning.tracking import parse_address  # here: not every test needs MLflow
    from cxr_lightning.tracking.store import Store

    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    Store(parse_address(f"sqlite:///{file}")).client._tracking_client.store._dispose_engine()
    return file


@pytest.fixture
def user_folder(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, as it is after a first run: with a store, here without runs."""
    shutil.copy(empty_store, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def client() -> Iterator[ServerClient]:
    """One server for the sweeps of all tests: it takes seconds to start."""
    from cxr_lightning.hpo.client import ServerClient

    server = ServerClient()
    server.wait()
    yield server
    server.close()


@pytest.fixture
def full_disk() -> Path:
    """A file that answers each write as a full disk does."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("/dev/full is not there: it is a device of Linux")
    return full


@pytest.fixture
def shared_data() -> Path:
    """The folder of real radiographs beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the real radiographs (../shared/data) are not on this machine")
    return SHARED
