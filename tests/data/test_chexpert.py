"""CheXpert: four values that stay four, archives by any name, an honest test set, projections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_lightning.config.compose import compose
from cxr_lightning.data import chexpert
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.reading import Reading
from cxr_lightning.data.report_labels import COMPETITION, LABELS
from cxr_lightning.errors import ConfigError, DataError

NAMES = ",".join(LABELS.names)
HEADER = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{NAMES}"
NAN = np.nan


def cells(**values: str) -> str:
    """The 14 cells of a row; names with a space are written with an underscore."""
    return ",".join(values.get(name.replace(" ", "_"), "") for name in LABELS.names)


ZEROS = cells(**{name.replace(" ", "_"): "0.0" for name in LABELS.names})
TRAIN = [
    "train/patient00001/study1/view1_frontal.jpg,Male,68,Frontal,AP,"
    + cells(Edema="1.0", Pneumonia="-1.0", Fracture="0.0"),
    "train/patient00001/study1/view2_lateral.jpg,Male,68,Lateral,,"
    + cells(Edema="1.0", Pneumonia="-1.0", Fracture="0.0"),
    "train/patient00001/study2/view1_frontal.jpg,Male,68,Frontal,LL," + cells(No_Finding="1.0"),
    "train/patient00002/study1/view1_frontal.jpg,Unknown,0,Frontal,PA," + cells(),
    "train/patient00003/study1/view1_frontal.jpg,Female,90,Frontal,PA," + cells(Edema="1"),
]
VALID = ["valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP," + ZEROS]
TEST = ["test/patient64741/study1/view1_frontal.jpg," + ZEROS]


def write(
    folder: Path,
    *,
    archive: str = "CheXpert-v1.0-small",
    train: list[str] = TRAIN,
    valid: list[str] | None = VALID,
    test: list[str] | None = None,
    images: bool = True,
) -> Path:
    """Write an archive into `folder` with paths that begin with its published name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, header, rows in (
        ("train.csv", HEADER, train),
        ("valid.csv", HEADER, valid),
        ("test_labels.csv", f"Path,{NAMES}", test),
    ):
        if rows is None:
            continue
        prefix = "" if name == "test_labels.csv" else f"{archive}/"
        (folder / name).write_text("\n".join([header, *(prefix + row for row in rows)]) + "\n")
        for row in rows if images else ():
            file = folder / row.split(",")[0]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    return folder


def read(root: Path, **options: object) -> Reading:
    return chexpert.read_studies(chexpert.Config(name="chexpert", root=root, **options))


def problem(root: Path, **options: object) -> str:
    with pytest.raises((DataError, ConfigError)) as error:
        read(root, **options)
    return str(error.value).replace(str(root), "ROOT")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "CheXpert-v1.0-small")


class TestLabels:
    def test_blank_uncertain_negative_and_positive_are_four_things(self, root: Path) -> None:
        table = read(root, blank="unknown").table
        first = table.iloc[0]
        assert first["Edema"] == 1
        assert first["Fracture"] == 0
        assert first["Pneumonia"] == -1
        assert np.isnan(first["Atelectasis"])
        assert {str(table[name].dtype) for name in LABELS.names} == {"float32"}

    def test_blank_is_negative_by_default(self, root: Path) -> None:
        first = read(root).table.iloc[0]
        assert (first["Pneumonia"], first["Atelectasis"]) == (-1, 0)

    def test_a_blank_no_finding_is_negative_in_any_case(self, root: Path) -> None:
        # The labeler writes 1 or nothing there: unknown would leave positives alone.
        table = read(root, blank="unknown").table
        assert table["No Finding"].tolist() == [0, 0, 1, 0, 0, 0]

    def test_labels_are_the_studys(self, root: Path) -> None:
        table = read(root, blank="unknown").table
        study = table[table["study_id"] == "patient00001/study1"]
        assert study["view"].tolist() == ["AP", "LATERAL"]
        assert study["Pneumonia"].tolist() == [-1, -1]

    def test_the_five_of_the_competition(self, root: Path) -> None:
        assert read(root, labels="competition").labels.names == COMPETITION
        config = compose(["data=chexpert", f"data.root={root}", "data.labels=competition"]).data
        assert config.labels == COMPETITION

    def test_chosen_labels_in_their_order(self, root: Path) -> None:
        reading = read(root, labels=("Fracture", "Edema"))
        assert reading.labels.names == ("Fracture", "Edema")
        assert "Atelectasis" not in reading.table

    def test_a_former_name(self, root: Path) -> None:
        table = root / "train.csv"
        table.write_text(table.read_text().replace("Lung Opacity", "Airspace Opacity"))
        assert "Lung Opacity" in read(root).table

    def test_what_cannot_be_learned_is_noted(self, root: Path) -> None:
        notes = read(root, blank="unknown", labels=("Edema", "Fracture")).notes
        assert "no known positive to train on of Fracture" in notes
        assert "no known negative to train on of Edema" in notes


