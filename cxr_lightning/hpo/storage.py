"""Where a study is kept: an SQLite file, or a database for several machines.

PostgreSQL is what the tests run on; MySQL has what it needs here, and no test.

Opening makes what Optuna leaves out certain: SQLite's tables are made by one process at a time and
its file takes several writers, and :meth:`Storage.locked` lets one process of all machines count
trials and begin the next.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
import sqlalchemy
from filelock import FileLock, Timeout
from optuna.storages import RDBStorage

from cxr_lightning.errors import ConfigError, nearest
from cxr_lightning.hpo.trials import retry_lost
from cxr_lightning.tracking.address import Address
from cxr_lightning.tracking.reach import check_database, one_line

__all__ = ["GRACE_SECONDS", "HEARTBEAT_SECONDS", "Storage", "open_storage"]

OPTION = "--storage"
HEARTBEAT_SECONDS = 10
GRACE_SECONDS = 60
_WAIT_SECONDS = 120.0
_KINDS = ("sqlite", "postgresql", "mysql")
_ALLOWED = """Allowed are:
  - sqlite:///optuna.db: a file in the current folder; with four slashes an absolute path
  - postgresql://USER:PASSWORD@HOST:PORT/DATABASE: for several machines (mysql: not tested)"""

# For the whole process: `warnings.catch_warnings` in one thread undoes that of another, and runs
# are sent to MLflow, which uses it too, from threads. What is experimental is chosen on purpose,
# and heartbeats are this package's own.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")


@dataclass(frozen=True)
class Storage:
    """An open storage.

    Attributes
    ----------
    rdb
        Optuna's; heartbeats and states go to it directly.
    address
        Its URL, which may hold a password: print `address.shown`.
    """

    rdb: RDBStorage
    address: Address

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold a lock that is one for all processes, on all machines, that use this storage.

        Raises
        ------
        TimeoutError
            Another process has held it for two minutes.
        """
        if self.address.kind == "sqlite":
            with _file_lock(self.address.database):
                yield
        else:
            with _database_lock(self.rdb.engine, self.address, name):
                yield

    def close(self) -> None:
        """Give the connections back."""
        self.rdb.remove_session()
        self.rdb.engine.dispose()


def open_storage(url: str, *, folder: Path | None = None) -> Storage:
    """Open a storage, and make it where it is an SQLite file that is not there yet.

    Parameters
    ----------
    url
        As SQLAlchemy takes it.
    folder
        What a relative SQLite path starts from; none: the current folder.

    Raises
    ------
    ConfigError
        A wrong address, a missing driver, or nothing that answers there.
    """
    address = _parse(url, (folder or Path.cwd()).resolve())
    if address.kind == "database":
        check_database(address)
    try:
        if address.kind == "sqlite":
            with _file_lock(address.database):
                _make_writable_by_several(address.database)
                return Storage(_open(address), address)
        # Optuna's own object asks for tables as soon as it is made.
        engine = sqlalchemy.create_engine(address.uri, poolclass=sqlalchemy.NullPool)
        with _database_lock(engine, address, "creation"):
            return Storage(_open(address), address)
    except (
        sqlalchemy.exc.SQLAlchemyError,
        sqlite3.Error,
        optuna.exceptions.StorageInternalError,
    ) as problem:
        cause = problem.__cause__ or problem
        reason = address.redact(one_line(cause))  # type: ignore[arg-type]
        raise ConfigError(f"{OPTION} is {address.shown!r}: {reason}.") from problem
    # A folder that cannot be written or a storage of another version of Optuna.
    except (OSError, RuntimeError) as problem:
        reason = address.redact(str(problem))
        raise ConfigError(f"{OPTION} is {address.shown!r}: {reason}") from problem


def _open(address: Address) -> RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return RDBStorage(
        address.uri,
        engine_kwargs=_engine_options(address),
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=GRACE_SECONDS,
        heartbeat_stale_trial_callback=retry_lost,
    )


def _engine_options(address: Address) -> dict[str, object]:
    if address.kind == "sqlite":
        return {"connect_args": {"timeout": _WAIT_SECONDS}}
    return {"pool_pre_ping": True}


def _make_writable_by_several(database: Path) -> None:
    """Let readers not wait for writers; the file remembers it."""
    connection = sqlite3.connect(database, timeout=_WAIT_SECONDS)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


@contextmanager
def _file_lock(database: Path) -> Iterator[None]:
    file = database.with_name(f"{database.name}.sweep.lock")
    try:
        with FileLock(file, timeout=_WAIT_SECONDS):
            yield
    except Timeout:
        raise TimeoutError(f"another process has held {file} for two minutes") from None


@contextmanager
def _database_lock(engine: sqlalchemy.Engine, address: Address, name: str) -> Iterator[None]:
    """Hold a lock of the database's own, which ends with the connection, however that ends."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    with engine.connect() as connection, connection.begin():
        if address.uri.startswith("postgresql"):
            wait = f"SET LOCAL lock_timeout = '{_WAIT_SECONDS:.0f}s'"
            connection.execute(sqlalchemy.text(wait))
            lock = sqlalchemy.text("SELECT pg_advisory_xact_lock(:number)")
            connection.execute(lock, {"number": number})
            yield
            return
        named = {"name": f"cxr{number}", "seconds": _WAIT_SECONDS}
        lock = sqlalchemy.text("SELECT GET_LOCK(:name, :seconds)")
        if connection.execute(lock, named).scalar() != 1:
            raise TimeoutError(f"the lock of {address.shown} is held elsewhere")
        try:
            yield
        finally:
            connection.execute(sqlalchemy.text("SELECT RELEASE_LOCK(:name)"), named)


def _parse(url: str, folder: Path) -> Address:
    url = url.strip()
    scheme, separator, rest = url.partition("://")
    kind = scheme.partition("+")[0].lower()

    def refuse(reason: str) -> ConfigError:
        shown = Address(url, "database", folder).shown
        return ConfigError(f"{OPTION} is {shown!r}: {reason}\n{_ALLOWED}")

    if not separator:
        if url.endswith((".db", ".sqlite", ".sqlite3")):
            raise refuse(f"a file needs its kind in front: sqlite:///{url}")
        raise refuse("this is no address.")
    if kind == "postgres":
        raise refuse("write postgresql:// (SQLAlchemy dropped the short form postgres://).")
    if kind not in _KINDS:
        raise refuse(f"{scheme}:// is not a kind of storage.{nearest(kind, _KINDS)}")
    if kind != "sqlite":
        if not re.search(r"/[^/?]+", rest):
            raise refuse("the name of the database is missing at the end.")
        return Address(url, "database", folder, OPTION)
    name, mark, query = rest[1:].partition("?")
    if not rest.startswith("/") or name in ("", ":memory:"):
        raise refuse("the name of a file is missing: sqlite:///optuna.db")
    path = Path(folder, name).resolve()
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"cannot be made: there is no {path.parent}"
        raise refuse(f"{path} {what}.")
    return Address(f"{scheme}:///{path}{mark}{query}", "sqlite", path.parent, OPTION)
