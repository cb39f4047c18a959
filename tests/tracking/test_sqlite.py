"""Runs in a real SQLite store; what MLflow keeps is read from its tables directly."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cxr_lightning.errors import ConfigError
from cxr_lightning.tracking import TrackedRun, open_run
from cxr_lightning.tracking.store import Store

from .conftest import rows

ROOT = Path(__file__).resolve().parents[2]


def start(database: Path, run_id: str | None = None, **options: str) -> TrackedRun:
    uri = f"sqlite:///{database}"
    return open_run(uri, "cxr", "first", {}, database.parent / "run", run_id, **options)


def curve(database: Path, run_id: str | None, name: str) -> list[tuple[int, float]]:
    query = "SELECT step, value FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step"
    return rows(database, query, run_id, name)


def facts(database: Path, table: str, run_id: str | None) -> dict[str, str]:
    return dict(rows(database, f"SELECT key, value FROM {table} WHERE run_uuid = ?", run_id))


def status(database: Path, run_id: str | None) -> str:
    return rows(database, "SELECT status FROM runs WHERE run_uuid = ?", run_id)[0][0]


def test_a_run_holds_what_was_logged(database: Path, tmp_path: Path) -> None:
    run = start(database, parent_run_id="abc")
    run.log_params({"model.name": "simple_cnn", "long": "x" * 7000})
    for step in range(1500):
        run.log_metrics({"train/loss": 1 / (1 + step), "lr": torch.tensor(0.5)}, step)
    run.log_metrics({"val/auroc/Hernia": math.nan, "val/loss": math.inf, "a=b": 1}, 3)
    run.set_tags({"data.fingerprint": "123"})
    run.log_dataset("phantom", "f" * 64, context="training", profile={"images": 7})
    run.log_dict({"a": None}, "split.json")
    (run.run_dir / "plots").mkdir(parents=True)
    (run.run_dir / "plots" / "roc.png").write_bytes(b"png")
    run.log_artifacts(run.run_dir / "plots", "plots")
    assert run.finish() == 0
    assert curve(database, run.run_id, "train/loss") == [(i, 1 / (1 + i)) for i in range(1500)]
    assert curve(database, run.run_id, "lr") == [(i, 0.5) for i in range(1500)]
    names = rows(database, "SELECT DISTINCT key FROM metrics ORDER BY key")
    assert names == [("a_b",), ("lr",), ("train/loss",)]
    tags = facts(database, "tags", run.run_id)
    assert tags["metrics_not_finite"] == "val/auroc/Hernia, val/loss"
    assert (tags["mlflow.parentRunId"], tags["data.fingerprint"]) == ("abc", "123")
    params = facts(database, "params", run.run_id)
    assert params["model.name"] == "simple_cnn"
    assert len(params["long"]) == 6000
    assert rows(database, "SELECT name, digest FROM datasets") == [("phantom", "f" * 36)]
    assert rows(database, "SELECT user_id, source_name FROM runs") == [("unknown", "")]
    assert status(database, run.run_id) == "FINISHED"
    artifacts = tmp_path / "mlruns" / "cxr" / str(run.run_id) / "artifacts"
    found = {str(p.relative_to(artifacts)) for p in artifacts.rglob("*") if p.is_file()}
    assert found == {"params/long.txt", "plots/roc.png", "split.json"}
    assert (artifacts / "params" / "long.txt").read_text() == "x" * 7000
    assert json.loads((artifacts / "split.json").read_text()) == {"a": None}


def test_logging_costs_training_microseconds(database: Path) -> None:
    run = start(database)
    values = {f"train/m{i}": float(i) for i in range(10)}
    durations = []
    for step in range(1000):
        begin = time.perf_counter()
        run.log_metrics(values, step)
        durations.append(time.perf_counter() - begin)
    run.finish()
    assert sorted(durations)[500] < 2e-4  # measured: 20 microseconds


def test_status_follows_what_ended_the_run(database: Path) -> None:
    endings: list[tuple[BaseException | None, str]] = [
        (None, "FINISHED"),
        (ValueError("boom"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(1), "KILLED"),
        (SystemExit(0), "FINISHED"),
    ]
    for problem, expected in endings:
        run = start(database)
        ends = pytest.raises(type(problem)) if problem else contextlib.nullcontext()
        with ends, run:
            assert status(database, run.run_id) == "RUNNING"
            if problem is not None:
                raise problem
        assert status(database, run.run_id) == expected


def test_a_continued_run_is_one_run(database: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = start(database)
    first.log_params({"lr": 0.1, "seed": 0})
    for step in range(10):
        first.log_metrics({"loss": step / 7}, step)
    first.log_metrics({"x": math.nan}, 0)
    first.finish("KILLED")
    second = start(database, first.run_id)
    assert status(database, first.run_id) == "RUNNING"
    second.log_params({"lr": 0.2, "seed": 0, "epochs": 5})
    for step in range(5, 15):  # from its last checkpoint on
        second.log_metrics({"loss": step / 7}, step)
    second.log_metrics({"y": math.nan}, 0)
    assert second.finish() == 0
    assert curve(database, first.run_id, "loss") == [(i, i / 7) for i in range(15)]
    assert facts(database, "params", first.run_id) == {"lr": "0.1", "seed": "0", "epochs": "5"}
    tags = facts(database, "tags", first.run_id)
    assert (tags["changed.lr"], tags["metrics_not_finite"]) == ("0.2", "x, y")
    assert [r.getMessage() for r in caplog.records] == [
        "parameters of this MLflow run had other values before; the new ones are kept as tags "
        "changed.NAME: lr (0.1 -> 0.2)"
    ]
    assert rows(database, "SELECT count(*) FROM runs") == [(1,)]
    assert status(database, first.run_id) == "FINISHED"


def test_a_run_that_is_not_there_or_deleted(database: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        start(database, "0" * 32)
    assert str(caught.value) == (
        f"MLflow at sqlite:///{database} has no run '{'0' * 32}' to continue. Start a new run, or "
        "give the run.tracking_uri that the first part was logged to."
    )
    run = start(database)
    run.finish()
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE runs SET lifecycle_stage = 'deleted'")
    connection.close()
    with pytest.raises(ConfigError, match=f"the MLflow run {run.run_id} was deleted. Restore it"):
        start(database, run.run_id)


def test_a_deleted_experiment(database: Path) -> None:
    start(database).finish()
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'cxr'")
    connection.close()
    with pytest.raises(ConfigError) as caught:
        start(database)
    assert str(caught.value) == (
        "run.experiment is 'cxr': MLflow holds a deleted experiment of that name. Restore it "
        "(mlflow experiments restore --experiment-id 1) or choose another."
    )


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_text("not a database, " * 100)
    with pytest.raises(ConfigError) as caught:
        start(file)
    assert str(caught.value) == (
        f"run.tracking_uri is 'sqlite:///{file}': {file} is not an SQLite database."
    )


def test_a_store_of_another_version(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    connection.close()
    with pytest.raises(ConfigError) as caught:
        start(database)
    assert str(caught.value) == (
        f"run.tracking_uri is 'sqlite:///{database}': this store was written by another version of "
        f"MLflow. Back it up and run: mlflow db upgrade sqlite:///{database}"
    )


def test_a_store_that_somebody_else_holds(
    database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = start(database)
    run.flush()
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    begin = time.monotonic()
    for step in range(50):
        run.log_metrics({"loss": 0.5}, step)
    assert time.monotonic() - begin < 1
    time.sleep(1.5)
    other.execute("ROLLBACK")
    other.close()
    assert run.finish() == 0
    assert len(curve(database, run.run_id, "loss")) == 50
    assert caplog.records == []


WRITER = """
import sys
from pathlib import Path
from cxr_lightning.tracking import open_run
number = int(sys.argv[1])
folder = Path(f"runs/{number}")
with open_run("sqlite:///mlflow.db", "cxr", f"trial {number}", {}, folder) as run:
    for step in range(400):
        run.log_metrics({"loss": step + number / 10, "auroc": step / 400}, step)
        if step % 20 == 0:
            run.flush()
    run.log_text("x", "x.txt")