class TestPeopleAndViews:
    def test_ids(self, root: Path) -> None:
        row = read(root).table.iloc[1]
        assert row["sample_id"] == "train/patient00001/study1/view2_lateral.jpg"
        assert row["patient_id"] == "patient00001"
        assert row["image_path"] == str(root / row["sample_id"])

    def test_sex_and_age(self, root: Path) -> None:
        table = read(root).table
        assert table["sex"].tolist() == ["M", "M", "M", "UNKNOWN", "F", "M"]
        np.testing.assert_array_equal(table["age_years"], [68, 68, 68, NAN, 90, 73])

    def test_views(self, root: Path) -> None:
        # A frontal image that the table calls LL is neither AP nor PA.
        views = read(root).table["view"].tolist()
        assert views == ["AP", "LATERAL", "UNKNOWN", "PA", "PA", "AP"]

    @pytest.mark.parametrize(
        ("projection", "images"), [("frontal", 5), ("lateral", 1), ("both", 6)]
    )
    def test_projections_are_counted(self, root: Path, projection: str, images: int) -> None:
        reading = read(root, projection=projection)
        assert len(reading.table) == images
        if projection != "both":
            begun, step = reading.flow
            assert (begun.images, step.left_out) == (6, 6 - images)
            assert step.reason == f"not {projection}"

    def test_test_images_without_a_view_column_stay_frontal(self, tmp_path: Path) -> None:
        table = read(write(tmp_path, test=TEST), projection="frontal").table
        assert table["view"].tolist()[-1] == "UNKNOWN"
        assert table["split"].tolist()[-1] == "test"


class TestTestSet:
    def test_without_its_table_validation_is_the_test_set(self, root: Path) -> None:
        reading = read(root)
        assert reading.table["split"].tolist() == ["train_val"] * 5 + ["test"]
        assert any("test set: the published validation set" in note for note in reading.notes)

    def test_with_its_table_all_are_as_published(self, tmp_path: Path) -> None:
        reading = read(write(tmp_path, test=TEST))
        assert reading.table["split"].tolist() == ["train"] * 5 + ["val", "test"]
        assert "test set: the published one; validation: the published one" in reading.notes

    def test_the_choice_can_be_made(self, tmp_path: Path) -> None:
        root = write(tmp_path, test=TEST)
        assert read(root, test_set="valid").table["split"].tolist() == ["train_val"] * 5 + ["test"]
        text = problem(write(tmp_path / "without"), test_set="test")
        assert text.startswith("data.test_set=test: no table of the test set; looked for test.csv,")
        assert "data.test_set=valid tests on the validation set" in text

    def test_test_set_without_a_validation_set(self, tmp_path: Path) -> None:
        table = read(write(tmp_path, test=TEST, valid=None)).table
        assert table["split"].tolist() == ["train_val"] * 5 + ["test"]

    def test_neither_of_them(self, tmp_path: Path) -> None:
        root = write(tmp_path, valid=None)
        assert "data.split=patient splits the training set anew" in problem(root)
        assert read(root, split="patient").table["split"].unique().tolist() == [""]

    def test_a_new_split_takes_all_images(self, tmp_path: Path) -> None:
        table = read(write(tmp_path, test=TEST), split="patient").table
        assert table["split"].tolist() == [""] * 7

    def test_no_image_chooses_the_epoch_and_is_reported(self, tmp_path: Path) -> None:
        rows = [
            f"train/patient{n:05d}/study1/view1_frontal.jpg,Male,50,Frontal,AP,{ZEROS}"
            for n in range(1, 31)
        ]
        config = chexpert.Config(name="chexpert", root=write(tmp_path, train=rows))
        table = build_cohort(config).table
        folders = table["sample_id"].str.split("/").str[0]
        assert set(folders[table["split"] == "val"]) == {"train"}
        assert set(folders[table["split"] == "test"]) == {"valid"}

    def test_a_study_level_table(self, tmp_path: Path) -> None:
        root = write(tmp_path)
        for name in ("view1_frontal.jpg", "view2_lateral.jpg"):
            file = root / "test" / "patient64741" / "study1" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        rows = ["CheXpert-v1.0/test/patient64741/study1", "CheXpert-v1.0/test/patient64742/study1"]
        lines = [f"Study,{NAMES}", *(f"{row},{ZEROS}" for row in rows)]
        (root / "groundtruth.csv").write_text("\n".join(lines) + "\n")
        test = read(root).table.query("split == 'test'")
        assert test["sample_id"].tolist() == [
            "test/patient64741/study1/view1_frontal.jpg",
            "test/patient64741/study1/view2_lateral.jpg",
            # Not on disk: reported as missing with all others.
            "test/patient64742/study1/view1_frontal.jpg",
        ]
        assert test["view"].tolist() == ["UNKNOWN", "LATERAL", "UNKNOWN"]


