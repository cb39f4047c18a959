"""The file of unsent records survives kills, moves and other runs in the same folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from cxr_lightning.tracking.outbox import Outbox


def metrics(step: int) -> dict:
    return {"kind": "metrics", "values": [["loss", step / 3]], "time": step, "step": step}


def append(outbox: Outbox, *records: dict, run: str = "r1") -> None:
    outbox.append(records, run_id=run, tracking_uri="http://x")


def steps(outbox: Outbox, run: str = "r1") -> list[int]:
    return [record["step"] for record in outbox.read(run)]


def test_order_is_kept_over_processes(tmp_path: Path) -> None:
    append(Outbox(tmp_path), metrics(1), metrics(2))
    append(Outbox(tmp_path), metrics(3))
    assert steps(Outbox(tmp_path)) == [1, 2, 3]


def test_a_line_cut_by_a_kill_is_skipped_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    append(outbox, metrics(1), metrics(2))
    outbox.path.write_bytes(outbox.path.read_bytes()[:-20])
    assert steps(outbox) == [1]
    append(outbox, metrics(3))
    assert steps(outbox) == [1, 3]


def test_settled_records_go_and_the_file_with_the_last(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    append(outbox, metrics(1), metrics(2), metrics(3))
    ids = [record["id"] for record in outbox.read()]
    outbox.settle({ids[0]}, {ids[1]: "no"})
    assert [record.get("refused") for record in outbox.read()] == ["no", None]
    outbox.settle(set(ids))
    assert list(tmp_path.iterdir()) == []


def test_runs_do_not_mix(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    append(outbox, metrics(1))
    append(outbox, metrics(2), run="r2")
    assert (steps(outbox), steps(outbox, "r2")) == ([1], [2])
    assert len(outbox.read()) == 2


def test_files_are_found_after_the_folder_moved(tmp_path: Path) -> None:
    old = tmp_path / "old"
    outbox = Outbox(old)
    append(outbox, {"kind": "artifact", "path": str(old / "plots" / "roc.png"), "folder": ""})
    assert json.loads(outbox.path.read_text())["path"] == "plots/roc.png"
    new = Path(shutil.move(old, tmp_path / "new"))
    assert Outbox(new).read()[0]["path"] == str(new / "plots" / "roc.png")
