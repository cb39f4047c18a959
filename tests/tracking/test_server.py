"""A real MLflow server that is killed in the middle, and one that never comes back."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from cxr_lightning.cli import run_verb
from cxr_lightning.config.compose import compose, config_from_file
from cxr_lightning.errors import ConfigError
from cxr_lightning.tracking import Address, TrackedRun, open_run, opening, others, send_unsent
from cxr_lightning.tracking.__main__ import main
from cxr_lightning.tracking.configuration import keep_config
from cxr_lightning.tracking.others import OtherRuns
from cxr_lightning.tracking.outbox import UNSENT, Outbox
from cxr_lightning.tracking.store import Store
from tests.processes import free_port

from .conftest import Server, rows

QUERY = "SELECT step, value FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY timestamp, step"


def log_steps(run: TrackedRun, steps: range) -> float:
    """Log as training would; return the slowest call in seconds."""
    slowest = 0.0
    for step in steps:
        begin = time.perf_counter()
        run.log_metrics({"loss": step / 3, "auroc": step / 7}, step)
        slowest = max(slowest, time.perf_counter() - begin)
        time.sleep(0.005)
    return slowest


def assert_arrived_once(server: Server, run_id: str | None, count: int) -> None:
    assert rows(server.database, QUERY, run_id, "loss") == [(i, i / 3) for i in range(count)]
    assert rows(server.database, QUERY, run_id, "auroc") == [(i, i / 7) for i in range(count)]


class Outage(NamedTuple):
    """Two runs that met one outage: one outlived it, the other ended before the server was back."""

    outlived: TrackedRun
    ended: TrackedRun
    ended_at: int
    left: int
    unsent: list[dict]
    slowest: float
    finish_seconds: float
    error: str
    said: list[str]


class Listener(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture(scope="module")
def outage(server_process: Server, tmp_path_factory: pytest.TempPathFactory) -> Outage:
    """Kill a real server with SIGKILL while two runs write to it; start it again for one."""
    server = server_process
    server.start()
    listener = Listener()
    logging.getLogger("cxr_lightning.tracking").addHandler(listener)
    folders = [tmp_path_factory.mktemp(name) for name in ("outlived", "ended")]
    outlived, ended = (open_run(server.uri, "cxr", None, {}, folder) for folder in folders)
    slowest = max(log_steps(outlived, range(100)), log_steps(ended, range(20)))
    assert ended.flush()
    server.kill()
    slowest = max(slowest, log_steps(outlived, range(100, 250)), log_steps(ended, range(20, 60)))
    outlived.log_params({"late": 1})
    outlived.log_text("<h1>report</h1>", "report.html")
    (ended.run_dir / "curve.png").write_bytes(b"png")
    ended.log_artifact(ended.run_dir / "curve.png", "plots")
    begin = time.monotonic()
    left = ended.finish("FINISHED", patience=10)
    finish_seconds = time.monotonic() - begin
    ended_at = time.time_ns() // 1_000_000
    unsent = [json.loads(line) for line in (ended.run_dir / UNSENT).read_text().splitlines()]
    with pytest.raises(ConfigError) as caught:
        send_unsent(ended.run_dir)
    assert outlived.flush()
    assert (outlived.run_dir / UNSENT).exists()
    server.start()
    slowest = max(slowest, log_steps(outlived, range(250, 300)))
    assert outlived.finish("FINISHED") == 0
    logging.getLogger("cxr_lightning.tracking").removeHandler(listener)
    return Outage(
        outlived,
        ended,
        ended_at,
        left,
        unsent,
        slowest,
        finish_seconds,
        str(caught.value),
        listener.said,
    )


def test_a_run_that_outlives_an_outage_is_whole(server: Server, outage: Outage) -> None:
    run = outage.outlived
    assert_arrived_once(server, run.run_id, 300)
    assert list(run.run_dir.iterdir()) == []
    found = rows(server.database, "SELECT status FROM runs WHERE run_uuid = ?", run.run_id)
    assert found == [("FINISHED",)]
    report = server.get(f"/get-artifact?path=report.html&run_uuid={run.run_id}")
    assert report == b"<h1>report</h1>"
    answer = server.get(f"/ajax-api/2.0/mlflow/runs/get?run_id={run.run_id}")
    assert {"key": "late", "value": "1"} in json.loads(answer)["run"]["data"]["params"]


def test_sending_for_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(main, ["runs/typo"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: runs/typo: no such folder; give a run's")


def test_training_never_waited(outage: Outage) -> None:
    assert outage.slowest < 1
    assert outage.finish_seconds < 15


def test_what_was_said(server: Server, outage: Outage) -> None:
    def about(run: TrackedRun) -> list[str]:
        return [text for text in outage.said if str(run.run_dir) in text]

    assert len(about(outage.outlived)) == 1
    assert re.fullmatch(
        rf"MLflow \({server.uri}\) takes no metrics: (no server listens there|the server [a-z ]+)\."
        r" Training goes on; what cannot be sent is kept in "
        rf"{outage.outlived.run_dir / UNSENT} and sent when MLflow is back\.",
        about(outage.outlived)[0],
    )
    folder = outage.ended.run_dir
    assert about(outage.ended)[1:] == [
        (
            f"MLflow did not take {outage.left} records of this run; they are kept in "
            f"{folder / UNSENT}. Send them when MLflow is back: "
            f"python -m cxr_lightning.tracking {folder}"
        )
    ]
    assert outage.said[-1] == f"MLflow ({server.uri}) is back; what was kept has been sent."
    assert outage.error == (
        f"the tracking URI is '{server.uri}': no server listens there. Start it (mlflow server) or "
        "correct the address."
    )


def test_a_run_that_ended_in_an_outage_is_sent_by_hand(
    server: Server, outage: Outage, capsys: pytest.CaptureFixture[str]
) -> None:
    run = outage.ended
    assert outage.left == len(outage.unsent) == 42
    assert [r["step"] for r in outage.unsent if r["kind"] == "metrics"] == list(range(20, 60))
    assert [r["kind"] for r in outage.unsent[40:]] == ["artifact", "status"]
    assert run_verb(main, [str(run.run_dir)]) == 0
    assert capsys.readouterr().out == "42 records sent to MLflow, 0 kept.\n"
    assert send_unsent(run.run_dir) == (0, 0, ())
    assert_arrived_once(server, run.run_id, 60)
    query = "SELECT status, end_time FROM runs WHERE run_uuid = ?"
    status, end_time = rows(server.database, query, run.run_id)[0]
    assert status == "FINISHED"
    assert abs(end_time - outage.ended_at) < 15_000  # when it ended, not when that was sent
    assert server.get(f"/get-artifact?path=plots/curve.png&run_uuid={run.run_id}") == b"png"


def test_files_of_a_run_without_server_are_seen_through_one(server: Server) -> None:
    uri = f"sqlite:///{server.database}"
    run = open_run(uri, "direct", "direct", {}, server.folder / "run")
    run.log_text("hello", "notes/a b.txt")
    run.finish()
    listing = server.get(f"/ajax-api/2.0/mlflow/artifacts/list?run_id={run.run_id}&path=notes")
    assert [f["path"] for f in json.loads(listing)["files"]] == ["notes/a b.txt"]
    found = server.get(f"/get-artifact?path=notes/a%20b.txt&run_uuid={run.run_id}")
    assert found == b"hello"


def test_a_continued_run_on_a_server(server: Server, tmp_path: Path) -> None:
    first = open_run(server.uri, "cxr", "c", {}, tmp_path)
    log_steps(first, range(10))
    first.finish("KILLED")
    second = open_run(server.uri, "cxr", "c", {}, tmp_path, first.run_id)
    log_steps(second, range(5, 20))
    assert second.finish() == 0
    assert_arrived_once(server, first.run_id, 20)
    assert second.page == (
        f"{server.uri}/#/experiments/{second.experiment_id}/runs/{second.run_id}"
        "?workflowType=machine_learning"
    )


def test_what_the_server_refuses_stays_with_its_reason(server: Server, tmp_path: Path) -> None:
    run = open_run(server.uri, "cxr", "refused", {}, tmp_path)
    run.log_metrics({"loss": 1.0}, 0)
    run.log_artifact(tmp_path / "never_written.png")
    assert run.finish() == 1
    kept = json.loads((tmp_path / "mlflow_unsent.jsonl").read_text())
    assert kept["refused"] == f"{tmp_path}/never_written.png is not there any more"
    (tmp_path / "never_written.png").write_bytes(b"now")
    assert send_unsent(tmp_path) == (1, 0, ())


REMEDY = (
    " Start it (mlflow server), correct the address, or leave run.tracking_uri away to use "
    "sqlite:///mlflow.db."
)


def test_nothing_listens(tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    begin = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        open_run(uri, "cxr", None, {}, tmp_path)
    assert str(caught.value) == f"run.tracking_uri is {uri!r}: no server listens there.{REMEDY}"
    assert time.monotonic() - begin < 10
    assert list(tmp_path.iterdir()) == []


def test_no_such_host(tmp_path: Path) -> None:
    uri = "http://mlflow.invalid:5000"
    with pytest.raises(ConfigError) as caught:
        open_run(uri, "cxr", None, {}, tmp_path)
    assert str(caught.value) == f"run.tracking_uri is {uri!r}: there is no such host.{REMEDY}"


def test_something_else_answers(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="what answers is no usable MLflow server"):
        open_run(f"{server.uri}/nowhere", "cxr", None, {}, tmp_path)


class Locked(BaseHTTPRequestHandler):
    """Asks everybody for credentials."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b"who are you?")

    def log_message(self, *_: object) -> None:
        pass


