"""A hospital's radiographs and echocardiograms: the join, the flow, and what must not leak."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from cxr_lightning.config.compose import compose
from cxr_lightning.config.groups import shipped_conf
from cxr_lightning.config.schema import AugmentConfig
from cxr_lightning.data import ehr
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.reading import Reading
from cxr_lightning.data.tabular import fit_tabular
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.labels import LabelSpace

Radiograph = Callable[..., Path]
NAN = np.nan
GRADES = ("ms_grade", "as_grade", "mr_grade", "ar_grade", "tr_grade")


def write_echo(root: Path, rows: list[dict[str, object]], name: str = "echo.csv") -> None:
    defaults: dict[str, object] = {"patient_id": "P1", "date": "2020-03-01", "lvef": "60"}
    table = pd.DataFrame([defaults | dict.fromkeys(GRADES, "none") | row for row in rows])
    table.to_csv(root / name, index=False)


def configured(root: Path, *overrides: str) -> ehr.Config:
    """Return what `fit data=ehr data.root=... data.KEY=VALUE` would."""
    raw = yaml.safe_load((shipped_conf() / "data" / "ehr.yaml").read_text())
    for word in (f"data.root={root}", *overrides):
        key, _, value = word.partition("=")
        *parents, last = key.split(".")[1:]
        section = raw
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = yaml.safe_load(value)
    return ehr.Config.model_validate(raw)


def read(root: Path, *overrides: str) -> Reading:
    return ehr.read_studies(configured(root, *overrides))


def by_file(reading: Reading) -> pd.DataFrame:
    return reading.table.set_index(reading.table["image_path"].map(lambda path: Path(path).stem))


def problem(root: Path, *overrides: str) -> str:
    with pytest.raises((DataError, ConfigError)) as error:
        read(root, *overrides)
    return str(error.value).replace(str(root), "ROOT")


IMAGES = "data.images={file: images.csv, path: path, patient: who, date: day}"


def dated(root: Path, rows: list[tuple[str, str]]) -> None:
    """Write a small PNG for each patient and day, and the table of them."""
    for number in range(len(rows)):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
        cv2.imwrite(str(root / f"{number}.png"), pixels)
    names = [f"{number}.png" for number in range(len(rows))]
    table = pd.DataFrame(rows, columns=["who", "day"]).assign(path=names)
    table.to_csv(root / "images.csv", index=False)


class TestJoin:
    def test_the_default_screen(self, tmp_path: Path, radiograph: Radiograph) -> None:
        radiograph(tmp_path / "a.dcm")
        radiograph(tmp_path / "deep" / "b", PatientID="P2", StudyDate="20200320", PatientSex="M")
        write_echo(
            tmp_path,
            [
                {"lvef": "39", "ms_grade": "Moderate", "as_grade": "mild to moderate"},
                {
                    "patient_id": "P2",
                    "lvef": "40",
                    "mr_grade": "3+",
                    "ar_grade": "",
                    "tr_grade": "na",
                },
            ],
        )
        reading = read(tmp_path)
        assert reading.labels.names == (
            "low_ef", "mitral_stenosis", "aortic_stenosis", "mitral_regurgitation",
            "aortic_regurgitation", "tricuspid_regurgitation")  # fmt: skip
        table = by_file(reading)
        names = list(reading.labels.names)
        np.testing.assert_array_equal(table.loc["a", names].astype(float), [1, 1, 0, 0, 0, 0])
        np.testing.assert_array_equal(table.loc["b", names].astype(float), [0, 0, 0, 1, NAN, NAN])
        assert table["low_ef"].dtype == np.float32
        assert table["sex"].tolist() == ["F", "M"]
        assert table["age_years"].tolist() == [61, 61]
        assert table["view"].tolist() == ["PA", "PA"]

    def test_nearest_window_and_ties(self, tmp_path: Path, radiograph: Radiograph) -> None:
        for name, day in (("tie", 11), ("first", 1), ("second", 21), ("late", 26)):
            radiograph(tmp_path / f"{name}.dcm", StudyDate=f"202003{day:02d}")
        write_echo(
            tmp_path,
            [
                {"date": "2020-03-21", "lvef": "60"},
                {"date": "2020-03-01", "lvef": "20"},
            ],
        )
        table = by_file(read(tmp_path, "data.days_before=5", "data.days_after=10"))
        # "tie" lies 10 days from both, and only the later one is in the window
        assert table["low_ef"].to_dict() == {"first": 1, "late": 0, "second": 0, "tie": 0}
        both = by_file(read(tmp_path, "data.days_before=10", "data.days_after=10"))
        assert both.loc["tie", "low_ef"] == 1
        assert "late" not in by_file(read(tmp_path, "data.days_before=4")).index

    def test_of_one_day_the_last_examination_whole(
        self, tmp_path: Path, radiograph: Radiograph
    ) -> None:
        radiograph(tmp_path / "a.dcm")
        write_echo(tmp_path, [{"lvef": "20", "ms_grade": ""}, {"lvef": "", "ms_grade": "severe"}])
        reading = read(tmp_path)
        assert np.isnan(reading.table["low_ef"][0])
        assert reading.table["mitral_stenosis"][0] == 1
        assert any("the same patient and day come again" in note for note in reading.notes)

    def test_pictures_with_a_table(self, tmp_path: Path) -> None:
        write_echo(tmp_path, [{"patient_id": "007", "date": "31.12.2019"}])
        images = pd.DataFrame(
            {
                "picture": ["x/1.png", "x/2.png"],
                "who": ["007", "7"],
                "when": ["2020-01-02", "2020-01-02"],
                "position": ["PA", "PA"],
            }
        )
        images.to_parquet(tmp_path / "images.parquet")
        table = [
            "data.images={file: images.parquet, path: picture, patient: who, date: when, "
            "view: position}",
            "data.echo.date_format='%d.%m.%Y'",
        ]
        reading = read(tmp_path, *table)
        assert reading.table["image_path"].tolist() == [str(tmp_path / "x/1.png")]
        assert reading.table["view"].tolist() == ["PA"]
        assert [step.reason for step in reading.flow] == [
            "in the data set",
            "quality control (QualityControlImage is yes or both)",
            "raw detector data (PresentationIntentType is FOR PROCESSING)",
            "no examination of the patient",
            "no examination from 90 days before to 90 after",
            "none of the labels was measured",
        ]
        assert reading.flow[3].left_out == 1

    def test_an_echo_table_in_parquet_with_types_of_its_own(
        self, tmp_path: Path, radiograph: Radiograph
    ) -> None:
        for number in range(3):
            radiograph(tmp_path / f"{number}.dcm", PatientID=str(17 + number))
        rows: list[dict[str, object]] = [
            {"patient_id": "17", "lvef": "39", "ms_grade": "severe"},
            {"patient_id": "18", "lvef": "", "ms_grade": ""},
            {"patient_id": "19", "lvef": "55.5", "date": "2020-02-01"},
        ]
        write_echo(tmp_path, rows)
        text = pd.read_csv(tmp_path / "echo.csv", dtype=str)
        typed = text.assign(
            patient_id=text["patient_id"].astype("int64"),
            date=pd.to_datetime(text["date"]),
            lvef=pd.to_numeric(text["lvef"]),
            ms_grade=text["ms_grade"].astype("category"),
        )
        typed.to_parquet(tmp_path / "echo.parquet")
        expected = read(tmp_path)
        (tmp_path / "echo.csv").unlink()
        found = read(tmp_path, "data.echo.file=echo.parquet")
        pd.testing.assert_frame_equal(found.table, expected.table)
        np.testing.assert_array_equal(found.table["low_ef"], [1, NAN, 0])

    def test_a_word_that_is_no_grade_in_parquet(
        self, tmp_path: Path, radiograph: Radiograph
    ) -> None:
        radiograph(tmp_path / "a.dcm")
        write_echo(tmp_path, [{}, {"ms_grade": "modrate", "date": "2020-04-01"}])
        pd.read_csv(tmp_path / "echo.csv").to_parquet(tmp_path / "echo.parquet")
        assert "'modrate' (row 2)" in problem(tmp_path, "data.echo.file=echo.parquet")

    def test_png_and_jpeg_files_are_trained_on(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        images, echo = [], []
        for number in range(30):
            name = f"{number}.{('png', 'jpg', 'JPEG')[number % 3]}"
            pixels = generator.integers(0, 256, (20, 16), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / name), pixels)
            images.append({"file": name, "who": f"P{number}", "day": "2020-03-01", "how": "AP"})
            echo.append({"patient_id": f"P{number}", "lvef": 20 + number})
        pd.DataFrame(images).to_csv(tmp_path / "images.csv", index=False)
        write_echo(tmp_path, echo)
        config = configured(
            tmp_path,
            "data.images={file: images.csv, path: file, patient: who, date: day, view: how}",
            "data.image={size: 32}",
        )
        data = ChestXrayDataModule(config, AugmentConfig(name="none"), seed=0)
        assert len(data.prepare().table) == 30
        assert (data.cache.source_shape == (20, 16)).all()
        table = by_file(ehr.read_studies(config))
        assert table["low_ef"].to_dict() == {str(n): float(20 + n < 40) for n in range(30)}
        assert set(table["view"]) == {"AP"}

    def test_visits_are_days_since_the_first(self, tmp_path: Path, radiograph: Radiograph) -> None:
        for name, day in (("a", "20200301"), ("b", "20200311"), ("c", "20200305")):
            radiograph(tmp_path / f"{name}.dcm", StudyDate=day)
        write_echo(tmp_path, [{}])
        table = by_file(read(tmp_path))
        assert table["visit"].to_dict() == {"a": 0, "b": 10, "c": 4}
        assert table["labelled"].to_dict() == {"a": 0, "b": 0, "c": 0}

    def test_the_number_of_a_study_may_be_the_patients_own(self, tmp_path: Path) -> None:
        rows = [(who, day, name) for who in ("P1", "P2") for day, name in ((1, "1"), (2, "2"))]
        dated(tmp_path, [(who, f"2020-03-0{day}") for who, day, _ in rows])
        images = pd.read_csv(tmp_path / "images.csv")
        images.assign(study=[name for *_, name in rows]).to_csv(tmp_path / "images.csv")
        write_echo(tmp_path, [{"patient_id": "P1"}, {"patient_id": "P2"}])
        assert read(tmp_path, IMAGES, "data.images.study=study").table["study_id"].nunique() == 4


class TestFlow:
    def test_every_rule_is_named_and_counted(self, tmp_path: Path, radiograph: Radiograph) -> None:
        radiograph(tmp_path / "good.dcm")
        radiograph(tmp_path / "untagged.dcm", BodyPartExamined="", Modality=None)
        radiograph(tmp_path / "frames.dcm", NumberOfFrames=3)
        radiograph(tmp_path / "ct.dcm", Modality="CT")
        radiograph(tmp_path / "hand.dcm", BodyPartExamined="HAND")
        radiograph(tmp_path / "test.dcm", QualityControlImage="YES")
        radiograph(tmp_path / "raw.dcm", PresentationIntentType="FOR PROCESSING")
        radiograph(tmp_path / "poor.dcm")
        radiograph(tmp_path / "copy1.dcm", SOPInstanceUID="1.2.3")
        radiograph(tmp_path / "copy2.dcm", SOPInstanceUID="1.2.3")
        radiograph(tmp_path / "nobody.dcm", PatientID="")
        radiograph(tmp_path / "undated.dcm", StudyDate="")
        radiograph(tmp_path / "stranger.dcm", PatientID="P9")
        radiograph(tmp_path / "old.dcm", StudyDate="20100101")
        radiograph(tmp_path / "unmeasured.dcm", PatientID="P2")
        write_echo(tmp_path, [{}, {"patient_id": "P2", "lvef": "", **dict.fromkeys(GRADES, "na")}])
        names = sorted(path.name for path in tmp_path.glob("*.dcm"))
        quality = ["bad" if name == "poor.dcm" else "fine" for name in names]
        pd.DataFrame({"path": names, "quality": quality}).to_csv(tmp_path / "i.csv", index=False)
        reading = read(
            tmp_path,
            "data.images.file=i.csv",
            "data.select.exclude={poor quality: {column: quality, equals: bad}, quality control: "
            '{column: QualityControlImage, equals: ["yes"]}, raw: {column: PresentationIntentType, '
            "equals: FOR PROCESSING}}",
        )
        assert [(step.reason, step.left_out) for step in reading.flow] == [
            ("in the data set", 0),
            ("several frames in one file", 1),
            ("modality is not CR, DX, DR, RG", 1),
            ("body part is not CHEST, THORAX, LUNG", 1),
            ("poor quality (quality is bad)", 1),
            ("quality control (QualityControlImage is yes)", 1),
            ("raw (PresentationIntentType is FOR PROCESSING)", 1),
            ("copy of a file above", 1),
            ("no patient id", 1),
            ("no date", 1),
            ("no examination of the patient", 1),
            ("no examination from 90 days before to 90 after", 1),
            ("none of the labels was measured", 1),
        ]
        assert sorted(by_file(reading).index) == ["copy1", "good", "untagged"]
        assert reading.flow[-1].images == 3
        assert reading.flow[0].patients == 3
        for note in ("modality left out: CT 1", "body part left out: HAND 1",
                     "modality not given, kept: 1", "body part not given, kept: 1"):  # fmt: skip
            assert note in reading.notes
        assert "untagged" not in by_file(
            read(tmp_path, "data.images.file=i.csv", "data.select.require_tags=true")
        )

    def test_wrong_views_are_reported(self, tmp_path: Path, radiograph: Radiograph) -> None:
        radiograph(tmp_path / "a.dcm", ViewPosition="XX")
        radiograph(tmp_path / "b.dcm", ViewPosition="LL")
        radiograph(tmp_path / "c.dcm", ViewPosition="")
        radiograph(tmp_path / "d.dcm", ViewPosition=None)
        write_echo(tmp_path, [{}])
        reading = read(tmp_path)
        assert by_file(reading)["view"].to_dict() == {
            "a": "UNKNOWN", "b": "LATERAL", "c": "UNKNOWN", "d": "UNKNOWN"}  # fmt: skip
        assert "view not understood, so unknown: 'XX' 1" in reading.notes
        assert "view not given, so unknown: 2" in reading.notes

    def test_a_date_that_is_not_understood_is_not_repeated(
        self, tmp_path: Path, radiograph: Radiograph
    ) -> None:
        radiograph(tmp_path / "a.dcm")
        with pytest.warns(UserWarning, match="Invalid value for VR DA"):
            radiograph(tmp_path / "b.dcm", StudyDate="2020.05.17")
        write_echo(tmp_path, [{}])
        assert "date not understood, so unknown: '9999.99.99' 1" in read(tmp_path).notes

    def test_unreadable_headers(self, tmp_path: Path, radiograph: Radiograph) -> None:
        radiograph(tmp_path / "a.dcm")
        (tmp_path / "b.dcm").write_bytes(b"<html>please sign in</html>" * 30)
        write_echo(tmp_path, [{}])
        text = problem(tmp_path)
        assert re.search(r"1 of 2 files cannot be used:\n  - ROOT/b\.dcm: (not an|damaged)", text)
        reading = read(tmp_path, "data.on_bad_image=skip")
        assert (reading.flow[1].reason, reading.flow[1].left_out) == ("unreadable DICOM header", 1)


class TestFiles:
    """Every file of an archive is looked at, or said to be left out."""

    def test_names_that_end_in_a_part_of_a_uid(
        self, tmp_path: Path, radiograph: Radiograph
    ) -> None:
        radiograph(tmp_path / "a.dcm")
        radiograph(tmp_path / "CR.1.2.840.78", PatientID="P2")
        radiograph(tmp_path / "1.3.6.1.79", PatientID="P3", Modality="CT")
        write_echo(tmp_path, [{"patient_id": f"P{number}"} for number in (1, 2, 3)])
        reading = read(tmp_path)
        assert reading.flow[0].images == 3
        assert len(reading.table) == 2
        (said,) = (note for note in reading.notes if "passed over" in note)
        assert said.endswith(": 1 .csv")

    def test_links_are_followed(self, tmp_path: Path, radiograph: Radiograph) -> None:
        root = tmp_path / "root"
        radiograph(root / "a.dcm")
        radiograph(tmp_path / "2019" / "b.dcm")
        (root / "2019").symlink_to(tmp_path / "2019")
        (root / "self").symlink_to(root)
        write_echo(root, [{}])
        assert len(read(root).table) == 2

    def test_folders_that_cannot_be_listed(
        self, tmp_path: Path, radiograph: Radiograph, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        radiograph(tmp_path / "a.dcm")
        radiograph(tmp_path / "ward" / "b.dcm")
        write_echo(tmp_path, [{}])
        listed = os.scandir

        def scandir(path: str) -> object:
            if str(path).endswith("ward"):
                raise PermissionError(13, "Permission denied", str(path))
            return listed(path)

        monkeypatch.setattr(os, "scandir", scandir)
        text = problem(tmp_path)
        assert "folders whose files cannot be listed:\n  - ROOT/ward: Permission denied" in text

    def test_what_is_dicom_but_damaged_is_refused(
        self, tmp_path: Path, radiograph: Radiograph
    ) -> None:
        radiograph(tmp_path / "a.dcm")
        (tmp_path / "README").write_text("not a picture")
        (tmp_path / "b").write_bytes(bytes(128) + b"DICM")
        write_echo(tmp_path, [{}])
        text = problem(tmp_path)
        assert "ROOT/b" in text
        assert "README" not in text
        reading = read(tmp_path, "data.on_bad_image=skip")
        assert len(reading.table) == 1
        assert "files without a suffix that are no DICOM: 1" in reading.notes


class TestLeaks:
    """`marker` is what an input would be; each record says when it was written."""

    def test_inputs_come_from_before_the_radiograph(
        self, tmp_path: Path, radiograph: Radiograph
    ) -> None:
        start = date(2020, 3, 1)
        for offset in range(-3, 12, 2):
            day = start + timedelta(days=offset)
            radiograph(tmp_path / f"{offset}.dcm", StudyDate=f"{day:%Y%m%d}")
        write_echo(tmp_path, [{}])
        records = [
            {"patient_id": "P1", "date": start + timedelta(days=day), "marker": day}
            for day in range(0, 20, 3)
        ]
        pd.DataFrame(records).to_csv(tmp_path / "records.csv", index=False)
        options = ["data.inputs.file=records.csv", "data.tabular_columns=[marker]"]
        found = by_file(read(tmp_path, *options))["marker"]
        days = found.index.astype(int)
        np.testing.assert_array_equal(
            found, [(day - 1) // 3 * 3 if day > 0 else NAN for day in days]
        )
        same = by_file(read(tmp_path, *options, "data.same_day_inputs=true"))["marker"]
        assert same["3"] == 3  # that day's record, on request only
        assert found["3"] == 0
        assert (same.dropna() <= same.dropna().index.astype(int)).all()

    def test_a_planted_leak_is_not_used(self, tmp_path: Path, radiograph: Radiograph) -> None:
        """After the radiograph a column holds the label itself; before, noise."""
        generator = np.random.default_rng(0)
        echo, records = [], []
        for number in range(60):
            person, ill = f"P{number}", bool(generator.integers(2))
            radiograph(tmp_path / f"{number}.dcm", PatientID=person)
            echo.append({"patient_id": person, "lvef": 20 if ill else 60, "date": "2020-03-05"})
            for day, value in (("2020-02-01", generator.random()), ("2020-03-02", float(ill))):
                records.append({"patient_id": person, "date": day, "leak": value})
        write_echo(tmp_path, echo)
        pd.DataFrame(records).to_csv(tmp_path / "records.csv", index=False)
        table = read(tmp_path, "data.inputs.file=records.csv", "data.tabular_columns=[leak]").table
        assert table["leak"].notna().all()
        assert not table["leak"].isin((0, 1)).any()
        assert abs(np.corrcoef(table["leak"], table["low_ef"])[0, 1]) < 0.4

    def test_inputs_of_the_echo_table_are_older_than_its_labels(
        self, tmp_path: Path, radiograph: Radiograph
    ) -> None:
        radiograph(tmp_path / "before.dcm", StudyDate="20200310")
        radiograph(tmp_path / "after.dcm", StudyDate="20200220", PatientID="P2")
        write_echo(
            tmp_path,
            [
                {"date": "2020-03-01", "lvef": "20", "size": 7},  # labels "before": not an input
                {"date": "2019-01-01", "lvef": "60", "size": 5},
                {"patient_id": "P2", "date": "2020-03-01", "lvef": "20", "size": 7},
                {"patient_id": "P2", "date": "2020-01-01", "lvef": "60", "size": 4},
            ],
        )
        table = by_file(read(tmp_path, "data.tabular_columns=[size]", "data.days_before=30"))
        assert table["low_ef"].to_dict() == {"after": 1, "before": 1}
        assert table["size"].to_dict() == {"after": 4, "before": 5}

    def test_the_echo_table_by_a_second_name(self, tmp_path: Path, radiograph: Radiograph) -> None:
        """It gives away no more than by its first one."""
        radiograph(tmp_path / "before.dcm", StudyDate="20200310")
        write_echo(
            tmp_path,
            [
                {"date": "2020-03-01", "lvef": "20", "size": 7},
                {"date": "2019-01-01", "lvef": "60", "size": 5},
            ],
        )
        (tmp_path / "linked.csv").symlink_to("echo.csv")
        for name in ("echo.csv", "./echo.csv", "linked.csv"):
            words = ("data.tabular_columns=[size]", f"data.inputs.file={name}")
            assert by_file(read(tmp_path, *words))["size"].to_dict() == {"before": 5}

    @pytest.mark.parametrize("mixed", [False, True])
    def test_previous_labels_were_measured_before(self, tmp_path: Path, mixed: bool) -> None:
        """Films on three days, examinations after them: what was not known yet is no input."""
        patients = [f"P{number}" for number in range(8)]
        days = ("2024-01-01", "2024-01-31", "2024-03-20")
        dated(tmp_path, [(who, day) for who in patients for day in days])
        write_echo(tmp_path, [
            {"patient_id": who, "date": day, "lvef": 30 if number % 2 == low else 60}
            for number, who in enumerate(patients)
            for day, low in (("2024-02-10", 1), ("2024-03-25", 0))
        ])  # fmt: skip
        words = [f"data.root={tmp_path}", "data.echo.file=echo.csv", IMAGES]
        if mixed:
            own = [word.replace("data.", "data.ehr.", 1) for word in words]
            mix = ["data=mix", "data.sources=[nih,ehr]", "data.root=null", "data.nih.root=phantom"]
            small = ["data.phantom.images=60", "data.phantom.pixels=64"]
            words = [*mix, *small, *own]
        else:
            words = ["data=ehr", *words]
        data = compose([*words, "data.tabular=[previous_labels]"]).data
        table = build_cohort(data).table
        if mixed:
            # Labels of a report are known at their own visit, as without a hospital beside them.
            nih = table[table["source"] == "nih"]
            assert nih["labelled"].isna().all()
            first = nih["visit"] == nih.groupby("patient_id")["visit"].transform("min")
            assert (nih["previous/visit"] == 1 - first).all()
            table = table[table["source"] == "ehr"]
        table = table.sort_values(["patient_id", "visit"])
        assert table["visit"].tolist() == [0, 30, 79] * 8
        assert table["labelled"].tolist() == [40, 40, 84] * 8
        # On day 30 nothing had been measured; on day 79 what the examination of day 40 had shown.
        assert table["previous/visit"].tolist() == [0, 0, 1] * 8
        told = table["previous/low_ef"].to_numpy().reshape(8, 3)
        assert np.isnan(told[:, :2]).all()
        np.testing.assert_array_equal(told[:, 2], 1 - table["low_ef"].to_numpy()[2::3])
        with pytest.raises(ConfigError, match="'labelled'"):
            fit_tabular(table, ["labelled"], LabelSpace(("low_ef",)))

    def test_the_measurement_behind_a_label_is_no_column(
        self, tmp_path: Path, radiograph: Radiograph
    ) -> None:
        radiograph(tmp_path / "a.dcm")
        write_echo(tmp_path, [{}])
        assert set(read(tmp_path).table) == {
            "sample_id", "image_path", "patient_id", "study_id", "view", "split", "age_years",
            "sex", "visit", "labelled", *configured(tmp_path).targets}  # fmt: skip

    def test_words_as_inputs(self, tmp_path: Path, radiograph: Radiograph) -> None:
        radiograph(tmp_path / "a.dcm")
        write_echo(tmp_path, [{}])
        records = {"patient_id": ["P1"], "date": ["2020-01-01"], "rhythm": ["Atrial Fibrillation"]}
        pd.DataFrame(records).to_csv(tmp_path / "r.csv", index=False)
        reading = read(tmp_path, "data.inputs.file=r.csv", "data.tabular_columns=[rhythm]")
        assert reading.table["rhythm"].tolist() == ["atrial-fibrillation"]


class TestIdentity:
    def test_nothing_of_a_person_is_in_the_table(
        self, tmp_path: Path, radiograph: Radiograph
    ) -> None:
        file = radiograph(tmp_path / "a.dcm", StudyInstanceUID="1.2.840.77")
        uid = f"1.2.{int.from_bytes(b'x')}"
        radiograph(tmp_path / "b.dcm", SOPInstanceUID=uid, PatientID="P1")
        write_echo(tmp_path, [{}])
        reading = read(tmp_path)
        shown = reading.table.drop(columns="image_path").to_csv() + repr(reading.notes)
        shown += repr(reading.flow)
        for secret in ("P1", "Doe", "2020", "1.2.840.77", uid, file.name):
            assert secret not in shown
        assert reading.table["patient_id"].nunique() == 1
        again = read(tmp_path)
        pd.testing.assert_frame_equal(reading.table, again.table)

    def test_another_salt_gives_other_names(self, tmp_path: Path, radiograph: Radiograph) -> None:
        radiograph(tmp_path / "a.dcm")
        write_echo(tmp_path, [{}])
        salt = tmp_path / "salt"
        salt.write_text("a long enough sentence")
        salt.chmod(0o600)
        own, other = read(tmp_path).table, read(tmp_path, f"data.salt_file={salt}").table
        assert not set(own["patient_id"]) & set(other["patient_id"])

    def test_the_key_leads_back(self, tmp_path: Path, radiograph: Radiograph) -> None:
        radiograph(tmp_path / "a.dcm")
        write_echo(tmp_path, [{}])
        reading = read(tmp_path, f"data.key_file={tmp_path / 'key.csv'}")
        key = pd.read_csv(tmp_path / "key.csv", dtype=str)
        assert key["patient"].tolist() == ["P1"]
        assert key["sample_id"].tolist() == reading.table["sample_id"].tolist()


class TestMessages:
    def test_everything_that_is_missing_at_first(self, tmp_path: Path) -> None:
        text = problem(tmp_path / "nowhere", "data.echo.file=null", "data.targets={}")
        assert text.startswith("data.root=ROOT: there is no such folder\ndata.echo.file: required")
        assert "data.targets: required" in text

    def test_no_radiographs(self, tmp_path: Path) -> None:
        write_echo(tmp_path, [{}])
        assert "ROOT: no radiographs; looked for files without a suffix" in problem(tmp_path)

    def test_pictures_without_a_table(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").touch()
        write_echo(tmp_path, [{}])
        assert "data.images.file: required; 1 files are PNG or JPEG" in problem(tmp_path)
        (tmp_path / "i.csv").write_text("path\na.png\n")
        text = problem(tmp_path, "data.images.file=i.csv")
        assert "data.images.patient=COLUMN and data.images.date=COLUMN" in text

    def test_columns_that_are_not_there(self, tmp_path: Path, radiograph: Radiograph) -> None:
        radiograph(tmp_path / "a.dcm")
        write_echo(tmp_path, [{}])
        text = problem(tmp_path, "data.targets.low_ef.column=lvfe", "data.tabular_columns=[bmi]")
        assert text.startswith("ROOT/echo.csv: missing column(s) lvfe, bmi; it has: patient_id,")
        assert "Did you mean 'lvef'? Asked for by data.tabular_columns, data.targets.low_ef" in text
        assert "an id or date is no input" in problem(tmp_path, "data.tabular_columns=[date]")

    def test_all_that_is_not_understood_of_the_echo_table(
        self, tmp_path: Path, radiograph: Radiograph
    ) -> None:
        radiograph(tmp_path / "a.dcm")
        write_echo(
            tmp_path,
            [
                {"date": "1/3/2020"},
                {"lvef": "35-40", "ms_grade": "modrate"},
                {"lvef": "", "ms_grade": "modrate", "tr_grade": "+++"},
            ],
        )
        text = problem(tmp_path)
        assert text.startswith(
            "ROOT/echo.csv: what is not understood\n"
            "date must be dates (2024-05-31, 20240531, or as date_format says):\n"
            "  - '1/3/2020' (line 2)\n"
            "lvef must be numbers:\n  - '35-40' (line 3)\n"
            "ms_grade has words that are not among the grades:\n  - 'modrate' (lines 3, 4)\n"
        )
        assert "tr_grade has words that are not among the grades:\n  - '+++' (line 4)" in text

    def test_ids_that_are_written_differently(self, tmp_path: Path, radiograph: Radiograph) -> None:
        radiograph(tmp_path / "a.dcm", PatientID="00017")
        write_echo(tmp_path, [{"patient_id": "17"}])
        text = problem(tmp_path)
        assert "no examination of the patient: 1 left out, 0 remain" in text
        assert "without leading zeros 1 of 1 would be" in text
        write_echo(tmp_path, [{"patient_id": "AB-1"}])
        text = problem(tmp_path)
        assert "ids look like '99999' here and like 'AA-9' there" in text
        assert "00017" not in text

    def test_headers_without_dates(self, tmp_path: Path, radiograph: Radiograph) -> None:
        radiograph(tmp_path / "a.dcm", StudyDate="")
        write_echo(tmp_path, [{}])
        text = problem(tmp_path)
        assert "no date: 1 left out, 0 remain" in text
        assert text.endswith("data.images.patient and data.images.date.")

    def test_files_that_are_passed_over(self, tmp_path: Path, radiograph: Radiograph) -> None:
        radiograph(tmp_path / "a")
        (tmp_path / "LICENSE").write_text("as is " * 100)
        write_echo(tmp_path, [{}])
        reading = read(tmp_path)
        assert reading.flow[0].images == 1
        assert reading.notes[:2] == (
            "files that are no images by their name were passed over: 1 .csv",
            "files without a suffix that are no DICOM: 1",
        )

    def test_rules_over_columns_that_are_not_there(
        self, tmp_path: Path, radiograph: Radiograph
    ) -> None:
        radiograph(tmp_path / "a.dcm")
        write_echo(tmp_path, [{}])
        text = problem(tmp_path, "data.select.exclude={poor: {column: Modalty, equals: x}}")
        assert "  - poor: column 'Modalty'. Did you mean 'Modality'?" in text

    def test_a_grade_that_is_not_in_the_order(self, tmp_path: Path) -> None:
        with pytest.raises(
            ValidationError, match=r"targets\.mitral_stenosis: 'modrate' is not among"
        ):
            configured(tmp_path, "data.targets.mitral_stenosis.at_least=modrate")

    def test_inputs_with_the_name_of_a_label(self, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match="low_ef, view: the name is taken"):
            configured(tmp_path, "data.tabular_columns=[low_ef,view]")

    def test_a_column_of_mostly_numbers(self, tmp_path: Path, radiograph: Radiograph) -> None:
        for number in range(4):
            radiograph(tmp_path / f"{number}.dcm", PatientID=f"P{number}", StudyDate="20200301")
        rows = [{"patient_id": f"P{n}", "bnp": value} for n, value in enumerate((1, 2, 3, "<5"))]
        write_echo(tmp_path, rows)
        text = problem(tmp_path, "data.tabular_columns=[bnp]")
        assert "bnp is mostly numbers:\n  - '<5' (line 5)" in text


@pytest.mark.parametrize("word", ["patient=PatientID", "date=day", "path=x", "date_format=%Y"])
def test_columns_without_a_table(tmp_path: Path, radiograph: Radiograph, word: str) -> None:
    radiograph(tmp_path / "a.dcm")
    write_echo(tmp_path, [{}])
    form = "'%Y%m%d'" if word.startswith("date_format") else word.partition("=")[2]
    key = word.partition("=")[0]
    text = problem(tmp_path, f"data.images.{key}={form}")
    assert text.startswith(f"data.images.{key}: about columns of a table")


def test_targets_with_names_of_the_study_table(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="targets: sex, visit: the name is taken"):
        configured(
            tmp_path,
            "data.targets.sex={column: lvef, below: 40}",
            "data.targets.visit={column: lvef, below: 40}",
        )


def test_the_cohort_is_split_by_hashed_patients(tmp_path: Path, radiograph: Radiograph) -> None:
    rows = []
    for number in range(30):
        radiograph(tmp_path / f"{number}.dcm", PatientID=f"P{number // 2}")
        rows.append({"patient_id": f"P{number // 2}", "lvef": 20 + 30 * (number % 4 // 2)})
    write_echo(tmp_path, rows)
    cohort = build_cohort(configured(tmp_path, "data.tabular=[age_years,sex,previous_labels]"))
    assert cohort.table.groupby("patient_id")["split"].nunique().eq(1).all()
    assert cohort.flow[-1].reason == "view is not PA or AP or UNKNOWN"


def test_the_command_line_says_what_is_wrong() -> None:
    with pytest.raises(ConfigError) as error:
        compose(["data=ehr", "data.targets.low_ef={colum: lvef, below: 40}", "data.days_befor=3"])
    assert "data.days_befor (command line): no such key. Did you mean 'days_before'?" in str(
        error.value
    )
    assert "data.targets.low_ef" in str(error.value)
    assert compose(["data=ehr", "data.targets.low_ef.below=35"]).data.targets["low_ef"].below == 35
