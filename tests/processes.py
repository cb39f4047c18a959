"""Processes that tests start: forked from one with the imports done.

A fresh process takes seconds for them, and that dozens of times. What a real command line does
besides is seen by `tests/hpo/test_postgres.py` and by torchrun in `tests/integration/test_ddp.py`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["cxr_lightning.training", "cxr_lightning.tracking.store", "cxr_lightning.hpo.run"]
)


def start(
    module: str, words: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """Start `python -m module *words` in the current folder; what it says goes to `log`."""
    process = _CONTEXT.Process(target=_run_module, args=(module, list(words), log, env or {}))
    process.start()
    return process


def _run_module(module: str, words: list[str], log: Path, env: Mapping[str, str]) -> None:
    _say_to(log)
    os.environ.update(env)
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def exit_code(process: ForkServerProcess, seconds: float = 300) -> int:
    """Wait for the end of a process; negative: the signal that ended it."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"it had not ended after {seconds:g} s")
    return process.exitcode


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cut_fit(
    words: list[str], hook: str, epoch: int | None = None, batch: int | None = None
) -> None:
    """Run `fit` in a process that kills itself, without a word, in a hook of Lightning."""
    with tempfile.NamedTemporaryFile() as log:
        process = _CONTEXT.Process(target=_fit, args=(words, Path(log.name), hook, epoch, batch))
        process.start()
        assert exit_code(process) == -signal.SIGKILL, log.read().decode()


def _fit(words: list[str], log: Path, *moment: Any) -> None:
    from cxr_lightning.config.compose import compose
    from cxr_lightning.training import run_fit

    _say_to(log)
    run_fit(compose(words), [_Kill(*moment)])


class _Kill(Callback):
    def __init__(self, hook: str, epoch: int | None, batch: int | None) -> None:
        self.epoch = epoch
        self.batch = batch
        setattr(self, hook, self._kill)

    def _kill(self, trainer: Any, task: Any, *rest: Any) -> None:
        if self.epoch in (None, trainer.current_epoch) and self.batch in (None, *rest[1:2]):
            os.kill(os.getpid(), signal.SIGKILL)


def _say_to(log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
