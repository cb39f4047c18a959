"""Optuna's own dashboard opens the storage of a sweep."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cxr_lightning.hpo.storage import GRACE_SECONDS
from tests.hpo.test_study import open_study, work
from tests.processes import free_port

pytest.importorskip("optuna_dashboard", reason="the extra `dashboard` is not installed")


def test_it_shows_the_trials(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    open_study(url, 6).close()
    work(url, 6, 0)
    port = free_port()
    command = [str(Path(sys.executable).with_name("optuna-dashboard")), url, "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        (study,) = answer(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        assert study["study_name"] == "study"
        number = study["study_id"]
        found = answer(f"http://127.0.0.1:{port}/api/studies/{number}?after=0")
    finally:
        server.terminate()
        server.wait(GRACE_SECONDS)
    states = [trial["state"] for trial in found["trials"]]
    assert states == ["Pruned", "Fail", "Complete"] * 2


def answer(url: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                result: dict[str, Any] = json.load(response)
                return result
        except urllib.error.URLError:
            assert time.monotonic() < deadline, "the dashboard did not start"
            time.sleep(0.1)
