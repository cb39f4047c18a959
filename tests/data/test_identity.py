"""Salted hashes: stable, apart by kind and salt, and a salt that nobody else reads."""

from __future__ import annotations

import hashlib
import hmac
import stat
from pathlib import Path

import pandas as pd
import pytest

from cxr_lightning.data.identity import default_salt_file, read_salt, salted, write_key
from cxr_lightning.errors import DataError

SALT = b"0123456789abcdef"


def test_names_are_keyed_hashes_by_kind() -> None:
    expected = hmac.new(SALT, b"patient\x00" + b"17", hashlib.sha256).hexdigest()[:16]
    assert salted(["17", "18", "17"], SALT, "patient")[::2] == [expected] * 2
    assert salted(["17"], SALT, "study") != [expected]
    assert salted(["17"], SALT + b"!", "patient") != [expected]


def test_the_users_own_salt_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = read_salt()
    file = default_salt_file()
    assert file.parent == tmp_path / "cache"
    assert read_salt() == first == file.read_bytes().strip()
    assert len(first) == 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_salts_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "salt"
    with pytest.raises(DataError, match="there is no such file"):
        read_salt(file)
    assert not file.exists()
    file.write_bytes(b"short")
    file.chmod(0o600)
    with pytest.raises(DataError, match="at least 16 bytes"):
        read_salt(file)
    file.write_bytes(SALT)
    file.chmod(0o604)
    with pytest.raises(DataError, match=r"everyone can read .* chmod 600"):
        read_salt(file)


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "key.csv"
    for number in (1, 2):  # the second replaces the first
        write_key(file, pd.DataFrame({"sample_id": ["a"], "patient": [number]}))
    assert file.read_text() == "sample_id,patient\na,2\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(DataError, match=r"data\.key_file"):
        write_key(tmp_path / "nowhere" / "key.csv", pd.DataFrame())
