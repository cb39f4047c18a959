"""Delivery by a store that fails in every way: nothing lost, nothing doubled, order kept."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_lightning.tracking.outbox import Outbox
from cxr_lightning.tracking.sender import Refused, Sender


def metrics(step: int) -> dict:
    return {"kind": "metrics", "values": [["m", 0.0]], "time": 0, "step": step}


def text(step: int) -> dict:
    return {"kind": "text", "text": "", "file": "f", "step": step}


def make(folder: Path, deliver: Callable[[list[dict]], None]) -> Sender:
    return Sender(
        deliver,
        Outbox(folder),
        run_id="r",
        shown="http://x",
        gather=0.0,
        first_wait=0.002,
        longest_wait=0.01,
    )


@settings(max_examples=30)
@given(
    st.lists(st.booleans(), min_size=1, max_size=25),
    st.lists(st.booleans(), max_size=25),
)
def test_failures_lose_double_and_reorder_nothing(files: list[bool], failures: list[bool]) -> None:
    answers = iter(failures)
    got: list[dict] = []

    def deliver(batch: list[dict]) -> None:
        if next(answers, False):
            raise ConnectionError("gone")
        got.extend(batch)

    records = [text(i) if is_file else metrics(i) for i, is_file in enumerate(files)]
    with tempfile.TemporaryDirectory() as folder:
        sender = make(Path(folder), deliver)
        for record in records:
            sender.put(record)
        sender.flush(5)
        for _ in range(len(failures)):  # a failure may also meet the last attempt
            if not Outbox(Path(folder)).path.exists():
                break
            time.sleep(0.011)
        left = sender.close(5)
        kept = [record["step"] for record in Outbox(Path(folder)).read()]
    for kind in ("metrics", "text"):
        arrived = [record["step"] for record in got if record["kind"] == kind]
        expected = [record["step"] for record in records if record["kind"] == kind]
        assert arrived == expected[: len(arrived)]
    assert sorted(kept + [record["step"] for record in got]) == list(range(len(records)))
    assert left == len(kept)


def test_a_failing_file_store_does_not_hold_up_the_curves(tmp_path: Path) -> None:
    got = []

    def deliver(batch: list[dict]) -> None:
        if batch[0]["kind"] == "text":
            raise OSError("bucket is gone")
        got.extend(batch)

    sender = make(tmp_path, deliver)
    for record in (text(0), metrics(1), text(2), metrics(3)):
        sender.put(record)
    assert sender.close(5) == 2
    assert [record["step"] for record in got] == [1, 3]
    assert [record["step"] for record in Outbox(tmp_path).read()] == [0, 2]


def test_one_refused_record_stays_the_others_arrive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    got = []

    def deliver(batch: list[dict]) -> None:
        if any(record["step"] == 2 for record in batch):
            raise Refused("no such thing")
        got.extend(batch)

    sender = make(tmp_path, deliver)
    for step in range(5):
        sender.put(metrics(step))
    assert sender.close(5) == 1
    assert sorted(record["step"] for record in got) == [0, 1, 3, 4]
    assert [r["refused"] for r in Outbox(tmp_path).read()] == ["no such thing"]
    assert [r.getMessage() for r in caplog.records] == ["MLflow refused metrics: no such thing"]


def test_a_call_that_hangs_ends_in_the_outbox_within_patience(tmp_path: Path) -> None:
    release = threading.Event()
    sender = make(tmp_path, lambda batch: release.wait(20) and None)
    sender.put(metrics(0))
    time.sleep(0.05)
    sender.put(metrics(1))
    start = time.monotonic()
    assert sender.close(0.3) == 2
    assert time.monotonic() - start < 2
    assert [record["step"] for record in Outbox(tmp_path).read()] == [0, 1]
    release.set()


def test_one_warning_for_an_outage_and_one_for_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    down = True

    def deliver(batch: list[dict]) -> None:
        if down:
            raise ConnectionError("connection refused.")

    sender = make(tmp_path, deliver)
    for step in range(20):
        sender.put(metrics(step))
        sender.put(text(step))
        sender.flush(5)
    down = False
    assert sender.close(5) == 0
    assert [r.getMessage() for r in caplog.records] == [
        (
            "MLflow (http://x) takes no metrics: connection refused. Training goes on; what cannot "
            f"be sent is kept in {tmp_path}/mlflow_unsent.jsonl and sent when MLflow is back."
        ),
        "MLflow (http://x) is back; what was kept has been sent.",
    ]


def test_what_a_killed_process_left_goes_first(tmp_path: Path) -> None:
    Outbox(tmp_path).append([metrics(0)], run_id="r", tracking_uri="http://x")
    got: list[dict] = []
    sender = make(tmp_path, got.extend)
    sender.put(metrics(1))
    assert sender.close(5) == 0
    assert [record["step"] for record in got] == [0, 1]
