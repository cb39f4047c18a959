"""Why a store cannot be used, found out before training and said in words for the user."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock
from filelock import Timeout as LockTimeout

from ..errors import ConfigError
from .address import Address

__all__ = ["check_database", "creation_lock", "explain", "one_line"]

# Import name -> what to install, where the two differ.
_DRIVERS = {
    "psycopg": '"psycopg[binary]"',
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
}
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_CONNECT_SECONDS = 5.0
_UNREACHABLE = {
    "Connection refused": "no server listens there",
    "Failed to resolve": "there is no such host",
    "Name or service not known": "there is no such host",
    "timed out": "the server does not answer",
    "Max retries exceeded": "the server cannot be reached",
    "Connection aborted": "the server broke the connection off",
}


def explain(address: Address, problem: Exception) -> str:
    """Say in plain words why a store could not be opened, and what to do."""
    text = address.redact(str(problem))
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        return (
            "this store was written by another version of MLflow. Back it up and run: mlflow db "
            f"upgrade {address.shown}"
        )
    if address.kind == "sqlite":
        if "not a database" in text:
            return f"{address.database} is not an SQLite database."
        return f"the file cannot be used ({one_line(problem)})."
    if address.kind == "database":
        return f"the database answers: {address.redact(one_line(problem))}."
    remedy = " Start it (mlflow server) or correct the address."
    if address.option == "run.tracking_uri":
        remedy = (
            " Start it (mlflow server), correct the address, or leave run.tracking_uri away to use "
            "sqlite:///mlflow.db."
        )
    if any(sign in text for sign in _UNREACHABLE):
        return f"{one_line(problem)}.{remedy}"
    if "error code 401" in text:
        return (
            "the server asks for credentials: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        )
    return f"what answers is no usable MLflow server ({one_line(problem)})." + remedy


def one_line(problem: Exception) -> str:
    """What another program's error means, or its first words without class names and SQL."""
    text = str(problem)
    if text.startswith("API request"):
        for sign, meaning in _UNREACHABLE.items():
            if sign in text:
                return meaning
    text = re.split(r"\n\[SQL|\(Background on", text)[0]
    return re.sub(r"^\([\w.]+\) ", "", " ".join(text.split()))[:300].rstrip(".")


def check_database(address: Address) -> None:
    """Answer at once for a database that is not there; MLflow would try for minutes."""
    import sqlalchemy

    start = f"{address.option} is {address.shown!r}: "
    url = sqlalchemy.make_url(address.uri)
    try:
        url.get_dialect().import_dbapi()
    except ModuleNotFoundError as missing:
        driver = _DRIVERS.get(str(missing.name), missing.name)
        raise ConfigError(
            f"{start}the Python package {missing.name} is missing: pip install {driver}"
        ) from None
    except sqlalchemy.exc.ArgumentError as problem:
        raise ConfigError(f"{start}{problem}.") from None
    if url.host:
        port = url.port or _PORTS[url.get_backend_name()]
        try:
            socket.create_connection((url.host, port), _CONNECT_SECONDS).close()
        except OSError as problem:
            reason = problem.strerror or str(problem)
            raise ConfigError(
                f"{start}nothing answers at {url.host}, port {port} ({reason})."
            ) from None
    engine = sqlalchemy.create_engine(url)
    try:
        engine.connect().close()
    except sqlalchemy.exc.SQLAlchemyError as problem:
        reason = address.redact(one_line(problem))
        raise ConfigError(f"{start}the database answers: {reason}.") from None
    finally:
        engine.dispose()


@contextmanager
def creation_lock(address: Address) -> Iterator[None]:
    """Let one process at a time create the tables of an SQLite file; the lock lies beside it."""
    if address.kind != "sqlite":
        yield
        return
    lock = FileLock(address.database.with_name(address.database.name + ".lock"), timeout=120)
    try:
        with lock:
            yield
    except LockTimeout:
        raise ConfigError(
            f"{address.option} is {address.shown!r}: another process has been creating the store "
            f"for two minutes. If there is none, delete {lock.lock_file}"
        ) from None
