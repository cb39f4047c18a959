"""One study in a PostgreSQL database, as several machines share it; the server is a real one."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from cxr_lightning.errors import ConfigError
from cxr_lightning.hpo import heartbeat, trials
from cxr_lightning.hpo.client import ServerClient
from cxr_lightning.hpo.options import SweepOptions
from cxr_lightning.hpo.run import run_sweep
from cxr_lightning.hpo.storage import open_storage
from cxr_lightning.hpo.study import SweepStudy
from tests.hpo.conftest import children, meanwhile, trials_of, wait_for
from tests.hpo.test_study import open_study, states, work
from tests.processes import free_port

NEEDED = "CXR_TESTS_NEED_POSTGRES" in os.environ  # set by .ci/run: fail rather than skip
if not NEEDED:
    pytest.importorskip("psycopg", reason="no driver: pip install 'cxr-lightning[postgres]'")


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server of the tests' own.

    Attributes
    ----------
    binaries, data
        Folders of its programs and of its files.
    port
        On this machine.
    user
        Whom it runs as: PostgreSQL refuses to run as root. None: as the tests do.
    """

    binaries: Path
    data: Path
    port: int
    user: str | None

    def run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.binaries / program), *arguments],
            user=self.user, cwd=self.data, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        # Only TCP; nothing that a test writes need survive a crash of the machine.
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off"
        options += " -c unix_socket_directories="
        self.run("pg_ctl", "-D", "db", "-l", "log.txt", "-w", "-o", options, "start")

    def stop(self) -> None:
        """Stop at once, as when the machine it runs on goes down."""
        self.run("pg_ctl", "-D", "db", "-m", "immediate", "-w", "stop")

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://sweeper:secret@127.0.0.1:{self.port}/{database}"


def find_binaries() -> Path | None:
    """Return where initdb is: in PATH, or where Debian keeps it."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wanted = ("initdb", "pg_ctl", "postgres")
    return next((one for one in folders if all((one / name).exists() for name in wanted)), None)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server in a folder of its own, which ends with the tests."""
    binaries = find_binaries()
    if binaries is None:
        absent = pytest.fail if NEEDED else pytest.skip
        absent("no PostgreSQL server here: apt-get install postgresql")
    user = None
    # Its user must be able to reach the folder, which pytest's own are closed against.
    folder = Path(tempfile.mkdtemp(prefix="cxr-postgres-"))
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(folder, user)
    one = Server(binaries, folder, free_port(), user)
    try:
        (folder / "password").write_text("secret")
        (folder / "password").chmod(0o644)
        one.run(
            "initdb", "-D", "db", "-U", "sweeper", "-A", "scram-sha-256", "--pwfile=password",
            "--no-sync", "--locale=C", "-E", "UTF8",
        )  # fmt: skip
        one.start()
        yield one
        one.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def url(server: Server, request: pytest.FixtureRequest) -> str:
    """Return the address of a new database."""
    name = f"study_{abs(hash(request.node.name))}"
    engine = sqlalchemy.create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.url(name)


def as_machine(name: str, url: str, total: int) -> None:
    """Take trials as a process on a machine of that name."""
    trials._machine = lambda: name
    work(url, total, len(name))


