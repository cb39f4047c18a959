"""CheXpert's layout: tables as published, laterals, four label values, the same bytes again."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr_lightning.data.report_labels import LABELS
from cxr_lightning.errors import DataError
from cxr_lightning.phantom import make_cohort, render, write_phantom
from cxr_lightning.phantom.cases import Case, Finding
from cxr_lightning.phantom.draw import encode
from cxr_lightning.phantom.lateral import render_lateral
from cxr_lightning.phantom.layouts.chexpert import ARCHIVE, write_chexpert_phantom
from cxr_lightning.phantom.layouts.report_labels import LABELS as WRITTEN
from cxr_lightning.phantom.layouts.report_labels import inpatients, read_by_radiologist, report

IMAGES, SEED, SIZE = 110, 5, 40


def write(root: Path, **changes: int) -> Path:
    wanted = {"images": IMAGES, "seed": SEED, "size": SIZE, "processes": 1, **changes}
    write_chexpert_phantom(root, progress=False, **wanted)  # type: ignore[arg-type]
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("phantom") / "data")


@pytest.fixture(scope="module")
def tables(phantom: Path) -> dict[str, pd.DataFrame]:
    return {
        split: pd.read_csv(phantom / ARCHIVE / f"{split}.csv")
        for split in ("train", "valid", "test")
    }


def test_layout(phantom: Path, tables: dict[str, pd.DataFrame]) -> None:
    assert {path.name for path in phantom.iterdir()} == {"README.txt", "phantom.json", ARCHIVE}
    assert json.loads((phantom / "phantom.json").read_text()) == {
        "layout": "chexpert", "images": IMAGES, "seed": SEED, "size": SIZE, "version": 1
    }  # fmt: skip
    assert "SYNTHETIC" in (phantom / "README.txt").read_text()
    listed = pd.concat(tables.values())["Path"]
    on_disk = {str(path.relative_to(phantom)) for path in phantom.rglob("*.jpg")}
    assert len(listed) == IMAGES
    assert set(listed) == on_disk
    assert listed.str.match(
        rf"{ARCHIVE}/(train|valid|test)/patient\d{{5}}/study\d+/view(1_frontal|2_lateral)\.jpg$"
    ).all()


def test_the_labels_are_those_that_the_reader_knows() -> None:
    assert LABELS.names == WRITTEN


def test_columns(phantom: Path) -> None:
    def header(split: str) -> list[str]:
        with (phantom / ARCHIVE / f"{split}.csv").open() as file:
            return next(csv.reader(file))

    person = ["Sex", "Age", "Frontal/Lateral", "AP/PA"]
    assert header("train") == header("valid") == ["Path", *person, *LABELS.names]
    assert header("test") == ["Path", *LABELS.names]


def test_pixels_are_the_renderers(phantom: Path) -> None:
    cases = {(case.patient, case.visit): case for case in inpatients(make_cohort(IMAGES, SEED))}
    paths = sorted((phantom / ARCHIVE / "train").rglob("*.jpg"))
    for path in paths[:12]:
        patient, study = int(path.parts[-3][7:]), int(path.parts[-2][5:])
        case = cases[patient, study - 1]
        pixels = (
            render_lateral(case, size=SIZE).pixels
            if "lateral" in path.name
            else render(case, size=SIZE)
        )
        assert path.read_bytes() == encode(pixels, ".jpg")
        read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert read is not None
        # JPEG of a picture of noise and fine lines, one pixel wide at this size.
        assert np.abs(read.astype(int) - pixels).mean() < 3


def test_splits_share_no_patient(tables: dict[str, pd.DataFrame]) -> None:
    patients = [set(table["Path"].str.split("/").str[2]) for table in tables.values()]
    assert not patients[0] & patients[1]
    assert not patients[0] & patients[2]
    assert not patients[1] & patients[2]
    assert all(patients)


def test_reports_have_four_values_and_radiologists_two(tables: dict[str, pd.DataFrame]) -> None:
    train = tables["train"][list(LABELS.names)]
    assert set(np.unique(train.fillna(9))) == {1, 0, -1, 9}
    assert set(train["No Finding"].fillna(9)) == {1, 9}
    for split in ("valid", "test"):
        assert set(np.unique(tables[split][list(LABELS.names)])) == {0, 1}


def test_laterals_are_of_patients_who_stand_and_have_the_studys_labels(
    tables: dict[str, pd.DataFrame],
) -> None:
    train = tables["train"].assign(study=tables["train"]["Path"].str.rsplit("/", n=1).str[0])
    lateral = train[train["Frontal/Lateral"] == "Lateral"]
    assert 0.15 < len(lateral) / len(train) < 0.5
    assert lateral["AP/PA"].isna().all()
    frontal = train[train["Frontal/Lateral"] == "Frontal"].set_index("study")
    assert (frontal.loc[lateral["study"], "AP/PA"] == "PA").all()
    assert set(frontal["AP/PA"]) == {"AP", "PA"}
    names = list(LABELS.names)
    np.testing.assert_array_equal(
        lateral[names].to_numpy(float), frontal.loc[lateral["study"], names].to_numpy(float)
    )


def test_reports_say_nearly_what_is_there() -> None:
    cases = make_cohort(1000, 1)
    said = pd.DataFrame([report(case, devices=False) for case in cases])
    there = pd.DataFrame([read_by_radiologist(case, devices=False) for case in cases])
    for name in ("Cardiomegaly", "Pleural Effusion", "Pneumothorax"):
        affirmed = said[name] == 1
        assert (there.loc[affirmed, name] == 1).all()
        assert affirmed.sum() > 0.7 * there[name].sum()
        assert (said.loc[there[name] == 0, name] != 1).all()
    doubted = {name: ((said[name] == -1) & (there[name] == 1)).sum() for name in said}
    assert doubted["Atelectasis"] > 5
    assert (said["No Finding"] == 1).sum() < (there["No Finding"] == 1).sum()


def test_a_hospitals_cases() -> None:
    everyone = make_cohort(2000, 3)
    cases = inpatients(everyone)
    assert 0.1 < np.mean([not case.findings for case in cases]) < 0.35
    assert 0.03 < np.mean([bool(case.of("Fracture")) for case in cases]) < 0.13
    assert {(case.patient, case.visit) for case in cases} < {
        (case.patient, case.visit) for case in everyone
    }


def test_broken_ribs_show() -> None:
    whole = next(case for case in make_cohort(50, 2) if not case.findings)
    broken = replace(whole, findings=(Finding("Fracture", "L", 0.8),))
    difference = np.abs(render(broken, size=128).astype(int) - render(whole, size=128))
    assert np.percentile(difference, 99.5) > 12
    left = difference[:, 64:].sum() / difference.sum()  # the patient's left is on the right
    assert left > 0.75


def test_processes_do_not_change_a_byte(phantom: Path, tmp_path: Path) -> None:
    assert contents(write(tmp_path / "two", processes=2)) == contents(phantom)


def test_a_larger_phantom_begins_with_the_smaller_one(phantom: Path, tmp_path: Path) -> None:
    larger = contents(write(tmp_path / "larger", images=IMAGES + 20))
    for name, data in contents(phantom).items():
        if name.endswith(".jpg"):
            assert larger[name] == data
        elif name.endswith(".csv"):
            assert larger[name].startswith(data)


def test_it_is_used_again_and_never_taken_for_another_layout(tmp_path: Path) -> None:
    root = write(tmp_path / "data", images=40)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    write(root, images=40)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with pytest.raises(DataError, match="holds another phantom"):
        write_phantom(root, images=40, seed=SEED, size=SIZE, processes=1, progress=False)
    (root / ARCHIVE / "valid.csv").unlink()
    with pytest.raises(DataError, match=r"valid\.csv"):
        write(root, images=40)


class TestLateral:
    @pytest.fixture
    def cases(self) -> list[Case]:
        return [case for case in make_cohort(1500, 2) if case.view == "PA"]

    def test_is_a_picture_of_its_own_and_repeatable(self, cases: list[Case]) -> None:
        lateral = render_lateral(cases[0], size=64)
        assert lateral.pixels.shape == (64, 64)
        assert lateral.pixels.dtype == np.uint8
        assert lateral.boxes == ()
        np.testing.assert_array_equal(render_lateral(cases[0], size=64).pixels, lateral.pixels)
        assert np.abs(lateral.pixels.astype(int) - render(cases[0], size=64)).mean() > 20

    def test_size_does_not_change_the_anatomy(self, cases: list[Case]) -> None:
        large = render_lateral(cases[1], size=256).pixels.astype(np.float32)
        small = render_lateral(cases[1], size=128).pixels.astype(np.float32)
        shrunk = cv2.resize(large, (128, 128), interpolation=cv2.INTER_AREA)
        inner = slice(16, 112)
        assert np.corrcoef(shrunk[inner, inner].ravel(), small[inner, inner].ravel())[0, 1] > 0.97

    @pytest.mark.parametrize(
        ("finding", "brighter"),
        [("Effusion", True), ("Mass", True), ("Edema", True), ("Consolidation", True),
         ("Hernia", True), ("Fibrosis", True), ("Emphysema", False)],
    )  # fmt: skip
    def test_findings_show(self, cases: list[Case], finding: str, brighter: bool) -> None:
        shown = [case for case in cases if case.severity(finding) > 0.45][:4]
        assert shown
        changes = []
        for case in shown:
            without = replace(case, findings=())
            difference = render_lateral(case, size=96).pixels.astype(int)
            difference -= render_lateral(without, size=96).pixels
            changes.append(np.percentile(difference, 99.5 if brighter else 0.5))
        if brighter:
            assert min(changes) > 8, changes
        else:
            assert max(changes) < -8, changes
