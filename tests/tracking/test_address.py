"""Addresses: what is accepted, and the words for what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxr_lightning.config.compose import compose, config_to_yaml
from cxr_lightning.errors import ConfigError
from cxr_lightning.tracking import parse_address
from cxr_lightning.tracking.configuration import without_password

ALLOWED = """
Allowed are:
  - sqlite:///mlflow.db: a file in the current folder; with four slashes an absolute path
  - http://HOST:PORT or https://HOST: an MLflow server
  - postgresql://USER:PASSWORD@HOST:PORT/DATABASE: a database (mysql and mssql likewise)"""
PLAIN = (
    "MLflow no longer keeps runs in plain folders (since 3.13). Use sqlite:///mlflow.db; "
    "artifacts are then kept in ./mlruns beside it."
)


def test_relative_file_becomes_absolute(tmp_path: Path) -> None:
    address = parse_address("sqlite:///mlflow.db", tmp_path)
    assert (address.uri, address.kind) == (f"sqlite:///{tmp_path}/mlflow.db", "sqlite")
    assert (address.database, address.folder) == (tmp_path / "mlflow.db", tmp_path)


def test_absolute_file_and_options(tmp_path: Path) -> None:
    address = parse_address(f"sqlite:///{tmp_path}/x.db?timeout=5", Path("/"))
    assert address.uri == f"sqlite:///{tmp_path}/x.db?timeout=5"
    assert address.database == tmp_path / "x.db"


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("http://127.0.0.1:5000/", "server"),
        ("https://mlflow.example.org/path", "server"),
        ("postgresql://u:p@db:5432/mlflow", "database"),
        ("postgresql+psycopg2://u:p@db/mlflow", "database"),
        ("mysql+pymysql://u@db/mlflow", "database"),
    ],
)
def test_servers_and_databases(uri: str, kind: str) -> None:
    address = parse_address(uri)
    assert (address.uri, address.kind) == (uri.rstrip("/"), kind)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("file:./mlruns", PLAIN),
        ("file:///data/mlruns", PLAIN),
        ("./mlruns", PLAIN),
        ("mlruns", PLAIN),
        ("", "this is no address."),
        ("mlflow.db", "a file needs its kind in front: sqlite:///mlflow.db"),
        ("file:///data/mlflow.db", "a file needs its kind in front: sqlite:////data/mlflow.db"),
        ("sqlite:mlflow.db", "an SQLite address starts with sqlite:/// (three slashes)."),
        ("sqlite://mlflow.db", "an SQLite address has three slashes: sqlite:///mlflow.db"),
        (
            "sqlite:///",
            "the name of a file is missing; a store in memory would not outlive the run.",
        ),
        (
            "sqlite:///:memory:",
            "the name of a file is missing; a store in memory would not outlive the run.",
        ),
        (
            "htp://localhost:5000",
            "htp:// is not a kind of store that can be used here. Did you mean 'http'?",
        ),
        (
            "postgres://u@db/mlflow",
            "write postgresql:// (SQLAlchemy dropped the short form postgres://).",
        ),
        ("http://", "the host is missing."),
        ("postgresql://db:5432", "the name of the database is missing at the end."),
    ],
)
def test_what_is_wrong_and_what_is_allowed(uri: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address(uri)
    assert str(caught.value) == f"run.tracking_uri is {uri!r}: {reason}{ALLOWED}"


def test_forgotten_slash_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address("sqlite:///home/me/mlflow.db", tmp_path)
    assert str(caught.value) == (
        "run.tracking_uri is 'sqlite:///home/me/mlflow.db': the folder "
        f"{tmp_path}/home/me does not exist. For an absolute path write "
        f"sqlite:////home/me/mlflow.db.{ALLOWED}"
    )


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path} is a folder, not a file"):
        parse_address(f"sqlite:///{tmp_path}")


def test_bad_port() -> None:
    with pytest.raises(ConfigError, match="Port out of range"):
        parse_address("http://localhost:99999")


def test_passwords_are_not_shown() -> None:
    address = parse_address("postgresql://me:s3cr:t@db/mlflow")
    assert address.shown == "postgresql://me:***@db/mlflow"
    assert "s3cr" not in repr(address.redact("login me s3cr:t failed"))
    with pytest.raises(ConfigError) as caught:
        parse_address("postgresl://me:s3cret@db/mlflow")
    assert "s3cret" not in str(caught.value)


def test_a_password_in_the_query_is_not_shown() -> None:
    address = parse_address("postgresql://db/mlflow?user=me&password=s3cr%20t&sslmode=require")
    assert address.shown == "postgresql://db/mlflow?user=me&password=***&sslmode=require"
    assert address.redact("login s3cr t failed") == "login *** failed"


@pytest.mark.parametrize("uri", ["https://me:s3cret@mlflow", "postgresql://d/b?password=s3cret"])
def test_a_configuration_as_others_see_it(uri: str) -> None:
    config = compose([f"run.tracking_uri={uri}"])
    shown = without_password(config)
    assert "s3cret" not in config_to_yaml(shown)
    assert shown.model_copy(update={"run": config.run}) == config
    with pytest.raises(ConfigError, match="password was taken out where this was kept; give the"):
        parse_address(shown.run.tracking_uri)
    plain = compose(["run.tracking_uri=https://mlflow"])
    assert without_password(plain) == plain
