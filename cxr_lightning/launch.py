"""The processes of a run: this one, and one more per further device.

Lightning would start the others by repeating the command line, which is wrong wherever the command is not
this very run: in a sweep they would begin a sweep of their own. Here they are given the run's folder
instead, and read its resolved configuration. Under torchrun or SLURM, which start all processes
themselves, nothing is started.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxr_lightning.errors import UserError

__all__ = ["RUN_VARIABLE", "launched_run", "other_ranks", "started_externally"]

RUN_VARIABLE = "CXR_LIGHTNING_RUN"


def launched_run() -> Path | None:
    """Return the run's folder where this process was started as a further rank."""
    folder = os.environ.get(RUN_VARIABLE)
    return Path(folder) if folder and os.environ.get("LOCAL_RANK", "0") != "0" else None


def started_externally() -> bool:
    """Return whether torchrun or SLURM started this process as one of several."""
    env = os.environ
    torchrun = "LOCAL_RANK" in env and "WORLD_SIZE" in env
    # An interactive shell inside an allocation is not a launch by srun.
    slurm = "SLURM_NTASKS" in env and env.get("SLURM_JOB_NAME") not in (None, "bash", "interactive")
    return torchrun or slurm


@contextmanager
def other_ranks(run: Path, devices: int) -> Iterator[None]:
    """Start ranks 1 to `devices` - 1 on this machine and take rank 0; stop them all at the end.

    A rank that fails ends this process too, instead of leaving it waiting at a collective call; ranks
    whose parent is gone end by themselves.

    Raises
    ------
    UserError
        A rank ended with an error after rank 0 had finished.
    """
    if devices < 2 or started_externally():
        yield
        return
    common = {
        "WORLD_SIZE": str(devices),
        "NODE_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        RUN_VARIABLE: str(run.resolve()),
    }
    command = [sys.executable, "-m", "cxr_lightning.launch"]
    previous = {name: os.environ.get(name) for name in (*common, "LOCAL_RANK")}
    os.environ.update(common | {"LOCAL_RANK": "0"})
    ranks = [
        subprocess.Popen(
            command,
            env=os.environ | {"LOCAL_RANK": str(rank)},
            stdin=subprocess.PIPE,  # its end of file tells the rank that its parent is gone
        )
        for rank in range(1, devices)
    ]
    done = threading.Event()
    threading.Thread(target=_watch, args=(ranks, done), daemon=True).start()
    try:
        yield
        done.set()
        failed = [rank.wait(timeout=120) for rank in ranks]
        if any(failed):
            raise UserError(f"a further process of the run ended with exit codes {failed}")
    finally:
        done.set()
        for rank in ranks:
            if rank.poll() is None:
                rank.kill()
            rank.wait()
        for name, value in previous.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _watch(ranks: list[subprocess.Popen[bytes]], done: threading.Event) -> None:
    while not done.wait(0.5):
        for number, rank in enumerate(ranks, start=1):
            if rank.poll():
                print(
                    f"error: rank {number} of the run ended with exit code {rank.returncode}; its "
                    "message is above. The run stops; resume=auto continues it.",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _main() -> int:
    """Join a run as one of its further ranks."""
    from cxr_lightning.config.compose import config_from_file
    from cxr_lightning.training import run_fit

    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = launched_run()
    if folder is None:
        raise UserError("cxr_lightning.launch is started by a run, not by hand")
    run_fit(config_from_file(folder / "config.yaml"))
    return 0


if __name__ == "__main__":
    from cxr_lightning.cli import run_verb

    sys.exit(run_verb(lambda argv: _main()))