class TestArchives:
    @pytest.mark.parametrize(
        "place", ["", "CheXpert-v1.0-small", "CheXpert-v1.0", "my data", "a/CheXpert-v1.0"]
    )
    def test_by_any_name(self, tmp_path: Path, place: str) -> None:
        archive = write(tmp_path / place)
        table = read(tmp_path).table
        assert table["image_path"].tolist()[0] == str(
            archive / "train/patient00001/study1/view1_frontal.jpg"
        )
        assert all(Path(path).is_file() for path in table["image_path"])

    @pytest.mark.parametrize("prefix", ["CheXpert-v1.0", "", "/somewhere/else", "x\\y"])
    def test_whatever_the_paths_begin_with(self, tmp_path: Path, prefix: str) -> None:
        root = write(tmp_path)
        table = root / "train.csv"
        table.write_text(table.read_text().replace("CheXpert-v1.0-small/", f"{prefix}/"))
        assert all(Path(path).is_file() for path in read(root).table["image_path"])

    def test_the_batches_of_the_full_size_release(self, tmp_path: Path) -> None:
        first = write(tmp_path / "CheXpert-v1.0 batch 1 (validate & csv)", archive="CheXpert-v1.0")
        for batch, patient in ((2, "patient00001"), (3, "patient00002"), (4, "patient00003")):
            folder = tmp_path / f"CheXpert-v1.0 batch {batch} (train {batch - 1})"
            folder.mkdir()
            (first / "train" / patient).rename(folder / patient)
        (first / "train").rmdir()
        table = read(tmp_path).table
        assert all(Path(path).is_file() for path in table["image_path"])
        assert "batch 3 (train 2)/patient00002" in table["image_path"].tolist()[3]

    def test_the_test_set_of_chexlocalize_beside_the_archive(self, tmp_path: Path) -> None:
        write(tmp_path / "CheXpert-v1.0-small")
        other = tmp_path / "chexlocalize" / "CheXpert"
        file = other / "test/patient64741/study1/view1_frontal.jpg"
        file.parent.mkdir(parents=True)
        file.touch()
        (other / "test_labels.csv").write_text(f"Path,{NAMES}\n{TEST[0]}\n")
        table = read(tmp_path).table
        assert table["image_path"].tolist()[-1] == str(file)
        assert table["split"].tolist() == ["train"] * 5 + ["val", "test"]

    def test_another_labelers_table(self, root: Path) -> None:
        (root / "train.csv").rename(root / "train_cheXbert.csv")
        assert len(read(root, train_table="train_cheXbert.csv").table) == 6

    def test_no_root(self) -> None:
        with pytest.raises(ConfigError, match=r"data\.root: required"):
            chexpert.read_studies(chexpert.Config(name="chexpert"))

    def test_root_is_not_there(self, tmp_path: Path) -> None:
        assert "there is no such folder" in problem(tmp_path / "nowhere")

    def test_no_archive_says_where_it_looked(self, tmp_path: Path) -> None:
        (tmp_path / "downloads").mkdir()
        (tmp_path / "downloads" / "Data_Entry_2017.csv").touch()
        assert problem(tmp_path) == (
            "data.root=ROOT: no train.csv of CheXpert; looked in\n"
            "  - ROOT\n"
            "  - ROOT/downloads\n"
            "Tables that are there:\n"
            "  - ROOT/downloads/Data_Entry_2017.csv\n"
            "data.root is the folder of the unpacked archive, or one that holds it."
        )

    def test_two_archives(self, tmp_path: Path) -> None:
        write(tmp_path / "CheXpert-v1.0")
        write(tmp_path / "CheXpert-v1.0-small")
        assert problem(tmp_path) == (
            "data.root=ROOT: holds more than one archive of CheXpert; name one of\n"
            "  - ROOT/CheXpert-v1.0\n"
            "  - ROOT/CheXpert-v1.0-small"
        )

    def test_no_images_says_where_it_looked(self, tmp_path: Path) -> None:
        root = write(tmp_path, images=False)
        (root / "train").mkdir()
        assert problem(root) == (
            "ROOT/train.csv: none of its 3 patients has a folder; looked for patient00001 and so "
            "on in\n  - ROOT/train\n  - ROOT"
        )

    def test_a_lost_patient_is_left_to_the_report_of_missing_images(self, root: Path) -> None:
        for file in (root / "train" / "patient00002").rglob("*.jpg"):
            file.unlink()
        (root / "train" / "patient00002" / "study1").rmdir()
        (root / "train" / "patient00002").rmdir()
        paths = read(root).table["image_path"].tolist()
        assert paths[3] == str(root / "train/patient00002/study1/view1_frontal.jpg")


