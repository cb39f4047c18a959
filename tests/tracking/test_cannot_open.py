"""SQLite stores and runs that cannot be used: what is said before training."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from cxr_lightning.errors import ConfigError
from cxr_lightning.tracking import TrackedRun, open_run

from .conftest import rows


def start(database: Path, run_id: str | None = None) -> TrackedRun:
    return open_run(f"sqlite:///{database}", "cxr", None, {}, database.parent / "run", run_id)


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
