"""How a verb's process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

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
LEAVE = "from cxr_lightning.cli import leave;"
BUFFERED = os.environ | {"PYTHONUNBUFFERED": ""}


def test_what_was_begun_is_ended_and_python_is_not_taken_apart() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING], capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n") == ["said", "thread", "registered", ""]
    assert (done.returncode, done.stderr) == (3, "")


def test_a_reader_that_is_gone_changes_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", f"{LEAVE} print('said'); leave(0)"],
        env=BUFFERED, stdout=writing, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("weights", [1, 1 << 18], ids=["at its end", "in the middle"])
def test_a_full_disk_is_named(
    weights: int, full_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_checkpoint(argv: Sequence[str]) -> int:
        (tmp_path / "last.ckpt.partial").symlink_to(full_disk)
        _WholeFiles().save_checkpoint({"w": torch.zeros(weights)}, tmp_path / "last.ckpt")
        return 0

    assert run_verb(write_checkpoint, []) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith(f"error: {tmp_path}/last.ckpt: No space left on device. Make room")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("code", "expected"), [(0, 2), (2, 2), (130, 130)])
def test_what_is_said_on_a_full_disk(code: int, expected: int, full_disk: Path) -> None:
    with full_disk.open("w") as stream:
        done = subprocess.run(
            [sys.executable, "-c", f"{LEAVE} print('said'); leave({code})"],
            env=BUFFERED, stdout=stream, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (expected, b"")


def test_streams_that_the_shell_closed() -> None:
    command = [sys.executable, "-c", f"{LEAVE} leave(0)"]
    done = subprocess.run(["sh", "-c", '"$@" >&- 2>&-', "sh", *command], check=False)
    assert done.returncode == 0


def test_a_defect_keeps_its_traceback() -> None:
    def broken(argv: Sequence[str]) -> int:
        raise FileNotFoundError(2, "no such file", "x")

    with pytest.raises(FileNotFoundError):
        run_verb(broken, [])
