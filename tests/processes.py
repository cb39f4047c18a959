"""Processes that tests start: forked from one with the imports done.

A fresh process takes seconds for them, and that dozens of times. What a real command line does
besides is seen where one is run: in `tests/hpo/test_postgres.py`, and by `.ci/run`, which runs
torchrun and `make fit` as well.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["cxr_lightning.training", "cxr_lightning.tracking.preload", "pyarrow.parquet"]
)


def start(
    module: str, words: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """Start `python -m module *words` in the current folder; what it says goes to `log`.

    Its environment is this process's, with `env` over it.
    """
    return _start(_run_module, log, {**os.environ, **(env or {})}, module, list(words))


def _start(
    target: Callable[..., None], log: Path, env: dict[str, str], *arguments: Any
) -> ForkServerProcess:
    process = _CONTEXT.Process(target=_begun, args=(target, log, env, *arguments))
    process.start()
    # Else Python would wait for it at its end, where a test has failed before it ended it.
    atexit.register(process.kill)
    return process


def _begun(target: Callable[..., None], log: Path, env: dict[str, str], *arguments: Any) -> None:
    os.environ.clear()
    os.environ.update(env)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    target(*arguments)


def _run_module(module: str, words: list[str]) -> None:
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def exit_code(process: ForkServerProcess, seconds: float = 200) -> int:
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
        process = _start(_fit, Path(log.name), dict(os.environ), words, hook, epoch, batch)
        assert exit_code(process) == -signal.SIGKILL, log.read().decode()


def _fit(words: list[str], *moment: Any) -> None:
    from cxr_lightning.config.compose import compose
    from cxr_lightning.training import run_fit

    run_fit(compose(words), [_Kill(*moment)])


class _Kill(Callback):
    def __init__(self, hook: str, epoch: int | None, batch: int | None) -> None:
        self.epoch = epoch
        self.batch = batch
        setattr(self, hook, self._kill)

    def _kill(self, trainer: Any, task: Any, *rest: Any) -> None:
        if self.epoch in (None, trainer.current_epoch) and self.batch in (None, *rest[1:2]):
            os.kill(os.getpid(), signal.SIGKILL)
