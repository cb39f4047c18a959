"""The sweep's side of the server: start it, give it jobs, hear of their end."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from cxr_lightning.errors import ConfigError, DataError, UserError
from cxr_lightning.hpo.channel import Channel, Message

__all__ = ["Job", "ServerClient", "ServerLost"]

# No pool of threads in the server, and CUDA's way of being asked without being started.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}


class ServerLost(UserError):
    """The server's process has ended, and all jobs with it."""

    def __init__(self) -> None:
        super().__init__(
            "the process that trials are started from was ended by another process, or by the "
            "system for want of memory. The same command continues; fewer --workers take less "
            "memory"
        )


@dataclass
class Job:
    """A process that the server forked.

    Attributes
    ----------
    number
        Its number with the server.
    channel
        For its own messages; they end when it does.
    result
        Its last message: `done`, `error`, `diverged` or `interrupted`.
    code
        Exit code; negative: the signal that ended it. None: it runs.
    cpu_seconds
        Time that its process, without those it started itself, has computed.
    """

    number: int
    channel: Channel
    result: Message | None = None
    code: int | None = None
    cpu_seconds: float = 0.0
    closed: bool = False

    @property
    def over(self) -> bool:
        """Whether it has ended, and all that it said has been heard."""
        return self.closed and self.code is not None


class ServerClient:
    """Starts the server, which takes some seconds to be ready.

    Attributes
    ----------
    facts
        What the server found: `gpus`, `cpus`, `threads`.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.selector = selectors.DefaultSelector()
        self._adopted: list[Message] = []
        self._jobs: dict[int, Job] = {}
        self._next = 0
        self._start()

    def _start(self) -> None:
        own, other = Channel.pair()
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("OMP_")
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cxr_lightning.hpo.server", str(other.fileno())],
            pass_fds=[other.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is answered here, not by each process
            env=environment | _ENVIRONMENT,
        )
        other.close()
        self._control = own
        self._ready = False

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def wait(self) -> None:
        """Wait until the server is ready.

        Raises
        ------
        UserError
            It ended while it was starting.
        """
        if self._ready:
            return
        message = self._control.receive()
        if message is None:
            raise UserError(
                f"the process that trials are started from ended with exit code "
                f"{self._process.wait()}; what it said is above"
            )
        self.facts = message
        self._ready = True
        self.selector.register(self._control.fileno(), selectors.EVENT_READ, None)
        for message in self._adopted:
            self._send(message)
            self._control.receive()

    def restart(self) -> None:
        """Start the server again after it was lost."""
        self.close()
        self._start()
        self.wait()

    def run(self, message: Message) -> Job:
        """Begin a job."""
        self.wait()
        own, other = Channel.pair()
        self._next += 1
        job = Job(self._next, own)
        self._jobs[job.number] = job
        self.selector.register(own.fileno(), selectors.EVENT_READ, job)
        try:
            self._send({"do": "run", "job": job.number, "folder": os.getcwd(), **message}, [other])
        finally:
            other.close()
        return job

    def adopt(self, config: str) -> dict[str, Any]:
        """Let the server keep prepared data for all jobs to come; none may be running."""
        message = {"do": "adopt", "config": config, "folder": os.getcwd()}
        self._adopted.append(message)
        self._send(message)
        answer = self._control.receive()
        if answer is None:
            raise ServerLost
        return answer

    def signal(self, job: Job, number: signal.Signals) -> None:
        """Send a signal to a job's process."""
        self._send({"do": "signal", "job": job.number, "signal": int(number)})

    def _send(self, message: Message, ends: list[Channel] | None = None) -> None:
        if not self._control.send(message, ends or []):
            raise ServerLost

    def events(self, seconds: float) -> list[tuple[Job, Message]]:
        """Wait for messages of jobs, at most so long; the end of one is an empty message.

        Raises
        ------
        ServerLost
            The server has ended.
        """
        heard: list[tuple[Job, Message]] = []
        for key, _ in self.selector.select(seconds):
            if key.data is None:
                message = self._control.receive()
                if message is None:
                    raise ServerLost
                job = self._jobs.get(message["exited"])
                if job is not None:
                    job.code, job.cpu_seconds = message["code"], message["cpu_seconds"]
            else:
                job = key.data
                message = job.channel.receive()
                if message is None:
                    self.selector.unregister(job.channel.fileno())
                    job.channel.close()
                    job.closed = True
                else:
                    heard.append((job, message))
                    if {"done", "error", "diverged", "interrupted"} & message.keys():
                        job.result = message
            if job is not None and job.over:
                self._jobs.pop(job.number, None)
                heard.append((job, {}))
        return heard

    def call(self, message: Message) -> Any:
        """Run a job to its end and return what it made.

        Raises
        ------
        ConfigError, DataError, UserError
            As raised in the job.
        """
        job = self.run(message)
        while not job.over:
            self.events(1.0)
        return result_of(job)

    def close(self) -> None:
        """End the server, and every job with it."""
        self.selector.close()
        self.selector = selectors.DefaultSelector()
        self._control.close()
        for job in self._jobs.values():
            job.channel.close()
        self._jobs.clear()
        try:
            # While it is starting it has no jobs, and does not look.
            self._process.wait(10 if self._ready else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def result_of(job: Job) -> Any:
    """Return what a job made, or raise what it raised."""
    result = job.result or {}
    if "done" in result:
        return result["done"]
    if "error" in result and result["user"]:
        kinds = {"ConfigError": ConfigError, "DataError": DataError}
        raise kinds.get(result["type"], UserError)(result["error"])
    raise UserError(f"it ended with exit code {job.code}: {result.get('error', 'without a word')}")
