"""MIMIC-CXR-JPG: four tables joined, views and projections, the order of visits, messages."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from cxr_lightning.data import mimic_cxr
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.previous import with_previous_labels
from cxr_lightning.data.reading import Reading
from cxr_lightning.data.report_labels import COMPETITION, LABELS
from cxr_lightning.errors import ConfigError, DataError

NAN = np.nan
EDEMA = LABELS.names.index("Edema")
METADATA = [
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,StudyDate,StudyTime",
    "aa-1,10000032,50414267,CHEST (PA AND LAT),PA,3056,21800506,213014.531",
    "aa-2,10000032,50414267,CHEST (PA AND LAT),LATERAL,3056,21800506,213016.0",
    "bb-1,10000032,53189527,CHEST (PA AND LAT),LL,3056,21800626,165500.312",
    "cc-1,10000764,57375967,CHEST (PORTABLE AP),AP,3056,21320315,80556.875",
    "dd-1,10000898,50771383,CHEST,,3056,21880404,0.0",
    "ee-1,10000935,56522600,CHEST,AP LLD,3056,21870822,120000.0",
    "ff-1,10000935,59999999,CHEST,PA,3056,21870823,120000.0",
]
SPLIT = [
    "dicom_id,study_id,subject_id,split",
    "aa-1,50414267,10000032,train",
    "aa-2,50414267,10000032,train",
    "bb-1,53189527,10000032,train",
    "cc-1,57375967,10000764,validate",
    "dd-1,50771383,10000898,test",
    "ee-1,56522600,10000935,test",
    "ff-1,59999999,10000935,test",
]
STUDIES = {  # 59999999 has none: its report was not labeled
    "50414267": ("10000032", "1.0"),
    "53189527": ("10000032", "0.0"),
    "57375967": ("10000764", "-1.0"),
    "50771383": ("10000898", ""),
    "56522600": ("10000935", "1.0"),
}
PATIENTS = [
    "subject_id,gender,anchor_age,anchor_year,dod",
    "10000032,F,52,2178,",
    "10000764,M,86,2132,",
]


def labels(studies: dict[str, tuple[str, str]] = STUDIES) -> list[str]:
    rows = [
        f"{patient},{study}," + ",".join("" if n != EDEMA else value for n in range(len(LABELS)))
        for study, (patient, value) in studies.items()
    ]
    return ["subject_id,study_id," + ",".join(LABELS.names), *rows]


def write(folder: Path, *, images: bool = True, **tables: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"metadata": METADATA, "split": SPLIT, "chexpert": labels()} | tables
    for kind, lines in contents.items():
        file = folder / f"mimic-cxr-2.0.0-{kind}.csv.gz"
        file.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    if images:
        (folder / "files" / "p10").mkdir(parents=True, exist_ok=True)
    return folder


def read(root: Path, **options: object) -> Reading:
    return mimic_cxr.read_studies(mimic_cxr.Config(name="mimic_cxr", root=root, **options))


def problem(root: Path, **options: object) -> str:
    with pytest.raises((DataError, ConfigError)) as error:
        read(root, **options)
    return str(error.value).replace(str(root), "ROOT")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path)


def test_tables_are_joined(root: Path) -> None:
    table = read(root).table
    assert table["sample_id"].tolist() == ["aa-1", "aa-2", "bb-1", "cc-1", "dd-1", "ee-1"]
    assert table["split"].tolist() == ["train"] * 3 + ["val", "test", "test"]
    assert table["view"].tolist() == ["PA", "LATERAL", "LATERAL", "AP", "UNKNOWN", "UNKNOWN"]
    assert table["Edema"].tolist() == [1, 1, 0, -1, 0, 1]
    assert table["patient_id"].tolist()[:4] == ["10000032"] * 3 + ["10000764"]
    assert table["image_path"].tolist()[0] == str(root / "files/p10/p10000032/s50414267/aa-1.jpg")


def test_blank_as_unknown(root: Path) -> None:
    table = read(root, blank="unknown").table
    np.testing.assert_array_equal(table["Edema"], [1, 1, 0, -1, NAN, 1])
    assert table["Fracture"].isna().all()
    assert table["No Finding"].tolist() == [0] * 6


def test_studies_without_labels_are_left_out_and_counted(root: Path) -> None:
    begun, step = read(root).flow
    assert (begun.reason, begun.images) == ("in the data set", 7)
    assert (step.reason, step.left_out, step.images) == ("the study has no labels", 1, 6)


@pytest.mark.parametrize(
    ("projection", "samples"),
    [("frontal", ["aa-1", "cc-1"]), ("lateral", ["aa-2", "bb-1"])],
)
def test_projections_are_counted(root: Path, projection: str, samples: list[str]) -> None:
    reading = read(root, projection=projection)
    assert reading.table["sample_id"].tolist() == samples
    assert reading.flow[-1].reason == f"not {projection}"
    assert [step.left_out for step in reading.flow] == [0, 1, 4]


def test_negbio_is_another_reading(root: Path) -> None:
    text = problem(root, labeler="negbio")
    assert text.startswith("data.root=ROOT: no mimic-cxr-2.0.0-negbio.csv.gz (also unpacked)")
    write(root, negbio=labels({study: (p, "0.0") for study, (p, _) in STUDIES.items()}))
    reading = read(root, labeler="negbio")
    assert reading.table["Edema"].tolist() == [0] * 6
    assert reading.notes[0].startswith("labels of the negbio labeler, of the test set too")


def test_visits_are_days_in_the_patients_own_order(root: Path) -> None:
    table = read(root).table
    first, second, third = table["visit"].tolist()[:3]
    # Both images of a study are one visit, though a detector's clock moved on between them.
    assert first == second == 0
    assert third == pytest.approx(
        51 + (16 * 3600 + 55 * 60 - 21 * 3600 - 30 * 60 - 14) / 86400, abs=1e-4
    )
    assert table["visit"].tolist()[3:] == [0, 0, 0]
    before = with_previous_labels(table, LABELS)
    np.testing.assert_array_equal(before["previous/Edema"], [NAN, NAN, 1, NAN, NAN, NAN])


def test_sex_and_age_come_from_mimic_iv(root: Path) -> None:
    assert read(root).table["sex"].unique().tolist() == ["UNKNOWN"]
    file = root / "patients.csv.gz"
    file.write_bytes(gzip.compress(("\n".join(PATIENTS) + "\n").encode()))
    table = read(root).table
    assert table["sex"].tolist() == ["F", "F", "F", "M", "UNKNOWN", "UNKNOWN"]
    np.testing.assert_array_equal(table["age_years"], [54, 54, 54, 86, NAN, NAN])
    elsewhere = root / "hosp.csv"
    elsewhere.write_text("\n".join(PATIENTS).replace("52,2178", "20,2178") + "\n")
    assert read(root, patients=elsewhere).table["age_years"].tolist()[0] == 22
    assert "there is no such file" in problem(root, patients=root / "nowhere.csv")


def test_a_radiologists_labels_of_the_test_set(root: Path) -> None:
    text = problem(root, test_labels="radiologist")
    assert "no mimic-cxr-2.1.0-test-set-labeled.csv (packed or unpacked)" in text
    # This table has no patients, and calls one label by its former name.
    lines = [line.split(",", 1)[1].replace("Lung Opacity", "Airspace Opacity") for line in labels()]
    edema = {"50771383": "1.0", "57375967": "1.0", "59999999": "0.0"}
    lines[1:] = [
        f"{study}," + ",".join(value if n == EDEMA else "" for n in range(len(LABELS)))
        for study, value in edema.items()
    ]
    file = root / "mimic-cxr-2.1.0-test-set-labeled.csv"
    file.write_text("\n".join(lines) + "\n")
    reading = read(root, test_labels="radiologist")
    table = reading.table.set_index("sample_id")
    # cc-1 is in the validation set: it keeps the labeler's. ee-1 was not labeled by hand, and ff-1
    # by hand alone.
    assert table["Edema"].to_dict() == {
        "aa-1": 1, "aa-2": 1, "bb-1": 0, "cc-1": -1, "dd-1": 1, "ff-1": 0
    }  # fmt: skip
    assert [(step.reason, step.left_out) for step in reading.flow] == [
        ("in the data set", 0),
        ("no radiologist labeled it", 1),
    ]
    assert reading.flow[-1].images == 6
    assert reading.notes[0] == "labels of the test set: a radiologist's"
    assert read(root).table["Edema"].tolist() == [1, 1, 0, -1, 0, 1]
    assert "need data.split=official" in problem(root, test_labels="radiologist", split="patient")


def test_a_table_cut_short(root: Path) -> None:
    file = root / "mimic-cxr-2.0.0-chexpert.csv.gz"
    file.write_bytes(file.read_bytes()[:60])
    assert "chexpert.csv.gz: not a readable table" in problem(root)


def test_a_new_split_needs_no_list(root: Path) -> None:
    (root / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    assert "no mimic-cxr-2.0.0-split.csv.gz" in problem(root)
    assert read(root, split="patient").table["split"].unique().tolist() == [""]


def test_official_cohort(root: Path) -> None:
    config = mimic_cxr.Config(name="mimic_cxr", root=root, labels="competition")
    cohort = build_cohort(config)
    assert cohort.labels.names == COMPETITION
    assert [len(cohort.rows(split)) for split in ("train", "val", "test")] == [3, 1, 2]


class TestFiles:
    @pytest.mark.parametrize("place", ["physionet.org/files/mimic-cxr-jpg/2.1.0", "mimic", ""])
    def test_below_the_root(self, tmp_path: Path, place: str) -> None:
        folder = write(tmp_path / place)
        assert read(tmp_path).table["image_path"].tolist()[0].startswith(f"{folder}/files/p10/")

    def test_unpacked_tables(self, root: Path) -> None:
        for file in root.glob("*.csv.gz"):
            file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
            file.unlink()
        assert len(read(root).table) == 6

    def test_images_beside_the_tables(self, tmp_path: Path) -> None:
        root = write(tmp_path, images=False)
        (root / "p10").mkdir()
        assert read(root).table["image_path"].tolist()[0].startswith(f"{root}/p10/p10000032/")

    def test_no_images(self, tmp_path: Path) -> None:
        assert problem(write(tmp_path, images=False)) == (
            "ROOT: no images; looked for the folders p10, p11 and so on in\n"
            "  - ROOT/files\n"
            "  - ROOT"
        )

    def test_no_root(self) -> None:
        with pytest.raises(ConfigError, match=r"data\.root: required"):
            mimic_cxr.read_studies(mimic_cxr.Config(name="mimic_cxr"))

    def test_root_is_not_there(self, tmp_path: Path) -> None:
        assert "there is no such folder" in problem(tmp_path / "nowhere")

    def test_no_tables_says_where_it_looked(self, tmp_path: Path) -> None:
        (tmp_path / "files" / "p10").mkdir(parents=True)
        assert problem(tmp_path) == (
            "data.root=ROOT: no mimic-cxr-2.0.0-chexpert.csv.gz (also unpacked); looked in\n"
            "  - ROOT\n"
            "  - ROOT/files\n"
            "data.root is the folder of MIMIC-CXR-JPG's tables and files/, or one above it."
        )


class TestMessages:
    def test_images_without_a_split(self, tmp_path: Path) -> None:
        text = problem(write(tmp_path, split=SPLIT[:-2]))
        assert text == (
            "ROOT/mimic-cxr-2.0.0-split.csv.gz: names no split for 2 image(s) of the metadata:\n"
            "  - ee-1\n"
            "  - ff-1\n"
            "Take both tables of one release, or use data.split=patient."
        )

    def test_an_unknown_split(self, tmp_path: Path) -> None:
        text = problem(write(tmp_path, split=[*SPLIT[:-1], "ff-1,59999999,10000935,dev"]))
        assert "split must be train, validate, test; found\n  - 'dev' (line 8)" in text

    def test_values_that_are_not_labels(self, tmp_path: Path) -> None:
        wrong = {**STUDIES, "53189527": ("10000032", "0.5")}
        text = problem(write(tmp_path, chexpert=labels(wrong)))
        assert "labels must be 1, 0, -1 (uncertain) or blank" in text
        assert "Edema:\n  - '0.5' (line 3)" in text

    def test_dates_and_times(self, tmp_path: Path) -> None:
        lines = [line.replace("21320315,80556.875", "2132-3,8 am") for line in METADATA]
        text = problem(write(tmp_path, metadata=lines))
        assert "StudyDate: not like 21800506:\n  - '2132-3' (line 5)" in text
        assert "StudyTime: not like 213014.531:\n  - '8 am' (line 5)" in text

    def test_duplicates(self, tmp_path: Path) -> None:
        text = problem(write(tmp_path, chexpert=[*labels(), labels()[1]]))
        assert "studies listed more than once" in text

    def test_patients_that_are_not_understood(self, root: Path) -> None:
        file = root / "patients.csv"
        file.write_text("\n".join(PATIENTS).replace("F,52", "girl,old") + "\n")
        text = problem(root, patients=file)
        assert "gender:\n  - 'girl' (line 2)" in text
        assert "anchor_age:\n  - 'old' (line 2)" in text
