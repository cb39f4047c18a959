"""Names of patients, studies and images that lead back to nobody: salted hashes.

A plain hash of a patient number is undone by hashing all numbers. These are keyed (HMAC-SHA256)
with a salt that stays on the machine, so that the same patient has the same name in every run and
table, and nobody without the salt can tell who it is.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_lightning.data.storage import cache_home
from cxr_lightning.errors import DataError

__all__ = ["default_salt_file", "read_salt", "salted", "write_key"]

_DIGITS = 16
_SHORTEST = 16


def default_salt_file() -> Path:
    """Return the user's own salt: beside the caches, so that emptying them leaves it in place."""
    return cache_home().with_name("cxr_lightning.salt")


def read_salt(file: Path | None = None) -> bytes:
    """Return the salt in a file; None: the user's own, made on first use and readable by no other.

    Raises
    ------
    DataError
        A chosen file is not there or too short, others than its owner and group can read it, or
        none can be made.
    """
    path = file or default_salt_file()
    try:
        if file is None and not path.exists():
            _make(path)
        salt = path.read_bytes().strip()
        open_to_all = bool(path.stat().st_mode & stat.S_IROTH)
    except FileNotFoundError:
        raise DataError(
            f"data.salt_file={path}: there is no such file. Make one with:\n"
            f"  (umask 077; head -c 32 /dev/urandom | base64 > {path})"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: the salt of ids: {error.strerror or error}") from error
    if open_to_all:
        raise DataError(f"{path}: everyone can read the salt of ids; run: chmod 600 {path}")
    if len(salt) < _SHORTEST:
        raise DataError(f"{path}: the salt of ids must have at least {_SHORTEST} bytes")
    return salt


def salted(values: Iterable[str], salt: bytes, kind: str) -> list[str]:
    """Return a name of 16 hex digits for each value; equal values have equal names.

    Parameters
    ----------
    values
        Ids, as text.
    salt
        See :func:`read_salt`.
    kind
        What is named (patient, study, image): the same number means two things in two kinds.

    Among a million different values, the chance that any two share a name is 3 in 100 million.
    """
    codes, distinct = pd.factorize(pd.Series(list(values), dtype="str"))
    names = [
        hmac.digest(salt, f"{kind}\0{value}".encode(errors="surrogateescape"), "sha256").hex()
        for value in distinct
    ]
    return list(np.array([name[:_DIGITS] for name in names], dtype=object)[codes])


def write_key(file: Path, key: pd.DataFrame) -> None:
    """Write the table that leads from names back to files and patients; only its owner reads it.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            key.to_csv(handle, index=False)
        partial.replace(file)
    except OSError as error:
        raise DataError(f"data.key_file={file}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _make(path: Path) -> None:
    """Write a new salt; of several processes at once, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w") as handle:
            handle.write(secrets.token_hex(32) + "\n")
        with suppress(FileExistsError):
            os.link(partial, path)
    finally:
        partial.unlink()
