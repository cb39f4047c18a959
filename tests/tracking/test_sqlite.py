"""Runs in a real SQLite store; what MLflow keeps is read from its tables directly."""

from __future__ import annotations

import contextlib
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

from cxr_lightning.tracking import TrackedRun, open_run
from cxr_lightning.tracking.outbox import UNSENT
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
        (
            "parameters of this MLflow run had other values before; the new ones are kept as tags "
            "changed.NAME: lr (0.1 -> 0.2)"
        )
    ]
    assert rows(database, "SELECT count(*) FROM runs") == [(1,)]
    assert status(database, first.run_id) == "FINISHED"


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


WRITERS = """
import os
from pathlib import Path
from cxr_lightning.tracking import open_run
from cxr_lightning.tracking.quiet import prepare
prepare()
import mlflow  # once, so that the four start at the same moment

def write(number):
    with open_run("sqlite:///mlflow.db", "cxr", None, {}, Path(f"runs/{number}")) as run:
        for step in range(400):
            run.log_metrics({"loss": step + number / 10, "auroc": step / 400}, step)
            if step % 20 == 0:
                run.flush()
        run.log_text("x", "x.txt")
    Path(str(number)).write_text(run.run_id)

children = []
for number in range(4):
    children.append(os.fork())
    if children[-1] == 0:
        code = 1
        try:
            write(number)
            code = 0
        finally:
            os._exit(code)
print([os.waitpid(child, 0)[1] for child in children])
"""


def spawn(
    folder: Path, code: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        cwd=folder,
        env={**(environment or os.environ), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_four_processes_create_one_store_and_write_at_once(tmp_path: Path) -> None:
    out, err = spawn(tmp_path, WRITERS).communicate(timeout=120)
    assert (out, err) == ("[0, 0, 0, 0]\n", "")  # no migrations, no "View run at"
    database = tmp_path / "mlflow.db"
    for number in range(4):
        run_id = (tmp_path / str(number)).read_text()
        assert curve(database, run_id, "loss") == [(i, i + number / 10) for i in range(400)]
        assert curve(database, run_id, "auroc") == [(i, i / 400) for i in range(400)]
        assert status(database, run_id) == "FINISHED"
        assert not (tmp_path / f"runs/{number}" / UNSENT).exists()
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


def test_limits_on_http_last_only_for_a_call(database: Path) -> None:
    before = dict(os.environ)
    run = start(database)
    run.log_metrics({"a": 1.0}, 0)
    run.finish()
    changed = {name for name in os.environ if before.get(name) != os.environ[name]}
    assert not {name for name in changed if "HTTP_REQUEST" in name}


def test_three_files_alone_import_mlflow() -> None:
    files = (ROOT / "cxr_lightning").rglob("*.py")
    importers = {
        str(file.relative_to(ROOT))
        for file in files
        if any(
            line.strip().startswith(("import mlflow", "from mlflow"))
            for line in file.read_text(encoding="utf-8").splitlines()
        )
    }
    names = ("store", "model", "preload")
    assert importers == {f"cxr_lightning/tracking/{name}.py" for name in names}
    assert Store.__module__ == "cxr_lightning.tracking.store"