def test_credentials_are_missing(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), Locked) as locked:
        threading.Thread(target=locked.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{locked.server_port}"
        with pytest.raises(ConfigError) as caught:
            open_run(uri, "cxr", None, {}, tmp_path)
        locked.shutdown()
    assert str(caught.value) == (
        f"run.tracking_uri is {uri!r}: the server asks for credentials: set "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
    )


def test_databases_that_cannot_be_used(tmp_path: Path) -> None:
    port = free_port()
    uri = f"mysql+nodriver://me:secret@127.0.0.1:{port}/mlflow"
    with pytest.raises(ConfigError) as caught:
        open_run(uri, "cxr", None, {}, tmp_path)
    assert "secret" not in str(caught.value)
    assert re.match(r"run.tracking_uri is 'mysql\+nodriver://me:\*\*\*@127", str(caught.value))
    with pytest.raises(ConfigError) as caught:
        open_run(f"postgresql://me:secret@127.0.0.1:{port}/mlflow", "cxr", None, {}, tmp_path)
    assert re.search(
        rf"pip install \"psycopg\[binary\]\"|port {port} \(Connection refused\)",
        str(caught.value),
    )
    assert "secret" not in str(caught.value)


def test_a_password_stays_in_the_folder(server: Server, tmp_path: Path) -> None:
    uri = server.uri.replace("://", "://me:s3cret@")
    config = compose([f"run.tracking_uri={uri}"])
    run = open_run(uri, "cxr", None, {}, tmp_path / "run")
    keep_config(run, config, tmp_path / "best.yaml")
    assert run.finish() == 0
    assert config_from_file(tmp_path / "best.yaml") == config
    kept = server.get(f"/get-artifact?path=best.yaml&run_uuid={run.run_id}").decode()
    assert "://me:***@127.0.0.1" in kept
    assert "s3cret" not in kept + str(run.page)
    assert str(run.page).startswith(server.uri)


def test_a_trial_waits_for_a_store_that_its_sweep_knows(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute without the server would else use up the sweep's trials."""
    uri, tried = f"sqlite:///{database}", []

    def store(address: Address) -> Store:
        tried.append(address.uri)
        if len(tried) < 3:
            raise ConfigError("nothing answers")
        return Store(address)

    monkeypatch.setattr(opening, "Store", store)
    monkeypatch.setattr(opening, "_AGAIN", 0.01)
    with pytest.raises(ConfigError):
        open_run(uri, "cxr", None, {}, tmp_path / "alone")
    tried.clear()
    parent = "0" * 32
    with open_run(uri, "cxr", None, {}, tmp_path / "trial", parent_run_id=parent) as run:
        assert len(tried) == 3
    query = "SELECT value FROM tags WHERE run_uuid = ? AND key = 'mlflow.parentRunId'"
    assert rows(database, query, run.run_id) == [(parent,)]


def test_the_last_words_of_a_lost_trial_are_kept(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = open_run(f"sqlite:///{database}", "cxr", None, {}, tmp_path / "trial")
    assert trial.flush()
    assert trial.run_id is not None
    monkeypatch.setattr(others, "_ATTEMPTS", 1)
    listener = Listener()
    logging.getLogger("cxr_lightning.tracking").addHandler(listener)
    away = OtherRuns(f"http://127.0.0.1:{free_port()}", tmp_path / "sweep")
    away.write(trial.run_id, {"trial.state": "lost"}, "FAILED")
    away.close()
    logging.getLogger("cxr_lightning.tracking").removeHandler(listener)
    assert "kept in" in listener.said[-1]
    query = "SELECT status FROM runs WHERE run_uuid = ?"
    assert rows(database, query, trial.run_id) == [("RUNNING",)]
    assert send_unsent(tmp_path / "sweep", f"sqlite:///{database}") == (2, 0, ())
    assert rows(database, query, trial.run_id) == [("FAILED",)]
    trial.finish()


def test_words_that_take_too_long_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), threading.Event()

    def store(address: Address) -> Store:
        asked.set()
        answer.wait()
        raise ConfigError("nothing answers")

    monkeypatch.setattr(others, "Store", store)
    away = OtherRuns("http://127.0.0.1:9", tmp_path)
    for run_id in ("a", "b"):
        away.write(run_id, {"trial.state": "lost"})
    asked.wait()
    away.close(seconds=0.1)
    found = [record["run_id"] for record in Outbox(tmp_path).read()]
    answer.set()
    assert found == ["a", "b"]
