"""Where MLflow keeps its runs: one address, checked and explained before training starts.

Nothing here imports MLflow, so that a typing error is answered at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from ..errors import ConfigError, nearest

__all__ = ["Address", "parse_address"]

_HIDDEN = "***"  # in place of a password
_SERVERS = ("http", "https")
_DATABASES = ("postgresql", "mysql", "mssql")
_ALLOWED = """Allowed are:
  - sqlite:///mlflow.db: a file in the current folder; with four slashes an absolute path
  - http://HOST:PORT or https://HOST: an MLflow server
  - postgresql://USER:PASSWORD@HOST:PORT/DATABASE: a database (mysql and mssql likewise)"""


@dataclass(frozen=True)
class Address:
    """A tracking address that MLflow can be given.

    Attributes
    ----------
    uri : str
        As MLflow takes it. The path of an SQLite file is absolute: the store is where the run was
        started, whatever folder a later process works in. May hold a password: never print it.
    kind : {"sqlite", "database", "server"}
    folder : Path
        Where artifacts of a new experiment are kept when no server keeps them: beside the SQLite
        file, otherwise where the run was started.
    option : str
        What the user gave it by, for messages.
    """

    uri: str
    kind: Literal["sqlite", "database", "server"]
    folder: Path
    option: str = "run.tracking_uri"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return Path(_without_query(self.uri.removeprefix("sqlite:///")))

    @property
    def shown(self) -> str:
        """The address without its password, for messages and files."""
        hidden = re.sub(r"(://[^:/@]*):.*@", rf"\1:{_HIDDEN}@", self.uri)
        return re.sub(r"([?&]password=)[^&]*", rf"\1{_HIDDEN}", hidden)

    def redact(self, text: str) -> str:
        """Remove this address's password from the words of another program."""
        if self.kind == "sqlite":
            return text
        parts = urlsplit(self.uri)
        for password in (parts.password, *parse_qs(parts.query).get("password", ())):
            text = text.replace(password, _HIDDEN) if password else text
        return text


def parse_address(
    uri: str, folder: Path | None = None, *, option: str = "run.tracking_uri"
) -> Address:
    """Check a tracking URI and make it independent of the current folder.

    Parameters
    ----------
    uri : str
        ``sqlite:///FILE``, ``http(s)://HOST`` or a database URL that SQLAlchemy understands.
    folder : Path, optional
        What a relative SQLite path starts from; the current folder by default.
    option : str
        The name of the option, for messages.

    Raises
    ------
    ConfigError
        If MLflow could not use the address; it says what is allowed. Nothing is contacted here.
    """
    folder = (folder or Path.cwd()).resolve()
    uri = uri.strip()
    scheme, separator, rest = uri.partition("://")
    dialect = scheme.partition("+")[0].lower()

    def refuse(reason: str) -> ConfigError:
        shown = Address(uri, "server", folder).shown
        return ConfigError(f"{option} is {shown!r}: {reason}\n{_ALLOWED}")

    if dialect == "sqlite" and separator:
        return replace(_parse_sqlite(rest, scheme, folder, refuse), option=option)
    if not separator or dialect == "file":
        if uri.startswith("sqlite"):
            raise refuse("an SQLite address starts with sqlite:/// (three slashes).")
        if uri.endswith((".db", ".sqlite", ".sqlite3")):
            path = uri.removeprefix("file:").removeprefix("//")
            raise refuse(f"a file needs its kind in front: sqlite:///{path}")
        if dialect == "file" or uri.startswith(("file:", "/", ".", "~")) or uri == "mlruns":
            raise refuse(
                "MLflow no longer keeps runs in plain folders (since 3.13). "
                "Use sqlite:///mlflow.db; artifacts are then kept in ./mlruns beside it."
            )
        raise refuse("this is no address.")
    if dialect == "postgres":
        raise refuse("write postgresql:// (SQLAlchemy dropped the short form postgres://).")
    if dialect not in _SERVERS + _DATABASES:
        hint = nearest(dialect, (*_SERVERS, *_DATABASES, "sqlite"))
        raise refuse(f"{scheme}:// is not a kind of store that can be used here.{hint}")
    if f":{_HIDDEN}@" in uri or f"password={_HIDDEN}" in uri:
        raise refuse("its password was taken out where this was kept; give the address again.")
    parts = urlsplit(uri)
    try:
        host, _ = parts.hostname, parts.port
    except ValueError as problem:
        raise refuse(f"{problem}.") from None
    if dialect in _SERVERS:
        if not host:
            raise refuse("the host is missing.")
        return Address(uri.rstrip("/"), "server", folder, option)
    if not parts.path.strip("/"):
        raise refuse("the name of the database is missing at the end.")
    return Address(uri, "database", folder, option)


def _without_query(path: str) -> str:
    return path.partition("?")[0]


def _parse_sqlite(
    rest: str, scheme: str, folder: Path, refuse: Callable[[str], ConfigError]
) -> Address:
    if not rest.startswith("/"):
        raise refuse(f"an SQLite address has three slashes: sqlite:///{rest or 'mlflow.db'}")
    name, mark, query = rest[1:].partition("?")
    if name in ("", ":memory:") or name.startswith("file:"):
        raise refuse("the name of a file is missing; a store in memory would not outlive the run.")
    path = Path(folder, Path(name).expanduser()).resolve()
    if path.is_dir():
        raise refuse(f"{path} is a folder, not a file.")
    if not path.parent.is_dir():
        absolute = "" if name.startswith("/") else f" For an absolute path write sqlite:////{name}."
        raise refuse(f"the folder {path.parent} does not exist.{absolute}")
    return Address(f"{scheme}:///{path}{mark}{query}", "sqlite", path.parent)
