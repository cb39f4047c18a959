"""How a verb's process ends."""

from __future__ import annotations

import os
import subprocess
import sys

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
