"""The process that trials are forked from: heavy imports done, data read and decoded once.

It has no pool of threads that a fork would break (those of Arrow and jemalloc mend themselves),
opens no database and touches no GPU, so that what it forks starts as a fresh process would, without
the seconds that a fresh process takes. Its parent is the sweep; it ends when that ends, and every
trial ends with it.

The parent sends jobs, each with the end of a channel for the job's own messages; the server answers
with the exit status of each job's process.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import selectors
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from cxr_lightning.hpo.channel import Channel, Message

if TYPE_CHECKING:
    from cxr_lightning.data.base import ChestXrayDataModule

__all__ = ["main"]

_KILL_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


class Server:
    """Forks jobs and collects them.

    Parameters
    ----------
    control
        Channel to the sweep.
    """

    def __init__(self, control: Channel) -> None:
        self.control = control
        self.jobs: dict[int, int] = {}  # process id -> the job's number
        self.prepared: list[ChestXrayDataModule] = []

    def run(self) -> None:
        """Serve until the sweep closes its end."""
        wake, alarm = os.pipe()
        os.set_blocking(alarm, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(alarm)
        with selectors.DefaultSelector() as selector:
            selector.register(self.control.fileno(), selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == wake:
                        os.read(wake, 4096)
                        self._collect()
                    elif not self._serve():
                        self._end()
                        return

    def _serve(self) -> bool:
        message, end = self.control.receive_with_end()
        if message is None:
            return False
        match message["do"]:
            case "run" if end is not None:
                self._fork(message, end)
                end.close()
            case "signal":
                for process, number in self.jobs.items():
                    if number == message["job"]:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(process, message["signal"])
            case "adopt":
                self._adopt(message)
        return True

    def _adopt(self, message: Message) -> None:
        """Keep data that a job has prepared on the disk, for all jobs to come."""
        from cxr_lightning.hpo.jobs import read_data

        os.chdir(message["folder"])
        self.prepared.append(read_data(message["config"]))
        # What is shared with the jobs is not to be copied by the first collection in each.
        gc.collect()
        gc.freeze()
        self.control.send({"adopted": True, "threads": len(os.listdir("/proc/self/task"))})

    def _fork(self, message: Message, end: Channel) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process:
            self.jobs[process] = message["job"]
            return
        code = 1
        try:
            # A group of its own, so that it can be ended with all that it starts.
            os.setpgid(0, 0)
            ctypes.CDLL(None).prctl(_KILL_WITH_PARENT, signal.SIGKILL)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.control.close()
            from cxr_lightning.hpo.jobs import run_job

            run_job(message, end, self.prepared)
            code = 0
        except BaseException:  # noqa: BLE001 - the server itself must not go on twice
            traceback.print_exc()
        finally:
            # Nothing that the server had registered for its own end is run here.
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _collect(self) -> None:
        while True:
            try:
                process, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            number = self.jobs.pop(process, None)
            if number is not None:
                _end_group(process)
                code = os.waitstatus_to_exitcode(status)
                seconds = usage.ru_utime + usage.ru_stime
                self.control.send({"exited": number, "code": code, "cpu_seconds": seconds})

    def _end(self) -> None:
        for process in self.jobs:
            _end_group(process)


def _end_group(process: int) -> None:
    """End what a job left running: the other ranks of a distributed one, loader processes."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def main(number: int) -> None:
    """Serve on the channel's end that was left open under a number."""
    # Ctrl-C is the sweep's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_KILL_WITH_PARENT, signal.SIGKILL)
    control = Channel.inherited(number)
    from cxr_lightning.hpo.jobs import import_everything

    facts = import_everything()
    control.send({"ready": True, "threads": len(os.listdir("/proc/self/task")), **facts})
    Server(control).run()
    os._exit(0)  # nothing is left to tidy up, and libraries have much to say at a regular end


if __name__ == "__main__":
    main(int(sys.argv[1]))