def test_two_machines_reach_the_total_and_no_further(url: str) -> None:
    """They also create the tables at the same time, where without a lock one of them fails."""
    context = multiprocessing.get_context("fork")
    names = ("one", "one", "other", "other")
    workers = [context.Process(target=as_machine, args=(name, url, 20)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    study = open_study(url, 20)
    every = study.study.trials
    assert [trial.number for trial in every] == list(range(20))
    assert all(trial.state.is_finished() for trial in every)
    for trial in every:
        value = trial.params["x"]
        assert trial.intermediate_values == {epoch: value / epoch for epoch in (1, 2, 3)}
    assert {trial.system_attrs[trials.OWNER]["machine"] for trial in every} == {"one", "other"}
    assert study.claim() is None
    close(study)


def close(study: SweepStudy) -> None:
    study.close()
    study.storage.close()


def test_trials_of_a_machine_that_is_gone_are_begun_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = open_study(url, 2)
    with monkeypatch.context() as patch:
        patch.setattr(trials, "_machine", lambda: "other")
        old = other.claim()
    assert old is not None
    value = old.suggest_float("x", 0.0, 1.0)
    close(other)
    study = open_study(url, 2)
    assert study.recover() == []  # a moment ago it lived
    assert study.claim() is not None
    assert study.claim() is None  # that one is under way elsewhere
    with study.storage.rdb.engine.begin() as connection:
        hour = "UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 hour' "
        mine = "WHERE trial_id = (SELECT min(trial_id) FROM trials)"
        connection.execute(sqlalchemy.text(hour + mine))
    again = study.claim()
    assert again is not None
    assert again.suggest_float("x", 0.0, 1.0) == value
    assert states(study) == Counter(RUNNING=2)
    close(study)


def test_a_server_that_restarts_ends_nobody(
    url: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials that run meanwhile lose at most points of their curves; signs of life go on."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.05)
    mine = open_study(url, 30)
    old = mine.claim()
    assert old is not None
    context = multiprocessing.get_context("fork")
    gone = context.Event()
    worker = context.Process(target=work, args=(url, 30, 1, gone))
    worker.start()
    deadline = time.monotonic() + 60
    while len(mine.finished()) < 14:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.stop()
    try:
        gone.set()  # the worker has a trial under way, and goes on with it
        time.sleep(1)
        assert worker.is_alive()
    finally:
        server.start()
    worker.join(120)
    assert worker.exitcode == 0
    mine.complete(old, [1.0])
    assert len(mine.finished()) == 30
    # A trial that had just begun may be there twice; the first one does not count.
    assert len(mine.study.trials) <= 31
    assert mine.heartbeat._thread.is_alive()
    close(mine)


def test_what_a_database_says_hides_the_password(server: Server, url: str) -> None:
    wrong = url.replace("secret", "guessed")
    with pytest.raises(ConfigError, match="password authentication failed") as caught:
        open_storage(wrong)
    assert "guessed" not in str(caught.value)
    assert "sweeper:***@" in str(caught.value)
    with pytest.raises(ConfigError, match='database "nothing" does not exist'):
        open_storage(server.url("nothing"))


def pid_of(trial: FrozenTrial) -> int | None:
    return trial.system_attrs.get(trials.OWNER, {}).get("pid")


def test_two_sweeps_share_one_study(
    url: str,
    client: ServerClient,
    options: Callable[..., SweepOptions],
    sweep_store: str,
    tmp_path: Path,
) -> None:
    """The same line twice, at the same time: its trials between them, under one MLflow run."""
    longer = "sweep.budget={trainer.max_epochs: 8}"
    small = options(longer, study="shared", trials=5, storage=url)
    line = [
        sys.executable, "-m", "cxr_lightning.sweep", "--trials", "5", "--study", "shared",
        "--storage", url, "--config-dir", str(small.config_dir), *small.words,
    ]  # fmt: skip
    root = str(Path(__file__).parents[2])
    log = tmp_path / "other.txt"
    with log.open("w") as stream:
        other = subprocess.Popen(
            line, cwd=tmp_path, env=os.environ | {"PYTHONPATH": root}, stdout=stream,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    servers: list[int] = []

    def let_go() -> None:
        """Once this process has a trial."""
        wait_for(lambda: os.getpid() in {pid_of(one) for one in trials_of(url, "shared")})
        for server in servers:
            os.kill(server, signal.SIGCONT)

    try:
        wait_for((tmp_path / "runs" / "shared" / "trial-0000").exists, 120)
        # Its first trial goes on, but the next is not begun: else it might do all of them before
        # this process has one. The server holds no lock of a database.
        servers += children(other.pid)
        for server in servers:
            os.kill(server, signal.SIGSTOP)
        with meanwhile(let_go):
            assert run_sweep(small, client) == 0
        assert other.wait(120) == 0, log.read_text()
    finally:
        other.kill()
        other.wait()
    assert "secret" not in log.read_text()
    every = trials_of(url, "shared")
    assert [one.state for one in every] == [TrialState.COMPLETE] * 5
    assert [bool(one.user_attrs.get(trials.BASELINE)) for one in every] == [True] + [False] * 4
    assert len({pid_of(one) for one in every}) == 2
    runs = [MlflowClient(sweep_store).get_run(one.user_attrs["mlflow_run_id"]) for one in every]
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs}) == 1
