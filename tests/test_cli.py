"""How a verb's process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from cxr_lightning.cli import run_verb
from cxr_lightning.trainer import _WholeFiles

ENDING = """
import atexit, threading, time
from cxr_lightning.cli import leave

def later():
    time.sleep(0.2)
    print("thread")

class Held:
    def __del__(self):
        print("taken apart")

held = Held()
atexit.register(print, "registered")
threading.Thread(target=later).start()
print("said")
leave(3)
"""


def test_what_was_begun_is_ended_and_python_is_not_taken_apart() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING], capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n") == ["said", "thread", "registered", ""]
    assert (done.returncode, done.stderr) == (3, "")


def test_a_reader_that_is_gone_changes_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    code = "from cxr_lightning.cli import leave; print('said'); leave(0)"
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=buffered, stdout=writing, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """/dev/full answers each write as a full disk does."""

    def write_checkpoint(argv: Sequence[str]) -> int:
        (tmp_path / "last.ckpt.partial").symlink_to("/dev/full")
        _WholeFiles().save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
        return 0

    assert run_verb(write_checkpoint, []) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith(f"error: {tmp_path}/last.ckpt: No space left on device. Make room")
    assert not os.listdir(tmp_path)


def test_a_defect_keeps_its_traceback() -> None:
    def broken(argv: Sequence[str]) -> int:
        raise FileNotFoundError(2, "no such file", "x")

    with pytest.raises(FileNotFoundError):
        run_verb(broken, [])
