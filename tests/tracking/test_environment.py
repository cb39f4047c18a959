"""What a run ran on, and nothing about who ran it where."""

from __future__ import annotations

import getpass
import platform
import re
import shutil
import socket
import subprocess
from pathlib import Path

import numpy
import pytest

from cxr_lightning.tracking import describe_environment
from cxr_lightning.tracking.environment import _code


def test_facts_are_there() -> None:
    facts = describe_environment(["numpy", "no-such-package"])
    assert facts["package.numpy"] == numpy.__version__
    assert facts["system.python"] == platform.python_version()
    assert int(facts["hardware.cpu_cores"]) >= 1
    assert re.fullmatch(r"\d+ GiB", facts["hardware.memory"])
    assert "package.no-such-package" not in facts
    assert all(isinstance(value, str) and value for value in facts.values())


def test_nobody_is_identified() -> None:
    text = "\n".join(describe_environment().values())
    for secret in (socket.gethostname(), socket.getfqdn(), str(Path.home()), str(Path.cwd())):
        assert secret not in text
    assert not re.search(rf"\b{re.escape(getpass.getuser())}\b", text)
    assert not re.search(r"(^|\s)/\w", text)


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_and_dirty_flag(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git(tmp_path, "init", "-q")
    assert "code.commit" not in _code(package)  # inside a checkout, but not part of it
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    (tmp_path / "results.txt").write_text("beside the package")
    facts = _code(package)
    assert facts["code.commit"] == git(tmp_path, "rev-parse", "HEAD")
    assert facts["code.dirty"] == "false"
    (package / "new.py").write_text("")
    assert _code(package)["code.dirty"] == "true"