class TestMessages:
    def test_values_that_are_not_labels(self, root: Path) -> None:
        table = root / "train.csv"
        lines = table.read_text().splitlines()
        lines[1] = lines[1].replace("-1.0", "2.0")
        lines[4] += "maybe"
        table.write_text("\n".join(lines) + "\n")
        assert problem(root) == (
            "ROOT/train.csv: labels must be 1, 0, -1 (uncertain) or blank (not mentioned); found\n"
            "Pneumonia:\n  - '2.0' (line 2)\n"
            "Support Devices:\n  - 'maybe' (line 5)"
        )

    def test_paths_without_a_patient(self, root: Path) -> None:
        table = root / "train.csv"
        table.write_text(table.read_text().replace("patient00002", "pat2"))
        assert "no .../patientNNNNN/studyN/... in\n" in problem(root)
        assert "pat2/study1/view1_frontal.jpg' (line 5)" in problem(root)

    def test_a_missing_label_column(self, root: Path) -> None:
        table = root / "valid.csv"
        table.write_text(table.read_text().replace("Edema", "Oedema"))
        text = problem(root)
        assert text.startswith("ROOT/valid.csv: missing column(s) Edema; it has: Path, Sex")
        assert "Did you mean 'Oedema'?" in text

    @pytest.mark.parametrize(
        ("content", "said"), [(b"", "not a readable table"), (b"\xff\xfe\x00", "")]
    )
    def test_a_table_that_cannot_be_read(self, root: Path, content: bytes, said: str) -> None:
        (root / "valid.csv").write_bytes(content)
        text = problem(root)
        assert text.startswith("ROOT/valid.csv: ")
        assert said in text

    def test_a_table_without_rows(self, root: Path) -> None:
        table = root / "valid.csv"
        table.write_text(table.read_text().splitlines()[0] + "\n")
        assert problem(root) == "ROOT/valid.csv: it has no rows"

    def test_a_duplicate(self, tmp_path: Path) -> None:
        text = problem(write(tmp_path, train=[*TRAIN, TRAIN[0]]))
        assert "images listed more than once" in text
        assert "line 7" in text

    def test_unknown_label(self, root: Path) -> None:
        assert "Did you mean 'Edema'?" in problem(root, labels=("Oedema",))


def test_table_is_a_default_range(root: Path) -> None:
    pd.testing.assert_index_equal(read(root).table.index, pd.RangeIndex(6))
