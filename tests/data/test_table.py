"""A table of one's own: every spelling of its cells, and the messages a newcomer meets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from pydantic import ValidationError

from cxr_lightning.cli import run_verb
from cxr_lightning.config.compose import compose, config_from_dict, config_to_dict
from cxr_lightning.config.schema import AugmentConfig
from cxr_lightning.data import table
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.reading import Reading
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.prepare import main as prepare

NAN = np.nan
ROWS = {
    "path": ["a.png", "b.png", "c.png", "d.png"],
    "pid": ["7", "7", "8", "9"],
    "mass": ["1", "0", "", "-1"],
    "nodule": ["yes", "No", "uncertain", "n/a"],
    "note": ["a text", "another", "a third", "a fourth"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, ROWS)
    for name in ROWS["path"]:
        Image.new("L", (4, 4)).save(tmp_path / name)
    return tmp_path


def write(folder: Path, columns: dict[str, list[str]], **options: object) -> None:
    pd.DataFrame(columns).to_csv(folder / "t.csv", index=False, **options)


BASE = {"name": "table", "image": "path", "patient": "pid", "labels": "[mass,nodule]"}


def configured(folder: Path, **options: object) -> table.Config:
    """Return what `fit data=table data.csv=... data.KEY=VALUE` would; None leaves a key out."""
    given = {"csv": str(folder / "t.csv"), **BASE, **options}
    return table.Config.model_validate(
        {key: yaml.safe_load(str(value)) for key, value in given.items() if value is not None}
    )


def read(folder: Path, **options: object) -> Reading:
    return table.read_studies(configured(folder, **options))


def problem(folder: Path, **options: object) -> str:
    with pytest.raises((DataError, ConfigError)) as error:
        read(folder, **options)
    return str(error.value).replace(str(folder), "DIR")


class TestLabels:
    def test_every_word(self, folder: Path) -> None:
        studies = read(folder).table
        np.testing.assert_array_equal(studies["mass"], [1, 0, NAN, -1])
        np.testing.assert_array_equal(studies["nodule"], [1, 0, -1, NAN])
        assert studies["mass"].dtype == np.float32

    @pytest.mark.parametrize(
        ("words", "value"),
        [
            (("1", "1.0", "YES", "y", "True", "t", "positive", "Present"), 1),
            (("0", "0.0", "no", "N", "FALSE", "f", "Negative", "absent"), 0),
            (("-1", "-1.0", "uncertain", "maybe"), -1),
            (("", "NA", "n/a", "nan", "NULL", "unknown", "."), NAN),
        ],
    )
    def test_vocabulary(self, tmp_path: Path, words: tuple[str, ...], value: float) -> None:
        files = [f"{number}.png" for number in range(len(words))]
        for name in files:
            (tmp_path / name).touch()
        write(tmp_path, {"path": files, "pid": files, "mass": list(words)})
        values = read(tmp_path, labels="[mass]").table["mass"]
        np.testing.assert_array_equal(values, [value] * len(words))

    def test_blanks_may_be_negative(self, folder: Path) -> None:
        studies = read(folder, blank="negative").table
        np.testing.assert_array_equal(studies["mass"], [1, 0, 0, -1])
        np.testing.assert_array_equal(studies["nodule"], [1, 0, -1, NAN])  # n/a is no blank

    def test_words_of_ones_own(self, folder: Path) -> None:
        write(folder, ROWS | {"mass": ["sicher", "nein", "", "1"]})
        studies = read(folder, values="{sicher: 1, nein: 0}").table
        np.testing.assert_array_equal(studies["mass"], [1, 0, NAN, 1])

    def test_parquet_with_typed_columns(self, folder: Path) -> None:
        frame = pd.DataFrame(ROWS)
        frame["pid"] = [7, 7, 8, None]
        frame["mass"] = [True, False, True, False]
        frame["nodule"] = [1.0, 0.0, None, -1.0]
        frame.iloc[:3].to_parquet(folder / "t.parquet")
        studies = read(folder, csv=folder / "t.parquet", ids="plain").table
        assert studies["patient_id"].tolist() == ["7", "7", "8"]
        np.testing.assert_array_equal(studies["mass"], [1, 0, 1])
        np.testing.assert_array_equal(studies["nodule"], [1, 0, NAN])

    def test_one_column_of_findings(self, folder: Path) -> None:
        write(folder, ROWS | {"note": ["Mass|Edema", "No Finding", "", "Edema "]})
        reading = read(folder, labels=None, findings="note")
        assert reading.labels.names == ("Edema", "Mass")
        np.testing.assert_array_equal(reading.table["Edema"], [1, 0, NAN, 1])
        np.testing.assert_array_equal(reading.table["Mass"], [1, 0, NAN, 0])
        chosen = read(folder, labels='["No Finding",Mass]', findings="note", blank="negative")
        np.testing.assert_array_equal(chosen.table["No Finding"], [0, 1, 0, 0])
        # A split is stratified over all findings, whichever are chosen.
        for one in (reading, chosen):
            np.testing.assert_array_equal(one.table["stratum/Edema"], [1, 0, 0, 1])
            np.testing.assert_array_equal(one.table["stratum/Mass"], [1, 0, 0, 0])

    @pytest.mark.parametrize("blank", ["unknown", "negative"])
    def test_findings_that_nobody_knows(self, folder: Path, blank: str) -> None:
        write(folder, ROWS | {"note": ["Mass|Edema", "NA", " unknown ", "Edema|n/a"]})
        reading = read(folder, labels="[Mass]", findings="note", blank=blank)
        np.testing.assert_array_equal(reading.table["Mass"], [1, NAN, NAN, 0])
        assert [name for name in reading.table if name.startswith("stratum/")] == [
            "stratum/Edema", "stratum/Mass"
        ]  # fmt: skip
        assert read(folder, labels=None, findings="note").labels.names == ("Edema", "Mass")

    def test_a_word_for_missing_that_means_something(self, folder: Path) -> None:
        write(folder, ROWS | {"note": ["Mass", "NA", "unknown", ""]})
        reading = read(folder, labels="[Mass,unknown]", findings="note", no_finding="['NA']")
        np.testing.assert_array_equal(reading.table["Mass"], [1, 0, 0, NAN])
        np.testing.assert_array_equal(reading.table["unknown"], [0, 0, 1, NAN])

    def test_findings_by_another_separator(self, folder: Path) -> None:
        write(folder, ROWS | {"note": ["mass; edema", "edema;rib, broken", "none", "mass"]})
        reading = read(folder, labels=None, findings="note", separator="';'", no_finding="[none]")
        assert reading.labels.names == ("edema", "mass", "rib, broken")


class TestOtherColumns:
    def test_view_sex_age_study_visit(self, folder: Path) -> None:
        more = {
            "pos": ["PA", "ap supine", "LL", "odd"],
            "gender": ["male", "F", "", "M"],
            "years": ["58", "006M", "", "414"],
            "exam": ["1", "1", "1", "2"],
            "taken": ["2020-01-01", "20200131", "2020-01-01", ""],
        }
        write(folder, ROWS | more)
        reading = read(folder, view="pos", sex="gender", age="years", study="exam", visit="taken")
        studies = reading.table
        assert studies["view"].tolist() == ["PA", "AP", "LATERAL", "UNKNOWN"]
        assert studies["sex"].tolist() == ["M", "F", "UNKNOWN", "M"]
        np.testing.assert_array_equal(studies["age_years"], [58, 0.5, NAN, NAN])
        np.testing.assert_array_equal(studies["visit"], [0, 30, 0, NAN])
        assert studies["study_id"].duplicated().tolist() == [False, True, False, False]
        assert "views of pos that are none of PA, AP, LATERAL: odd 1" in reading.notes
        assert "ages of years beyond 120 years, so unknown: line 5" in reading.notes

    def test_a_split_of_ones_own(self, folder: Path) -> None:
        write(folder, ROWS | {"part": ["Training", "train", "valid", "TEST"]})
        assert read(folder, split_column="part").table["split"].tolist() == [
            "train", "train", "val", "test"]  # fmt: skip
        anew = read(folder, split_column="part", split="patient").table
        assert anew["split"].tolist() == [""] * 4

    def test_validation_is_cut_where_the_column_has_none(self, folder: Path) -> None:
        write(folder, ROWS | {"part": ["train", "train", "train", "test"]})
        reading = read(folder, split_column="part")
        assert reading.table["split"].tolist() == ["train_val"] * 3 + ["test"]
        assert "part has no validation part: it is cut from train, by patient" in reading.notes

    def test_inputs_are_brought_along(self, folder: Path) -> None:
        write(folder, ROWS | {"bmi": ["20", "", "31.5", "28"], "ward": ["A", "B", "", "A"]})
        studies = read(folder, tabular="[bmi,ward,age_years]").table
        np.testing.assert_array_equal(studies["bmi"], [20, NAN, 31.5, 28])
        assert studies["ward"].tolist() == ["A", "B", "", "A"]

    def test_ids(self, folder: Path) -> None:
        hashed, plain = read(folder).table, read(folder, ids="plain").table
        assert plain["sample_id"].tolist() == ROWS["path"]
        assert plain["patient_id"].tolist() == ROWS["pid"]
        assert not set(hashed["patient_id"]) & set(ROWS["pid"])
        assert hashed["patient_id"].nunique() == 3
        alone = read(folder, patient="none").table
        assert alone["patient_id"].nunique() == 4


class TestImages:
    def test_a_suffix_may_be_left_out(self, folder: Path) -> None:
        write(folder, ROWS | {"path": ["a", "b", "c", "d"]})
        reading = read(folder)
        assert reading.table["image_path"].tolist() == [str(folder / f"{x}.png") for x in "abcd"]
        assert "images found with .png added: 4" in reading.notes

    def test_a_root_and_a_pattern(self, folder: Path) -> None:
        images = folder / "x" / "images"
        images.mkdir(parents=True)
        for name in ROWS["path"]:
            (folder / name).rename(images / name)
        write(folder, ROWS | {"path": ["/old/place/a.png", "b.png", "c.png", "d.png"]})
        expected = [str(images / name) for name in ROWS["path"]]
        for pattern in ("images/{name}", "**/{name}"):
            studies = read(folder, root=folder / "x", pattern=f"'{pattern}'").table
            assert studies["image_path"].tolist() == expected

    def test_where_it_looked_and_which_pattern_would_do(self, folder: Path) -> None:
        (folder / "pictures").mkdir()
        for name in ROWS["path"]:
            (folder / name).rename(folder / "pictures" / name)
        assert problem(folder) == (
            "DIR/t.csv: 1 problem\n* path: 4 of 4 images are not there:\n"
            "  - 'a.png': looked at DIR/a.png\n  - 'b.png': looked at DIR/b.png\n"
            "  - 'c.png': looked at DIR/c.png\n"
            "Files of these names exist: data.pattern='pictures/{}' finds all 4 tried."
        )
        read(folder, pattern="'pictures/{}'")
        (folder / "more").mkdir()
        (folder / "pictures" / "a.png").rename(folder / "more" / "a.png")
        assert "data.pattern='**/{name}' finds all 4 tried" in problem(folder)

    def test_no_image_at_all(self, folder: Path, tmp_path: Path) -> None:
        write(folder, ROWS | {"path": ["1.png", "2.png", "3.png", "4.png"]})
        assert "4 images are below DIR, none of these names; for example a.png." in problem(folder)
        assert "there is no such folder" in problem(folder, root=folder / "nowhere")
        (folder / "empty").mkdir()
        text = problem(folder, root=folder / "empty")
        assert "there is no image below DIR/empty; data.root=FOLDER says where they are" in text

    def test_some_are_missing(self, folder: Path) -> None:
        (folder / "c.png").unlink()
        text = problem(folder)
        assert "1 of 4 images are not there:\n  - 'c.png': looked at DIR/c.png" in text
        assert "data.on_bad_image=skip" in text
        assert len(read(folder, on_bad_image="skip").table) == 4  # left out where pixels are read

    def test_one_name_in_two_folders(self, folder: Path) -> None:
        (folder / "x").mkdir()
        (folder / "x" / "a.png").touch()
        for skip in ("refuse", "skip"):  # which of them is meant, leaving out does not tell
            text = problem(folder, pattern="'**/{name}'", on_bad_image=skip)
            assert "more than one file for\n  - a.png: " in text
            assert "data.on_bad_image=skip" not in text


class TestMessages:
    def test_nothing_chosen(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match=r"data\.csv: required"):
            table.read_studies(table.Config(name="table"))
        text = problem(folder, image=None, patient=None, labels=None)
        assert text == (
            "DIR/t.csv: still to be chosen\n"
            "  - data.image=COLUMN, the files of the images. Looking like it: path.\n"
            "  - data.patient=COLUMN, whose image it is: with images of one person in training and "
            "in the test, the test measures memory. data.patient=none says that each image is of "
            "another person. Looking like it: pid.\n"
            "  - data.labels=[COLUMN,COLUMN], what to learn, a column each (1, 0, yes, no, blank); "
            "or data.findings=COLUMN, one that lists what was found. Looking like it: mass, "
            "nodule.\nIts columns:\n"
            "  - path: 'a.png', 'b.png', 'c.png', 'd.png'\n  - pid: '7', '8', '9'\n"
            "  - mass: '1', '0', '', '-1'\n"
            "  - nodule: 'yes', 'No', 'uncertain', 'n/a'\n"
            "  - note: 'a text', 'another', 'a third', 'a fourth'"
        )

    def test_columns_that_are_not_there(self, folder: Path) -> None:
        assert problem(folder, image="Path", patient="pidd", labels="[mas]") == (
            "DIR/t.csv: missing column(s) Path, pidd, mas; it has: path, pid, mass, nodule, note. "
            "Did you mean 'path'? Did you mean 'pid'? Did you mean 'mass'?"
        )

    def test_a_label_column_with_text(self, folder: Path) -> None:
        text = problem(folder, labels="[mass,note]")
        assert "* label note has values that mean nothing here:\n  - 'a text' (line 2)\n" in text
        assert "use data.findings=note in place of data.labels" in text
        write(folder, ROWS | {"mass": ["1", "0", "vielleicht", "1"]})
        text = problem(folder)
        assert "  - 'vielleicht' (line 4)\nAllowed: 1, yes, true, positive; 0, no" in text
        assert "'data.values={vielleicht: 1}'" in text

    def test_probabilities_and_measurements(self, folder: Path) -> None:
        write(folder, ROWS | {"mass": ["0.9", "0.2", "", "0.5"]})
        assert "Probabilities are no labels" in problem(folder)
        write(folder, ROWS | {"mass": ["35", "60", "", "55"]})
        assert "data=ehr makes labels of them by rules" in problem(folder)

    def test_all_problems_at_once(self, folder: Path) -> None:
        broken = {
            "path": ["a.png", "a.png", "", "z.png"],
            "mass": ["1", "x", "0", "0"],
            "years": ["old", "5", "5", "5"],
            "gender": ["M", "1", "F", "F"],
        }
        write(folder, ROWS | broken)
        text = problem(folder, age="years", sex="gender")
        assert text.startswith("DIR/t.csv: 6 problems\n")
        for part in (
            "label mass has values that mean nothing here:\n  - 'x' (line 3)",
            "path is empty: line 4",
            "path: the same image in several rows:\n  - a.png: lines 2, 3",
            "years must be ages in years (58), or 058Y, 006M, 030D:\n  - 'old' (line 2)",
            "gender must be M, F, male, female or blank:\n  - '1' (line 3)",
            "images are not there",
        ):
            assert part in text

    def test_patients_in_two_parts(self, folder: Path) -> None:
        write(folder, ROWS | {"part": ["train", "test", "val", "test"]})
        reading = read(folder, split_column="part")
        said = "part: 1 patient(s) of pid are in more than one part, such as the one of lines 2, 3."
        assert reading.crossing == said
        config = configured(folder, split_column="part")
        with pytest.raises(DataError) as error:
            ChestXrayDataModule(config, AugmentConfig(name="none"), seed=0).read()
        assert said in str(error.value)
        assert "data.split=patient" in str(error.value)
        words = [
            "data=table",
            f"data.csv={folder / 't.csv'}",
            "data.image=path",
            "data.patient=pid",
        ]
        words += ["data.labels=[mass]", "data.split_column=part", "data.image.size=32"]
        assert run_verb(prepare, [*words, "--output", str(folder / "out")]) == 1
        audit = json.loads((folder / "out" / "audit.json").read_text())
        assert audit["leaks"]["patients"] == [reading.table["patient_id"][0]]
        assert said in audit["notes"]

    def test_a_split_column_without_a_test(self, folder: Path) -> None:
        write(folder, ROWS | {"part": ["train", "train", "val", "dev"]})
        assert "part has no row with test" in problem(folder, split_column="part")
        write(folder, ROWS | {"part": ["train", "train", "fold 3", ""]})
        text = problem(folder, split_column="part")
        assert "part must be train, val or test (or train_val):\n  - 'fold 3' (line 4)" in text

    def test_findings_that_are_not_there(self, folder: Path) -> None:
        write(folder, ROWS | {"note": ["mass;edema", "edema;mass", "mass;nodule", "edema;mass"]})
        text = problem(folder, findings="note", labels="[edem]")
        assert "data.labels: not in column note:\n  - 'edem'." in text
        assert "hold ';'; does it separate? data.separator=';'" in text

    @pytest.mark.parametrize("labels", [None, "[Mass]"])
    def test_a_finding_in_two_spellings(self, folder: Path, labels: str | None) -> None:
        write(folder, ROWS | {"note": ["Mass", "mass|Edema", "Edema", "Edema"]})
        text = problem(folder, findings="note", labels=labels)
        assert "note: one finding in several spellings; make them one:" in text
        assert "- 'Mass' and 'mass'" in text
        read(folder, findings="note", labels="[Edema]")

    def test_a_column_twice(self, folder: Path) -> None:
        (folder / "t.csv").write_text("path,pid,mass,nodule, mass\na.png,1,1,0,0\n")
        assert "DIR/t.csv: column(s) 'mass' more than once" in problem(folder)

    def test_names_that_are_left_blank(self, folder: Path) -> None:
        (folder / "t.csv").write_text("path,pid,mass,nodule,,\na.png,1,1,0,,\n")
        assert len(read(folder).table) == 1

    def test_a_table_with_tabs(self, folder: Path) -> None:
        write(folder, ROWS, sep="\t")
        assert "seem to be separated by '\\t': set data.delimiter=tab" in problem(folder)
        for word in ("tab", "'\\t'", '"\\t"'):
            assert len(read(folder, delimiter=word).table) == 4

    @pytest.mark.parametrize("word", ["'||'", "''", "'\"'"])
    def test_delimiters_that_cannot_be(self, folder: Path, word: str) -> None:
        with pytest.raises(ValidationError, match="one character"):
            configured(folder, delimiter=word)

    @pytest.mark.parametrize("form", ["%D", "%", "%d.%m.%", "%d.%m.", "day"])
    def test_formats_that_tell_no_day(self, folder: Path, form: str) -> None:
        with pytest.raises(ValidationError, match=r"as %d\.%m\.%Y"):
            configured(folder, date_format=f"'{form}'")

    def test_one_file_for_several_rows(self, folder: Path) -> None:
        write(folder, ROWS | {"path": ["x/a.png", "y/a.png", "c.png", "d.png"]})
        text = problem(folder, pattern="'{name}'", on_bad_image="skip")
        assert "data.pattern={name}: one file for several" in text
        assert "- 'x/a.png', 'y/a.png': DIR/a.png" in text

    def test_no_pattern_is_advised_where_none_will_do(self, folder: Path) -> None:
        names = [f"old/p{number}/view.png" for number in range(30)]
        write(folder, {"path": names, **{key: ["1"] * 30 for key in ("pid", "mass", "nodule")}})
        for number in range(30):
            (folder / f"new/q{number}").mkdir(parents=True)
            Image.new("L", (4, 4)).save(folder / f"new/q{number}/view.png")
        text = problem(folder)
        assert "in several folders, and no pattern tells which is meant" in text
        assert "finds all" not in text

    def test_a_prefix_that_is_not_there(self, folder: Path) -> None:
        names = [f"p{number}/view.png" for number in range(5)]
        write(folder, {"path": names, **{key: ["1"] * 5 for key in ("pid", "mass", "nodule")}})
        for name in names:
            (folder / "new" / name).parent.mkdir(parents=True)
            Image.new("L", (4, 4)).save(folder / "new" / name)
        assert "data.pattern='new/{}' finds all 5 tried" in problem(folder)
        assert len(read(folder, pattern="'**/{}'").table) == 5

    def test_a_column_that_is_two_things(self, folder: Path) -> None:
        text = problem(folder, labels="[mass,pid]")
        assert "a column cannot be two things\n  - pid: data.patient and data.labels" in text

    def test_a_label_with_a_name_of_the_study_table(self, folder: Path) -> None:
        write(folder, ROWS | {"sex": ["1", "0", "1", "0"]})
        assert "sex: a label or input cannot have this name" in problem(folder, labels="[sex]")

    def test_other_kinds_of_file(self, folder: Path) -> None:
        write(folder, ROWS, sep=";")
        assert "its cells seem to be separated by ';': set data.delimiter=';'" in problem(folder)
        read(folder, delimiter="';'")
        (folder / "t.csv").write_bytes("path,pid,mass\nM\xfcller.png,1,1\n".encode("latin-1"))
        assert "save it as UTF-8" in problem(folder)
        (folder / "t.csv").write_text(
            "path,pid,mass,nodule\na.png,1,1,0\nb.png,1,1,0,rib, broken\n"
        )
        assert "DIR/t.csv: not a readable table" in problem(folder)
        assert "a spreadsheet" not in problem(folder)
        (folder / "t.xlsx").touch()
        assert "a spreadsheet; save it as CSV" in problem(folder, csv=folder / "t.xlsx")

    @pytest.mark.parametrize("pattern", ["images", "images/*/{}", "{}/**/x"])
    def test_patterns_that_cannot_be(self, folder: Path, pattern: str) -> None:
        with pytest.raises(ValidationError, match=r"needs \{\} or \{name\}"):
            configured(folder, pattern=f"'{pattern}'")

    def test_official_without_a_column(self, folder: Path) -> None:
        with pytest.raises(ValidationError, match="split=official needs split_column=COLUMN"):
            configured(folder, split="official")


def test_the_image_column_and_the_size_of_images_are_set_side_by_side(folder: Path) -> None:
    for words in (
        ("data.image=path", "data.image.size=64"),
        ("data.image.size=64", "data.image=path"),
    ):
        config = compose(["data=table", *words]).data
        assert (config.image_column, config.image.size) == ("path", 64)
    whole = compose(["data=table", "data.image=path"])
    assert config_from_dict(config_to_dict(whole)) == whole


def test_a_cohort_of_it(folder: Path) -> None:
    many = {
        "path": [f"{number}.png" for number in range(60)],
        "pid": [str(number // 2) for number in range(60)],
        "mass": [str(number % 3 == 0) for number in range(60)],
    }
    for name in many["path"]:
        (folder / name).touch()
    write(folder, many)
    cohort = build_cohort(configured(folder, labels="[mass]"))
    assert cohort.table.groupby("patient_id")["split"].nunique().eq(1).all()
    assert cohort.flow[0].images == 60


def test_the_real_table_reads_like_the_data_set(shared_data: Path) -> None:
    from cxr_lightning.data import nih

    root = shared_data / "nih_dev"
    config = table.Config(
        name="table",
        csv=root / "Data_Entry_2017.csv",
        image_column="Image Index",
        patient="Patient ID",
        findings="Finding Labels",
        pattern="images/{}",
        ids="plain",
        view="View Position",
        sex="Patient Gender",
        age="Patient Age",
        labels=nih.LABELS.names,
    )
    own = table.read_studies(config).table
    expected = nih.read_studies(nih.Config(name="nih", root=root, split="patient")).table
    columns = ["sample_id", "image_path", "patient_id", "view", "age_years", "sex"]
    columns += nih.LABELS.names
    assert own[columns].astype(object).equals(expected[columns].astype(object))


class TestDicom:
    """Files whose headers say that they are something else."""

    @pytest.fixture
    def folder(self, tmp_path: Path, radiograph: Callable[..., Path]) -> Path:
        radiograph(tmp_path / "a.dcm")
        radiograph(tmp_path / "b.dcm", ViewPosition="LL")
        radiograph(tmp_path / "c.dcm", ViewPosition="XX", BodyPartExamined="")
        radiograph(tmp_path / "d.dcm", ViewPosition=None)
        Image.new("L", (4, 4)).save(tmp_path / "e.png")
        self.list_files(tmp_path, "abcd")
        return tmp_path

    @staticmethod
    def list_files(folder: Path, names: str) -> None:
        rows = {"path": [f"{name}.dcm" for name in names] + ["e.png"]}
        rows["pid"] = [str(number) for number in range(len(rows["path"]))]
        write(
            folder, rows | {"mass": ["1", "0"] * (len(names) // 2) + ["1"] * (len(names) % 2 + 1)}
        )

    @staticmethod
    def plant(folder: Path, radiograph: Callable[..., Path]) -> None:
        radiograph(folder / "f.dcm", Modality="CT")
        radiograph(folder / "g.dcm", BodyPartExamined="HAND")
        radiograph(folder / "h.dcm", NumberOfFrames=3)
        (folder / "i.dcm").write_bytes(b"<html>please sign in</html>" * 30)
        TestDicom.list_files(folder, "abcdfghi")

    def test_views_and_what_headers_do_not_tell(self, folder: Path) -> None:
        reading = read(folder, labels="[mass]")
        assert reading.table["view"].tolist() == ["PA", "LATERAL", "UNKNOWN", "UNKNOWN", "UNKNOWN"]
        for note in (
            "view not given in DICOM, so unknown: 1",
            "view not understood in DICOM, so unknown: 'XX' 1",
            "body part not given, kept: 1",
        ):
            assert note in reading.notes
        assert [step.left_out for step in reading.flow] == [0, 0, 0]
        strict = read(folder, labels="[mass]", on_bad_image="skip", select="{require_tags: true}")
        assert strict.flow[-1].left_out == 1

    def test_a_column_of_views_comes_first(self, folder: Path) -> None:
        table = pd.read_csv(folder / "t.csv").assign(position=["AP", "", "PA", "XX", "PA"])
        table.to_csv(folder / "t.csv", index=False)
        reading = read(folder, labels="[mass]", view="position")
        assert reading.table["view"].tolist() == ["AP", "UNKNOWN", "PA", "UNKNOWN", "PA"]
        assert "views of position not given, so unknown: 1" in reading.notes
        assert "views of position that are none of PA, AP, LATERAL: XX 1" in reading.notes

    def test_no_chest_radiographs_are_refused_with_reasons(
        self, folder: Path, radiograph: Callable[..., Path]
    ) -> None:
        self.plant(folder, radiograph)
        text = problem(folder, labels="[mass]")
        assert "path: 4 of 8 DICOM files are no single radiographs of a chest:" in text
        for line in (
            "DIR/f.dcm: modality is not CR, DX, DR, RG (CT, CHEST)",
            "DIR/g.dcm: body part is not CHEST, THORAX, LUNG (DX, HAND)",
            "DIR/h.dcm: several frames in one file (DX, CHEST)",
            "DIR/i.dcm: unreadable DICOM header (",
        ):
            assert f"  - {line}" in text
        assert "data.on_bad_image=skip" in text

    def test_pictures_are_told_by_their_content(
        self, folder: Path, radiograph: Callable[..., Path]
    ) -> None:
        Image.new("L", (4, 4)).save(folder / "scan1", "PNG")
        Image.new("L", (4, 4)).save(folder / "scan2.dcm", "JPEG")
        radiograph(folder / "scan3", ViewPosition="AP")
        names = ["scan1", "scan2.dcm", "scan3"]
        rows = {"path": names, "pid": names, "mass": ["1", "0", "1"]}
        write(folder, rows)
        assert read(folder, labels="[mass]").table["view"].tolist() == ["UNKNOWN", "UNKNOWN", "AP"]
        (folder / "scan2.dcm").write_bytes(b"BM" + bytes(60))
        text = problem(folder, labels="[mass]")
        assert "1 of 2 DICOM files" in text
        assert "DIR/scan2.dcm: unreadable DICOM header" in text

    def test_or_left_out_and_counted(self, folder: Path, radiograph: Callable[..., Path]) -> None:
        self.plant(folder, radiograph)
        reading = read(folder, labels="[mass]", on_bad_image="skip")
        assert [(step.reason, step.left_out, step.images) for step in reading.flow] == [
            ("in the data set", 0, 9),
            ("unreadable DICOM header", 1, 8),
            ("several frames in one file", 1, 7),
            ("modality is not CR, DX, DR, RG", 1, 6),
            ("body part is not CHEST, THORAX, LUNG", 1, 5),
        ]
        names = [Path(path).name for path in reading.table["image_path"]]
        assert names == ["a.dcm", "b.dcm", "c.dcm", "d.dcm", "e.png"]
        assert reading.table["mass"].tolist() == [1, 0, 1, 0, 1]
        assert {"modality left out: CT 1", "body part left out: HAND 1"} <= set(reading.notes)

    def test_or_meant(self, folder: Path, radiograph: Callable[..., Path]) -> None:
        radiograph(folder / "d.dcm", BodyPartExamined="RIBCAGE")
        assert "RIBCAGE" in problem(folder, labels="[mass]")
        reading = read(folder, labels="[mass]", select="{body_parts: [CHEST, RIBCAGE]}")
        assert len(reading.table) == 5


def test_the_real_dicom_files(shared_data: Path, tmp_path: Path) -> None:
    """One is of the rib cage by its header, one a CT; both are radiographs of a chest in truth."""
    names = sorted(file.name for file in (shared_data / "dicom").glob("udacity*.dcm"))
    rows = {"path": names, "pid": names, "mass": ["1", "0"] * 3, "nodule": ["0", "1"] * 3}
    write(tmp_path, rows)
    root = shared_data / "dicom"
    text = problem(tmp_path, root=root)
    assert "test4.dcm: body part is not CHEST, THORAX, LUNG (DX, RIBCAGE)" in text
    assert "test5.dcm: modality is not CR, DX, DR, RG (CT, CHEST)" in text
    reading = read(tmp_path, root=root, on_bad_image="skip")
    assert len(reading.table) == 4
    assert "view not given in DICOM, so unknown: 6" in reading.notes
