"""How fast an epoch of training goes, how much of it waits for data, and what to do about that."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch

from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.decode_pool import available_cpus

__all__ = ["Clock", "Loading", "Throughput", "advice", "clock_of", "loading_of", "waits"]

WAIT_SHARE = 0.1  # of an epoch; waiting for more is worth a word
LONG_ENOUGH = 2.0  # seconds of an epoch; of a shorter one the share says little


class Clock(Protocol):
    """What time it is where the steps are computed."""

    def now(self) -> float:
        """Return the time in seconds once all steps so far are computed."""

    def mark(self) -> Any:
        """Return a mark at the end of what the device was given so far, without waiting for it."""

    def seconds(self, start: Any, end: Any) -> float:
        """Return the time between two marks; `now` was called after them."""


class _HostClock:
    """On a CPU a step is computed when it returns."""

    def now(self) -> float:
        return time.perf_counter()

    mark = now

    def seconds(self, start: float, end: float) -> float:
        return end - start


class _CudaClock:
    """Marks are events in the GPU's queue.

    A GPU still works through what it was given while the next batch is loaded, so the host's time
    says nothing. The event after a step passes when the GPU has done it, the event before the next
    one when the GPU gets there: at once if it was busy all the while, else when the host has come
    that far. What lies between them is what the GPU lacked, and the batch's copy to it. They are
    asked at the end of an epoch, when all have passed, so that no step is waited for.
    """

    def now(self) -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return start.elapsed_time(end) / 1e3


def clock_of(device: torch.device) -> Clock:
    """Return the clock of a device."""
    return _CudaClock() if device.type == "cuda" else _HostClock()


class Throughput:
    """Where the time of an epoch of training goes; validation is none of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._images = self._steps = 0
        self._validation = 0.0
        self._waits: list[tuple[Any, Any]] = []
        self._started = clock.now()
        self._free = clock.mark()

    def begin_step(self) -> None:
        self._waits.append((self._free, self._clock.mark()))

    def end_step(self, images: int) -> None:
        self._images += images
        self._steps += 1
        self._free = self._clock.mark()

    def begin_validation(self) -> None:
        self._validation -= self._clock.now()

    def end_validation(self) -> None:
        self._validation += self._clock.now()
        self._free = self._clock.mark()  # it may fall between two steps

    def measured(self) -> dict[str, float]:
        """Return the epoch's numbers, once it is over."""
        seconds = self._clock.now() - self._started
        training = seconds - self._validation
        waited = sum(self._clock.seconds(*wait) for wait in self._waits)
        return {
            "time/epoch_seconds": seconds,
            "throughput/images_per_second": self._images / training,
            "throughput/data_wait_share": waited / training,
            "throughput/step_milliseconds": 1e3 * (training - waited) / max(1, self._steps),
        }


class Loading(NamedTuple):
    """How training images come to the steps.

    Attributes
    ----------
    residency : that of the configuration; "device" also where `auto` has chosen that
    policy : name of the augmentation
    unfused : what of the policy a device cannot do
    one_by_one : its first transform that is left to albumentations
    gpu : whether steps are computed on one
    workers : loader processes on this machine
    cpus : those that this process may use
    """

    residency: str
    policy: str
    unfused: str | None
    one_by_one: str | None
    gpu: bool
    workers: int
    cpus: int


def loading_of(data: ChestXrayDataModule, device: torch.device, devices: int) -> Loading:
    """Return how a module loads for `devices` devices of this machine."""
    return Loading(
        residency="device" if data.resident is not None else data.config.residency,
        policy=data.augmentation.policy,
        unfused=data.augmentation.unfused,
        one_by_one=data.augmentation.one_by_one,
        gpu=device.type == "cuda",
        workers=data.config.workers * devices,
        cpus=available_cpus(),
    )


def waits(measured: Mapping[str, float]) -> bool:
    """Whether an epoch of those numbers waited for data so long that it is worth a word."""
    share, seconds = measured["throughput/data_wait_share"], measured["time/epoch_seconds"]
    return share > WAIT_SHARE and seconds >= LONG_ENOUGH


def advice(loading: Loading) -> str:
    """Return what to change where training waits for data loaded so."""
    if loading.one_by_one:
        more = ", or raise data.workers" if loading.workers < loading.cpus else ""
        return (
            f"augment={loading.policy} leaves {loading.one_by_one}, and what follows it, to "
            f"albumentations, image by image: take a policy without it{more}"
        )
    if loading.gpu and loading.residency in ("disk", "memory") and not loading.unfused:
        return "data.residency=auto keeps the training images on the GPU, where they fit"
    if loading.gpu and loading.workers == 0:
        return "the training process makes the batches itself: set data.workers, 4 for a start"
    if loading.workers >= loading.cpus:
        return (
            f"{loading.workers} loader processes share {loading.cpus} CPUs with the training: "
            "lower data.workers"
        )
    if loading.residency in ("disk", "auto"):
        return (
            "put data.cache_dir on a faster disk or, where there is room for all training images, "
            "hold them in memory with data.residency=memory"
        )
    return "raise data.workers"
