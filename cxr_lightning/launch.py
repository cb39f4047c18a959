"""The processes of a run: this one, and one more per further device.

Lightning would start the others by repeating the command line, which is wrong wherever the command
is not this very run: in a sweep they would begin a sweep of their own. Here they are given the
run's folder instead, and read its resolved configuration. Under torchrun or SLURM, which start all
processes themselves, nothing is started.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from cxr_lightning.errors import UserError

__all__ = [
    "RUN_VARIABLE",
    "external_processes",
    "external_rank",
    "launched_run",
    "launched_splits",
    "other_ranks",
    "started_externally",
]

RUN_VARIABLE = "CXR_LIGHTNING_RUN"
SPLITS_VARIABLE = "CXR_LIGHTNING_SPLITS"


def launched_run() -> Path | None:
    """Return the run's folder where this process was started as a further rank."""
    folder = os.environ.get(RUN_VARIABLE)
    return Path(folder) if folder and os.environ.get("LOCAL_RANK", "0") != "0" else None


def launched_splits() -> tuple[str, ...]:
    """Return the splits that rank 0 predicts at the end, and a further rank with it."""
    return tuple(os.environ.get(SPLITS_VARIABLE, "val,test").split(","))


def external_rank() -> int:
    """Return the global rank that torchrun or SLURM gave this process; 0 where neither did."""
    if not started_externally():
        return 0
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


def external_processes() -> int:
    """Return how many processes of this run torchrun or SLURM started; 1 where neither did."""
    env = os.environ
    if RUN_VARIABLE in env:
        return 1
    if "LOCAL_RANK" in env and "WORLD_SIZE" in env:
        return int(env["WORLD_SIZE"])
    # An interactive shell inside an allocation is not a launch by srun.
    if "SLURM_NTASKS" in env and env.get("SLURM_JOB_NAME") not in (None, "bash", "interactive"):
        return int(env["SLURM_NTASKS"])
    return 1


def started_externally() -> bool:
    """Return whether torchrun or SLURM started this process as one of several."""
    return external_processes() > 1


@contextmanager
def other_ranks(run: Path, devices: int, splits: Sequence[str] = ("val", "test")) -> Iterator[None]:
    """Start ranks 1 to `devices` - 1 on this machine and take rank 0; stop them all at the end.

    A rank that fails ends this process too, instead of leaving it waiting at a collective call;
    ranks whose parent is gone end by themselves.

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
        SPLITS_VARIABLE: ",".join(splits),
    }
    command = [sys.executable, "-m", "cxr_lightning.rank"]
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
        if failed := _failed(ranks, seconds=120):
            raise UserError(failed)
    except UserError:
        raise  # says its cause itself; other ranks may have met the same, as when training diverges
    except Exception as error:
        # A collective call that lost its partner says so in its own words; the cause is the rank.
        if failed := _failed(ranks, seconds=2):
            raise UserError(failed) from error
        raise
    finally:
        done.set()
        if torch.distributed.is_initialized():
            # Else a further run of this process would wait for these ranks.
            torch.distributed.destroy_process_group()
        for rank in ranks:
            if rank.poll() is None:
                rank.kill()
            rank.wait()
            if rank.stdin is not None:
                rank.stdin.close()
        for name, value in previous.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _watch(ranks: list[subprocess.Popen[bytes]], done: threading.Event) -> None:
    while not done.wait(0.5):
        if any(rank.poll() for rank in ranks):
            # Rank 0 may hang in a collective call: it has ten seconds to notice by itself.
            if not done.wait(10):
                sys.stderr.write(f"error: {_failed(ranks, seconds=0)}\n")
                sys.stderr.flush()
                os._exit(1)
            return


def _failed(ranks: list[subprocess.Popen[bytes]], *, seconds: float) -> str:
    """Wait for the ranks to end, and say which of them failed; empty: none did."""
    deadline = time.monotonic() + seconds
    while any(rank.poll() is None for rank in ranks) and time.monotonic() < deadline:
        if any(rank.poll() for rank in ranks):
            break
        time.sleep(0.05)
    codes = {number: rank.poll() for number, rank in enumerate(ranks, start=1)}
    failed = [f"rank {number} (exit code {code})" for number, code in codes.items() if code]
    if not failed:
        return ""
    return (
        f"{', '.join(failed)} of the run ended; what it said is above. resume=auto continues the "
        "run from its last epoch."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
