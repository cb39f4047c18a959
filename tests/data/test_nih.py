"""NIH ChestX-ray14: every release's quirks, the lists, and the published counts."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_lightning.config.compose import compose
from cxr_lightning.data import nih, phantom
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.download import download
from cxr_lightning.errors import ConfigError, DataError

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ROWS = [
    "00000001_000.png,Cardiomegaly|Effusion,0,1,57,M,PA,2682,2749,0.143,0.143",
    "00000001_001.png,No Finding,1,1,58,M,AP,2682,2749,0.143,0.143",
    "00000002_000.png,Pleural_Thickening,0,2,414,F,PA,2500,2048,0.171,0.171",
    "00000003_000.png,No Finding,0,3,3,F,PA,2500,2048,0.171,0.171",
    "00000004_000.png,Mass,0,4,77,F,PA,2500,2048,0.171,0.171",
]
TRAIN_VAL = ["00000001_000.png", "00000001_001.png", "00000003_000.png", "00000004_000.png"]
TEST = ["00000002_000.png"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path)


def write(
    root: Path,
    *,
    header: str = HEADER,
    rows: list[str] = ROWS,
    train_val: list[str] = TRAIN_VAL,
    test: list[str] = TEST,
    name: str = "Data_Entry_2017.csv",
) -> Path:
    (root / name).write_text("\n".join([header, *rows]) + "\n")
    (root / "train_val_list.txt").write_text("\n".join(train_val) + "\n")
    (root / "test_list.txt").write_text("\n".join(test))
    return root


def read(root: Path, **options: object) -> pd.DataFrame:
    return nih.read_studies(nih.Config(name="nih", root=root, **options)).table


def problem(root: Path, **options: object) -> str:
    with pytest.raises((DataError, ConfigError)) as error:
        read(root, **options)
    return str(error.value).replace(str(root), "ROOT")


def test_reads_labels_patients_views(root: Path) -> None:
    studies = read(root)
    assert studies["patient_id"].tolist() == ["1", "1", "2", "3", "4"]
    assert studies["view"].tolist() == ["PA", "AP", "PA", "PA", "PA"]
    assert studies["sex"].tolist() == ["M", "M", "F", "F", "F"]
    assert studies["Effusion"].tolist() == [1, 0, 0, 0, 0]
    assert studies["Pleural_Thickening"].tolist() == [0, 0, 1, 0, 0]
    assert studies["split"].tolist() == ["train_val", "train_val", "test", "train_val", "train_val"]
    assert studies["Effusion"].dtype == np.float32


def test_ages_over_a_hundred_are_unknown(root: Path) -> None:
    np.testing.assert_array_equal(read(root)["age_years"], [57, 58, np.nan, 3, 77])


def test_the_kaggle_sample(tmp_path: Path) -> None:
    rows = [
        "00000013_005.png,Emphysema|Infiltration,005,00013,060Y,M,AP,3056,2544,0.139,0.139",
        "00000013_026.png,No Finding,026,00013,006M,F,AP,3056,2544,0.139,0.139",
        "00000017_001.png,Mass,001,00017,030D,F,AP,3056,2544,0.139,0.139",
    ]
    header = HEADER.replace("[Width,Height]", "Width,OriginalImageHeight").replace(
        "[x,y]", "_x,OriginalImagePixelSpacing_y"
    )
    write(tmp_path, header=header, rows=rows, name="sample_labels.csv")
    studies = read(tmp_path, split="patient")
    np.testing.assert_allclose(studies["age_years"], [60, 0.5, 30 / 365.25])
    assert studies["split"].tolist() == ["", "", ""]


def test_a_trailing_unnamed_column(tmp_path: Path) -> None:
    write(tmp_path, header=HEADER + ",", rows=[row + "," for row in ROWS])
    pd.testing.assert_frame_equal(
        read(tmp_path).drop(columns="image_path"),
        read(write(tmp_path)).drop(columns="image_path"),
    )


def test_gzipped_tables(root: Path) -> None:
    expected = read(root)
    for name in ("Data_Entry_2017.csv", "train_val_list.txt", "test_list.txt"):
        (root / f"{name}.gz").write_bytes(gzip.compress((root / name).read_bytes()))
        (root / name).unlink()
    pd.testing.assert_frame_equal(read(root), expected)


@pytest.mark.parametrize("folder", ["", "images", "images_003/images", "images_012"])
def test_images_flat_or_nested(root: Path, folder: str) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    file = root / folder / "00000003_000.png"
    file.touch()
    assert read(root)["image_path"].tolist()[3] == str(file)


def test_chosen_labels_in_their_order(root: Path) -> None:
    config = nih.Config(name="nih", root=root, labels=("No Finding", "Mass"))
    reading = nih.read_studies(config)
    studies, labels = reading.table, reading.labels
    assert labels.names == ("No Finding", "Mass")
    assert studies["No Finding"].tolist() == [0, 1, 0, 1, 0]
    assert "Effusion" not in studies


class TestMessages:
    def test_no_root(self) -> None:
        with pytest.raises(ConfigError, match=r"data\.root: required"):
            nih.read_studies(nih.Config(name="nih"))

    def test_root_is_not_there(self, tmp_path: Path) -> None:
        assert "there is no such folder" in problem(tmp_path / "nowhere")

    def test_no_table(self, tmp_path: Path) -> None:
        assert problem(tmp_path) == (
            "ROOT: no table of findings; looked for Data_Entry_2017_v2020.csv, "
            "Data_Entry_2017.csv, sample_labels.csv (also .gz)"
        )

    def test_missing_columns(self, tmp_path: Path) -> None:
        write(tmp_path, header=HEADER.replace("Patient ID", "PID"))
        assert "missing column(s) Patient ID; it has: Image Index," in problem(tmp_path)

    def test_duplicate_images_with_their_lines(self, tmp_path: Path) -> None:
        write(tmp_path, rows=[*ROWS, ROWS[0]])
        assert problem(tmp_path) == (
            "ROOT/Data_Entry_2017.csv: images listed more than once:\n"
            "  - line 2: 00000001_000.png\n"
            "  - line 7: 00000001_000.png"
        )

    def test_unknown_findings_with_their_lines(self, tmp_path: Path) -> None:
        write(tmp_path, rows=[*ROWS, "00000005_000.png,Masss|0.5,0,5,50,F,PA,1,1,1,1"])
        text = problem(tmp_path)
        assert "unknown finding(s) '0.5', 'Masss':\n  - line 7: 'Masss|0.5'\nKnown: " in text

    def test_unknown_label(self, root: Path) -> None:
        assert "'Masss'. Did you mean 'Mass'?" in problem(root, labels=("Masss",))

    def test_lists_that_contradict_everything(self, tmp_path: Path) -> None:
        write(
            tmp_path,
            train_val=["00000001_000.png", "00000002_000.png", "00000003_000.png", "x.png"],
            test=["00000002_000.png", "00000001_001.png"],
        )
        assert problem(tmp_path) == (
            "ROOT: the official lists do not fit the table\n"
            "1 image(s) on both lists:\n  - 00000002_000.png\n"
            "train_val_list.txt names 1 image(s) that the table lacks:\n  - x.png\n"
            "1 image(s) of the table are on neither list:\n  - 00000004_000.png\n"
            "Correct the lists, or use data.split=patient, which does not need them."
        )

    def test_missing_list(self, root: Path) -> None:
        (root / "test_list.txt").unlink()
        assert "test_list.txt: missing; data.split=official needs" in problem(root)
        read(root, split="patient")


def test_boxes(tmp_path: Path) -> None:
    (tmp_path / "BBox_List_2017.csv").write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
        "00000001_000.png,Infiltrate,10.5,20,30,40,,,\n"
        "00000001_000.png,Mass,1,2,3,4\n"
    )
    boxes = nih.read_boxes(tmp_path)
    assert boxes.to_dict("records") == [
        {"sample_id": "00000001_000.png", "label": "Infiltration", "x": 10.5, "y": 20, "width": 30,
         "height": 40},
        {"sample_id": "00000001_000.png", "label": "Mass", "x": 1.0, "y": 2, "width": 3,
         "height": 4},
    ]  # fmt: skip


class TestRealTables:
    """The whole table of 112,120 rows, and the 999 images."""

    def test_published_counts(self, shared_data: Path) -> None:
        studies = read(shared_data / "nih_full_metadata")
        assert len(studies) == 112_120
        assert studies["patient_id"].nunique() == 30_805
        assert studies["split"].value_counts().to_dict() == {"train_val": 86_524, "test": 25_596}
        # Table 1 of the data set's own description (2020 release).
        published = {"Atelectasis": 11559, "Cardiomegaly": 2776, "Effusion": 13317, "Hernia": 227}
        assert {name: studies[name].sum() for name in published} == published

    def test_official_cohort(self, shared_data: Path) -> None:
        cohort = build_cohort(nih.Config(name="nih", root=shared_data / "nih_full_metadata"))
        assert len(cohort.rows("test")) == 25_596
        assert len(cohort.rows("train")) + len(cohort.rows("val")) == 86_524
        val = cohort.table.iloc[cohort.rows("val")]
        assert val["patient_id"].nunique() == pytest.approx(2800, abs=2)

    def test_boxes(self, shared_data: Path) -> None:
        boxes = nih.read_boxes(shared_data / "nih_full_metadata")
        assert len(boxes) == 984
        assert set(boxes["label"]) < set(nih.LABELS.names)


@pytest.mark.parametrize(
    "line", [b"00000002_000.png,b,c\n", b'"00000002_000.png\n', b"\xff\xfe.png\n"]
)
def test_a_damaged_list_is_told_and_not_traced(tmp_path: Path, line: bytes) -> None:
    root = write(tmp_path)
    with (root / "test_list.txt").open("ab") as file:
        file.write(b"\n" + line)
    text = problem(root)
    assert "test_list.txt" in text


def test_a_table_cut_short(tmp_path: Path) -> None:
    root = write(tmp_path)
    table = root / "Data_Entry_2017.csv"
    whole = gzip.compress(table.read_bytes() * 50)
    table.unlink()
    (root / "Data_Entry_2017.csv.gz").write_bytes(whole[: len(whole) // 2])
    assert "not a readable table" in problem(root)


def test_columns_that_are_equal_but_for_spaces(tmp_path: Path) -> None:
    root = write(tmp_path, header=HEADER.replace("View Position", " Patient ID"))
    assert "column(s) 'Patient ID' more than once" in problem(root)


def test_the_phantom_in_this_layout() -> None:
    """Written on first use, and the same data set as data=phantom of the same parameters."""
    size = ["data.phantom={images: 50, seed: 4, pixels: 64}"]
    config = compose(["data=nih", "data.root=phantom", *size]).data
    assert config.synthetic
    found = nih.read_studies(config)
    own = compose(["data=phantom", "data.images=50", "data.phantom_seed=4", "data.pixels=64"]).data
    expected = phantom.read_studies(own)
    pd.testing.assert_frame_equal(
        found.table.drop(columns="image_path"), expected.table.drop(columns="image_path")
    )
    assert set(found.table["split"]) == {"train_val", "test"}
    folder = nih.boxes_folder(config)
    assert folder is not None
    assert len(nih.read_boxes(folder)) == len(nih.read_boxes(phantom.boxes_folder(own))) > 0
    with pytest.raises(ConfigError, match="made on first use"):
        download(config, print)
