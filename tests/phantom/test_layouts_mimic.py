"""MIMIC's layout: folders from numbers, four tables that fit, dates in order, two labelers."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from cxr_lightning.data.report_labels import LABELS
from cxr_lightning.phantom import make_cohort
from cxr_lightning.phantom.layouts import mimic
from cxr_lightning.phantom.layouts.mimic import write_mimic_phantom

IMAGES, SEED, SIZE = 110, 5, 32
PREFIX = "mimic-cxr-2.0.0-"


def write(root: Path, **changes: int) -> Path:
    wanted = {"images": IMAGES, "seed": SEED, "size": SIZE, "processes": 1, **changes}
    write_mimic_phantom(root, progress=False, **wanted)  # type: ignore[arg-type]
    return root


def table(root: Path, kind: str) -> pd.DataFrame:
    return pd.read_csv(root / f"{PREFIX}{kind}.csv.gz", dtype={"StudyDate": str})


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("phantom") / "data")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough radiographs for what happens now and then."""
    return write(tmp_path_factory.mktemp("phantom") / "many", images=300, size=32)


def test_layout(phantom: Path) -> None:
    assert {path.name for path in phantom.iterdir()} == {
        "files", "README.txt", "phantom.json", "patients.csv.gz",
        *(f"{PREFIX}{kind}.csv.gz" for kind in ("chexpert", "negbio", "split", "metadata")),
    }  # fmt: skip
    assert json.loads((phantom / "phantom.json").read_text())["layout"] == "mimic_cxr"
    metadata = table(phantom, "metadata")
    paths = {
        f"files/p{str(row.subject_id)[:2]}/p{row.subject_id}/s{row.study_id}/{row.dicom_id}.jpg"
        for row in metadata.itertuples()
    }
    assert len(paths) == IMAGES
    assert paths == {str(path.relative_to(phantom)) for path in phantom.rglob("*.jpg")}
    assert metadata["dicom_id"].str.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}").all()
    assert metadata["subject_id"].between(10_000_000, 19_999_999).all()
    assert metadata["study_id"].between(50_000_000, 59_999_999).all()


def test_numbers_are_each_patients_and_studys_own() -> None:
    cases = make_cohort(6_000, 0)
    subjects = {mimic._subject(case) for case in cases}
    assert len(subjects) == len({case.patient for case in cases})
    assert len({mimic._study(case) for case in cases}) == len(cases)


def test_tables_fit(phantom: Path) -> None:
    metadata, split = table(phantom, "metadata"), table(phantom, "split")
    assert split["dicom_id"].tolist() == metadata["dicom_id"].tolist()
    assert set(split["split"]) == {"train", "validate", "test"}
    assert (split.groupby("subject_id")["split"].nunique() == 1).all()
    for labeler in ("chexpert", "negbio"):
        labels = table(phantom, labeler)
        assert list(labels) == ["subject_id", "study_id", *LABELS.names]
        assert set(labels["study_id"]) == set(metadata["study_id"])
        assert labels["study_id"].is_unique
    people = pd.read_csv(phantom / "patients.csv.gz")
    assert set(people["subject_id"]) == set(metadata["subject_id"])


def test_views_and_missing_views(many: Path) -> None:
    views = table(many, "metadata")["ViewPosition"]
    assert set(views.dropna()) == {"PA", "AP", "LATERAL"}
    assert 0.01 < views.isna().mean() < 0.08


def test_dates_follow_the_visits(phantom: Path) -> None:
    metadata = table(phantom, "metadata")
    cases = make_cohort(IMAGES, SEED)
    assert metadata["study_id"].nunique() <= len(cases)
    # Studies are written in the order of their visits.
    for _, rows in metadata.groupby("subject_id", sort=False):
        days = rows.drop_duplicates("study_id")["StudyDate"].tolist()
        assert days == sorted(set(days))


def test_labelers_differ_now_and_then(many: Path) -> None:
    ours, theirs = table(many, "chexpert"), table(many, "negbio")
    different = (ours.fillna(9) != theirs.fillna(9)).any(axis=1).mean()
    assert 0.005 < different < 0.15


def test_processes_do_not_change_a_byte(phantom: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "two", processes=2)
    for path in phantom.rglob("*"):
        if path.is_file():
            assert (other / path.relative_to(phantom)).read_bytes() == path.read_bytes()
