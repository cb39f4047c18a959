"""A store of its own for each test, and a real server."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cxr_lightning.tracking.quiet import prepare
from tests.processes import free_port

prepare()  # some tests import MLflow themselves: without telemetry


def rows(database: Path, query: str, *values: object) -> list[tuple]:
    """Read MLflow's tables directly, as an independent witness."""
    with sqlite3.connect(database) as connection:
        found = connection.execute(query, values).fetchall()
    connection.close()
    return found


@pytest.fixture
def database(tmp_path: Path, empty_store: Path) -> Path:
    return Path(shutil.copy(empty_store, tmp_path / "mlflow.db"))


# Its job runner, which nothing here needs, is seven more processes.
FAST_START = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


class Server:
    """`mlflow server` on loopback over an SQLite store, to be killed and started again."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        self.database = database
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.uri + path, timeout=10) as answer:
            return answer.read()

    def start(self) -> None:
        if self.process is not None:
            return
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port"]
        command += [str(self.port), "--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.folder / "served")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **FAST_START},
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120  # a busy machine takes half a minute
        while True:
            try:
                self.get("/health")
                return
            except OSError:
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.1)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def server_process(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder, Path(shutil.copy(empty_store, folder / "mlflow.db")))
    yield server
    server.kill()


@pytest.fixture
def server(server_process: Server) -> Server:
    server_process.start()
    return server_process


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "did not happen within 30 s"
            time.sleep(0.05)

    return wait