print(run.run_id)
"""


def spawn(
    folder: Path, code: str, environment: dict[str, str] | None = None, number: int = 0
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(number)],
        cwd=folder,
        env={**(environment or os.environ), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_four_processes_create_one_store_and_write_at_once(tmp_path: Path) -> None:
    writers = [spawn(tmp_path, WRITER, number=number) for number in range(4)]
    for number, writer in enumerate(writers):
        out, err = writer.communicate(timeout=120)
        assert (writer.returncode, err) == (0, "")
        run_id = out.strip()  # and nothing else is printed: no "View run at", no migrations
        database = tmp_path / "mlflow.db"
        assert curve(database, run_id, "loss") == [(i, i + number / 10) for i in range(400)]
        assert curve(database, run_id, "auroc") == [(i, i / 400) for i in range(400)]
        assert status(database, run_id) == "FINISHED"
        assert not (tmp_path / f"runs/{number}/mlflow_unsent.jsonl").exists()
    assert rows(database, "SELECT count(*) FROM experiments WHERE name = 'cxr'") == [(1,)]


def test_a_process_that_ends_without_a_word_has_failed(database: Path) -> None:
    code = """
from pathlib import Path
from cxr_lightning.tracking import open_run
run = open_run("sqlite:///mlflow.db", "cxr", None, {}, Path("run"))
run.log_metrics({"loss": 1.0}, 0)
from mlflow.telemetry import get_telemetry_client
print("telemetry:", get_telemetry_client())
"""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("MLFLOW_")}
    process = spawn(database.parent, code, environment)
    assert process.communicate(timeout=60) == ("telemetry: None\n", "")
    run_id, ended = rows(database, "SELECT run_uuid, status FROM runs")[0]
    assert ended == "FAILED"
    assert curve(database, run_id, "loss") == [(0, 1.0)]


def test_other_ranks_neither_import_nor_call_mlflow(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from cxr_lightning.tracking import open_tracker
tracker = open_tracker("http://127.0.0.1:9", "cxr", None, {}, Path("run"))
with tracker:
    tracker.log_metrics({"a": 1.0}, 0)
    tracker.log_hyperparams({"a": {"b": 1}})
    tracker.set_tags({"a": "b"})
    tracker.log_artifact("nothing")
    tracker.finalize("success")
print("mlflow" in sys.modules, tracker.run_id, list(Path().iterdir()))
"""
    process = spawn(tmp_path, code, {**os.environ, "LOCAL_RANK": "1"})
    out, err = process.communicate(timeout=60)
    assert out == "False None []\n", err


def test_limits_on_http_last_only_for_a_call(database: Path) -> None:
    before = dict(os.environ)
    run = start(database)
    run.log_metrics({"a": 1.0}, 0)
    run.finish()
    changed = {name for name in os.environ if before.get(name) != os.environ[name]}
    assert not {name for name in changed if "HTTP_REQUEST" in name}


def test_an_experiment_whose_files_only_a_server_can_keep(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(
            "INSERT INTO experiments (name, artifact_location, lifecycle_stage, workspace) "
            "VALUES ('cxr', 'mlflow-artifacts:/1', 'active', 'default')"
        )
    connection.close()
    with pytest.raises(ConfigError, match="was created through an MLflow server; only that server"):
        start(database)
    assert rows(database, "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'") == [(0,)]


def test_store_is_the_only_importer_of_mlflow() -> None:
    files = (ROOT / "cxr_lightning").rglob("*.py")
    importers = {
        str(file.relative_to(ROOT))
        for file in files
        if any(
            line.strip().startswith(("import mlflow", "from mlflow"))
            for line in file.read_text(encoding="utf-8").splitlines()
        )
    }
    assert importers == {"cxr_lightning/tracking/store.py"}
    assert Store.__module__ == "cxr_lightning.tracking.store"
