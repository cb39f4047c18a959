"""Waiting for data: what counts as it, on a CPU and on a GPU, and what is said of it."""

from __future__ import annotations

import time

import pytest
import torch

from cxr_lightning.throughput import Loading, Throughput, advice, clock_of, waits

LOADING = Loading(
    residency="disk",
    policy="standard",
    unfused=None,
    one_by_one=None,
    gpu=False,
    workers=0,
    cpus=8,
)


class Gpu:
    """A device with a queue: the host runs ahead of it, and meets it where it asks for `now`."""

    def __init__(self) -> None:
        self.host = self.device = 0.0

    def queue(self, seconds: float) -> None:
        self.device = max(self.device, self.host) + seconds

    def now(self) -> float:
        self.host = max(self.host, self.device)
        return self.host

    def mark(self) -> float:
        return max(self.host, self.device)

    def seconds(self, start: float, end: float) -> float:
        return end - start


def epoch(loads: float, copies: float, launches: float, steps: float) -> dict[str, float]:
    """Four steps of 8 images, and validation after the second, which takes a minute."""
    gpu = Gpu()
    throughput = Throughput(gpu)
    for batch in range(4):
        gpu.host += loads
        gpu.queue(copies)
        throughput.begin_step()
        gpu.host += launches
        gpu.queue(steps)
        throughput.end_step(8)
        if batch == 1:
            throughput.begin_validation()
            gpu.host += 60
            throughput.end_validation()
    return throughput.measured()


def test_loading_beside_a_busy_gpu_is_no_waiting() -> None:
    found = epoch(loads=1.0, copies=0.0, launches=0.5, steps=3.0)
    # Only the first batch, and the first after validation, find the GPU idle; of them the GPU also
    # waits for the launch, which is part of the step.
    assert found["time/epoch_seconds"] == 60 + 2 * (1.0 + 0.5 + 3.0 + 3.0)
    assert found["throughput/data_wait_share"] == pytest.approx(2 / 15)
    assert found["throughput/step_milliseconds"] == pytest.approx(1e3 * 13 / 4)
    assert found["throughput/images_per_second"] == pytest.approx(32 / 15)


def test_a_gpu_that_starves_waits_for_what_its_steps_do_not_cover() -> None:
    found = epoch(loads=3.0, copies=0.0, launches=0.0, steps=1.0)
    assert found["time/epoch_seconds"] == 60 + 2 * (3 + 3 + 1)
    assert found["throughput/data_wait_share"] == pytest.approx((3 + 2 + 3 + 2) / 14)
    assert found["throughput/step_milliseconds"] == pytest.approx(1e3)


def test_copies_to_a_gpu_are_waited_for() -> None:
    found = epoch(loads=0.0, copies=0.5, launches=0.0, steps=1.5)
    assert found["throughput/data_wait_share"] == pytest.approx(0.25)


@pytest.mark.gpu
def test_the_time_of_a_gpu() -> None:
    clock = clock_of(torch.device("cuda"))
    clock.now()
    idle = clock.mark()
    time.sleep(0.1)
    busy = clock.mark()
    image = torch.rand(4096, 4096, device="cuda")
    for _ in range(50):
        image = image @ image
    time.sleep(0.001)  # the device still has work
    done = clock.mark()
    after = clock.mark()
    clock.now()
    assert 0.09 < clock.seconds(idle, busy) < 0.2
    assert clock.seconds(busy, done) > 0.01
    assert clock.seconds(done, after) < 0.001


def test_what_is_worth_a_word() -> None:
    def long(share: float, seconds: float = 2.0) -> bool:
        return waits({"throughput/data_wait_share": share, "time/epoch_seconds": seconds})

    assert [long(0.1), long(0.1001), long(0.9, seconds=1.99)] == [False, True, False]


GPU = LOADING._replace(gpu=True)
STRONG = LOADING._replace(policy="strong", unfused="GaussNoise", one_by_one="GaussNoise")
GAUSS = (
    "augment=strong leaves GaussNoise, and what follows it, to albumentations, image by image: "
    "take a policy without it"
)
ON_THE_GPU = "data.residency=auto keeps the training images on the GPU, where they fit"
SET = "the training process makes the batches itself: set data.workers, 4 for a start"
STORAGE = (
    "put data.cache_dir on a faster disk or, where there is room for all training images, hold "
    "them in memory with data.residency=memory"
)
BORDER = "Affine with a border of its own"


@pytest.mark.parametrize(
    ("loading", "said"),
    [
        (STRONG, f"{GAUSS}, or raise data.workers"),
        (STRONG._replace(gpu=True, workers=7), f"{GAUSS}, or raise data.workers"),
        (STRONG._replace(workers=8), GAUSS),
        (GPU, ON_THE_GPU),
        (GPU._replace(workers=4, residency="memory"), ON_THE_GPU),
        # These cannot be on the GPU: `auto` found no room, or the policy cannot be done there.
        (GPU._replace(residency="auto"), SET),
        (GPU._replace(unfused=BORDER), SET),
        (GPU._replace(residency="device"), SET),
        (GPU._replace(residency="auto", workers=4), STORAGE),
        (GPU._replace(residency="memory", unfused=BORDER, workers=4), "raise data.workers"),
        (
            GPU._replace(residency="device", workers=8),
            "8 loader processes share 8 CPUs with the training: lower data.workers",
        ),
        (LOADING, STORAGE),
        (LOADING._replace(residency="auto", workers=2), STORAGE),
        (LOADING._replace(residency="memory"), "raise data.workers"),
        (
            LOADING._replace(residency="memory", workers=9),
            "9 loader processes share 8 CPUs with the training: lower data.workers",
        ),
    ],
)
def test_advice_is_by_cause(loading: Loading, said: str) -> None:
    assert advice(loading) == said
