"""What is written is there whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cxr_lightning.whole_file import whole_file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "x.txt"
    file.write_text("before")
    return file


def test_it_has_its_name_once_it_is_whole(file: Path) -> None:
    with whole_file(file) as partial:
        partial.write_text("after")
        assert file.read_text() == "before"
    assert file.read_text() == "after"
    assert list(file.parent.iterdir()) == [file]


def test_ctrl_c_leaves_what_was_there(file: Path) -> None:
    def interrupted() -> None:
        with whole_file(file) as partial:
            partial.write_text("aft")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_text() == "before"
    assert list(file.parent.iterdir()) == [file]


def test_a_full_disk_leaves_what_was_there_and_is_named(file: Path, full_disk: Path) -> None:
    def write() -> None:
        with whole_file(file) as partial:
            partial.symlink_to(full_disk)
            partial.write_text("after")

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(file))
    assert file.read_text() == "before"
    assert list(file.parent.iterdir()) == [file]


def test_an_error_that_names_its_file_keeps_that_name(file: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, whole_file(file):
        (file.parent / "other").read_text()
    assert caught.value.filename == str(file.parent / "other")
