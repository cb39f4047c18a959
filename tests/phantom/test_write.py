"""Files on disk: NIH's layout, the same bytes from any number of processes, all or nothing."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.phantom import FINDINGS, make_cohort, render, render_with_truth, write_phantom
from cxr_lightning.phantom.cases import BOXED

IMAGES, SEED, SIZE = 110, 5, 40
REPOSITORY = Path(__file__).parents[2]


def write(root: Path, **changes: int) -> Path:
    wanted = {"images": IMAGES, "seed": SEED, "size": SIZE, "processes": 1, **changes}
    write_phantom(root, progress=False, **wanted)  # type: ignore[arg-type]
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("phantom") / "data")


def test_layout(phantom: Path) -> None:
    assert {path.name for path in phantom.iterdir()} == {
        "images",
        "Data_Entry_2017.csv",
        "BBox_List_2017.csv",
        "train_val_list.txt",
        "test_list.txt",
        "README.txt",
        "phantom.json",
    }
    assert [path.name for path in phantom.parent.iterdir()] == ["data"]
    assert json.loads((phantom / "phantom.json").read_text()) == {
        "images": IMAGES,
        "seed": SEED,
        "size": SIZE,
        "version": 1,
    }
    readme = (phantom / "README.txt").read_text()
    assert "SYNTHETIC" in readme
    assert "never be used on people" in readme


def test_images_are_eight_bit_grey_and_equal_the_renderer(phantom: Path) -> None:
    cases = make_cohort(IMAGES, SEED)
    assert {p.name for p in (phantom / "images").iterdir()} == {c.image_index for c in cases}
    for case in cases[::10]:
        pixels = cv2.imread(str(phantom / "images" / case.image_index), cv2.IMREAD_UNCHANGED)
        assert pixels is not None
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, render(case, size=SIZE))


def test_data_entry_has_the_columns_of_nih(phantom: Path) -> None:
    lines = (phantom / "Data_Entry_2017.csv").read_text().splitlines()
    assert lines[0] == (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    rows = list(csv.reader(lines[1:]))
    cases = make_cohort(IMAGES, SEED)
    assert len(rows) == len(cases)
    for row, case in zip(rows, cases, strict=True):
        assert len(row) == 11
        assert row[0] == case.image_index == f"{int(row[3]):08d}_{int(row[2]):03d}.png"
        labels = set(row[1].split("|"))
        assert labels == {"No Finding"} or labels <= set(FINDINGS)
        assert labels == (set(case.labels) or {"No Finding"})
        assert 0 < int(row[4]) < 110
        assert row[5] in ("M", "F")
        assert row[6] in ("PA", "AP")
        fov = render_with_truth(case, size=32).fov_mm
        assert int(row[7]) * float(row[9]) == pytest.approx(fov, abs=1)
        assert row[7:9] == [row[7]] * 2
        assert row[9:11] == [row[9]] * 2


def test_lists_cover_all_images_and_share_no_patient(phantom: Path) -> None:
    train = (phantom / "train_val_list.txt").read_text().split()
    test = (phantom / "test_list.txt").read_text().split()
    assert sorted(train + test) == [case.image_index for case in make_cohort(IMAGES, SEED)]
    assert not {name[:8] for name in train} & {name[:8] for name in test}
    assert 0.05 < len(test) / IMAGES < 0.4


def test_boxes_are_written_as_nih_writes_them(phantom: Path) -> None:
    lines = (phantom / "BBox_List_2017.csv").read_text().splitlines()
    assert lines[0] == "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    rows = list(csv.reader(lines[1:]))
    cases = {case.image_index: case for case in make_cohort(IMAGES, SEED)}
    names = {row[1] for row in rows}
    assert "Infiltrate" in names
    assert names <= set(BOXED) - {"Infiltration"} | {"Infiltrate"}
    expected = []
    for case in cases.values():
        for box in render_with_truth(case, size=SIZE).boxes:
            name = {"Infiltration": "Infiltrate"}.get(box.finding.name, box.finding.name)
            corners = [box.x, box.y, box.width, box.height]
            expected.append((case.image_index, name, [n * 1024 / SIZE for n in corners]))
    assert len(rows) == len(expected)
    for row, (image, name, corners) in zip(rows, expected, strict=True):
        assert row[:2] == [image, name]
        np.testing.assert_allclose([float(n) for n in row[2:]], corners)
        x, y, width, height = corners
        assert 0 <= x < x + width <= 1024
        assert 0 <= y < y + height <= 1024


def test_processes_do_not_change_a_byte(phantom: Path, tmp_path: Path) -> None:
    assert contents(write(tmp_path / "three", processes=3)) == contents(phantom)


def test_a_larger_phantom_begins_with_the_smaller_one(phantom: Path, tmp_path: Path) -> None:
    larger = write(tmp_path / "larger", images=IMAGES + 15)
    for name, pixels in contents(phantom / "images").items():
        assert (larger / "images" / name).read_bytes() == pixels
    for table in ("Data_Entry_2017.csv", "BBox_List_2017.csv"):
        assert (larger / table).read_text().startswith((phantom / table).read_text())


def test_a_complete_phantom_is_used_again(tmp_path: Path) -> None:
    root = write(tmp_path / "data", images=6)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    write(root, images=6)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_an_empty_folder_and_missing_parents_are_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert len(contents(write(tmp_path / "empty", images=3))) == 9
    assert len(contents(write(tmp_path / "a" / "b" / "c", images=3))) == 9


def test_other_parameters_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "data", images=4)
    before = contents(root)
    for change in ({"images": 5}, {"images": 4, "seed": 6}, {"images": 4, "size": 48}):
        with pytest.raises(DataError, match="holds another phantom") as caught:
            write(root, **change)
        assert "found:  images=4, seed=5, size=40, version=1" in str(caught.value)
    assert contents(root) == before


def test_foreign_files_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis\.tex"):
        write(tmp_path, images=3)
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}
    file = tmp_path / "thesis.tex"
    with pytest.raises(DataError, match="is a file"):
        write(file, images=3)


def test_unreadable_parameters_and_lost_files_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "data", images=4)
    (root / "images" / "00000001_000.png").unlink()
    (root / "test_list.txt").unlink()
    with pytest.raises(DataError, match="has since lost files") as caught:
        write(root, images=4)
    assert "test_list.txt" in str(caught.value)
    assert "3 of 4" in str(caught.value)
    (root / "phantom.json").write_text("{")
    with pytest.raises(DataError, match="does not describe a phantom"):
        write(root, images=4)


def test_all_wrong_parameters_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write(tmp_path / "data", images=0, seed=-1, size=8, processes=0)
    for part in ("images is 0", "seed is -1", "size is 8", "processes is 0"):
        assert part in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not be written"):
        write(tmp_path / "file" / "data", images=2)


def start(root: Path, images: int, processes: int = 1) -> subprocess.Popen[bytes]:
    program = (
        "from pathlib import Path; from cxr_lightning.phantom import write_phantom;"
        f"write_phantom(Path({str(root)!r}), images={images}, seed={SEED}, size={SIZE},"
        f" processes={processes}, progress=False)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([sys.executable, "-c", program], env=environment)


def drawn_so_far(parent: Path) -> int:
    return sum(1 for _ in parent.glob(".data.partial/images/*.png"))


def wait_for(condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_half_way_leaves_nothing_that_looks_complete(tmp_path: Path, processes: int) -> None:
    child = start(tmp_path / "data", 20_000, processes)
    try:
        wait_for(lambda: drawn_so_far(tmp_path) >= 8)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not (tmp_path / "data").exists()

    # The drawing processes notice that nobody reads their answers, and end.
    def still_drawing() -> bool:
        before = drawn_so_far(tmp_path)
        time.sleep(0.3)
        return drawn_so_far(tmp_path) > before

    wait_for(lambda: not still_drawing())
    write(tmp_path / "data", images=5)
    assert len(contents(tmp_path / "data")) == 11
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_two_at_once_make_one(phantom: Path, tmp_path: Path) -> None:
    children = [start(tmp_path / "data", IMAGES) for _ in range(3)]
    assert [child.wait(timeout=120) for child in children] == [0, 0, 0]
    assert contents(tmp_path / "data") == contents(phantom)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_progress_is_counted_only_on_request(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "quiet", images=2)
    assert capfd.readouterr() == ("", "")
    write_phantom(tmp_path / "told", images=2, seed=1, size=SIZE, processes=1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Drawing 2 synthetic radiographs" in err
