"""A synthetic hospital: DICOM in every encoding shows what was drawn, tables follow the hearts."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from pydicom import dcmread

from cxr_lightning.cli import run_verb
from cxr_lightning.config.compose import compose
from cxr_lightning.data import ehr, table
from cxr_lightning.data.dicom import read_dicom
from cxr_lightning.data.images import read_image
from cxr_lightning.phantom import make_cohort, render
from cxr_lightning.phantom.dicom_files import ENCODINGS, Encoding, make_uid, write_dicom
from cxr_lightning.phantom.heart import (
    DISEASES,
    ejection_fraction,
    heart_severities,
    with_heart_disease,
)
from cxr_lightning.phantom.layouts.ehr import write_ehr_phantom
from cxr_lightning.phantom.layouts.table import COLUMNS, write_table_phantom
from cxr_lightning.prepare import main as prepare

IMAGES, SEED, SIZE = 260, 1, 32


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ehr") / "data"
    write_ehr_phantom(root, images=IMAGES, seed=SEED, size=SIZE, processes=1, progress=False)
    return root


class TestDicomFiles:
    @pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda one: f"{one.syntax} {one.bits}")
    def test_every_encoding_shows_the_picture(self, tmp_path: Path, encoding: Encoding) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (36, 40), dtype=np.uint8)
        grey = cv2.GaussianBlur(noise, (0, 0), 3) if encoding.syntax == "JPEG" else noise
        grey[0, :2] = 0, 255
        write_dicom(tmp_path / "x.dcm", grey, encoding, {"PatientID": "7", "SOPInstanceUID": "1.2"})
        shown = read_dicom(tmp_path / "x.dcm").astype(int)
        apart = np.abs(shown - grey)
        if encoding.syntax == "JPEG":
            assert apart.mean() < 1
        else:
            assert apart.max() <= 1
        written = dcmread(tmp_path / "x.dcm")
        assert ("LossyImageCompression" in written) == (encoding.syntax == "JPEG")
        assert written.BitsStored == encoding.bits
        assert written.PixelRepresentation == encoding.signed
        assert written.PhotometricInterpretation == f"MONOCHROME{1 if encoding.inverted else 2}"
        assert written.PatientID == "7"
        assert written.SOPInstanceUID == "1.2"

    def test_they_are_of_seven_transfer_syntaxes(self, hospital: Path) -> None:
        files = sorted(hospital.rglob("*.dcm"))
        syntaxes = Counter(dcmread(file).file_meta.TransferSyntaxUID.name for file in files[:60])
        assert len(syntaxes) == 7

    def test_uids_are_valid_and_follow_their_address(self) -> None:
        assert make_uid(1, 2) == make_uid(1, 2) != make_uid(12)
        assert len(make_uid("x")) <= 64


class TestHearts:
    def test_shares(self) -> None:
        people = [heart_severities(0, patient, 0) for patient in range(1, 3001)]
        for name, share in DISEASES.items():
            assert np.mean([one[name] >= 0.5 for one in people]) == pytest.approx(share, abs=0.03)

    def test_a_weak_ventricle_is_one_below_forty_percent(self) -> None:
        assert ejection_fraction(0.46) > 42
        assert ejection_fraction(0.55) < 40
        assert 15 < ejection_fraction(1.0) < 25

    def test_each_disease_changes_the_picture_where_it_should(self) -> None:
        case = next(case for case in make_cohort(40, 0) if case.view == "PA" and not case.labels)
        healthy = dict.fromkeys(DISEASES, 0.0)
        plain = render(with_heart_disease(case, healthy), size=64).astype(int)
        np.testing.assert_array_equal(plain, render(case, size=64))
        brighter = {}
        for name in ("as", "tr", "ms"):
            shown = render(with_heart_disease(case, healthy | {name: 0.9}), size=64).astype(int)
            where = shown - plain > 25
            assert where.any()
            brighter[name] = np.argwhere(where).mean(axis=0)
        assert brighter["as"][0] < brighter["tr"][0]  # the aorta lies above the atrium
        assert brighter["tr"][1] < 32 < brighter["ms"][1]  # the right atrium is on the left


class TestTables:
    def test_layout(self, hospital: Path) -> None:
        assert {path.name for path in hospital.iterdir()} == {
            "radiographs", "images.csv", "echo.csv", "examinations.csv", "README.txt",
            "phantom.json"}  # fmt: skip
        images = pd.read_csv(hospital / "images.csv")
        assert len(images) == len(list(hospital.rglob("*.dcm"))) == IMAGES
        assert (images["quality"] == "poor").sum() > 2
        assert not list(hospital.rglob("*.png"))
        assert "SYNTHETIC" in (hospital / "README.txt").read_text()

    def test_words_are_of_several_spellings_and_all_known(self, hospital: Path) -> None:
        echo = pd.read_csv(hospital / "echo.csv", dtype=str, keep_default_na=False)
        words = set(pd.unique(echo.filter(like="_grade").to_numpy().ravel()))
        assert {"moderate", "Moderate", "2+", "", "not assessed"} <= words
        assert 0 < (echo["tr_grade"].isin(["", "n/a", "not assessed"])).mean() < 0.5

    def test_the_same_files_again_and_at_the_start_of_more(
        self, hospital: Path, tmp_path: Path
    ) -> None:
        for images in (60, 40):
            write_ehr_phantom(
                tmp_path / str(images), images=images, seed=SEED, size=SIZE, processes=2,
                progress=False,
            )  # fmt: skip
        for file in (tmp_path / "40").rglob("*.dcm"):
            relative = file.relative_to(tmp_path / "40")
            assert file.read_bytes() == (tmp_path / "60" / relative).read_bytes()
            assert file.read_bytes() == (hospital / relative).read_bytes()


class TestPrepare:
    """What a hospital's export holds besides radiographs is counted in the audit's flow."""

    def test_files_that_are_no_radiographs_are_in_the_flow(
        self, hospital: Path, tmp_path: Path
    ) -> None:
        root = Path(shutil.copytree(hospital, tmp_path / "data"))
        files = sorted((root / "radiographs").rglob("*.dcm"))
        for file in files[:3]:
            film = dcmread(file)
            film.NumberOfFrames = 5
            film.save_as(root / f"film {file.name}")
        for file in files[10:14]:
            shutil.copy(file, root / f"copy of {file.name}")
        (root / "page.dcm").write_bytes(b"<html>please sign in</html>" * 30)
        found = sorted(str(file.relative_to(root)) for file in root.rglob("*.dcm"))
        quality = pd.read_csv(root / "images.csv").set_index("file")["quality"]
        images = pd.DataFrame({"file": found, "quality": quality.reindex(found, fill_value="good")})
        images.to_csv(root / "images.csv", index=False)
        words = ["data=ehr", f"data.root={root}", "data.images={file: images.csv, path: file}"]
        words += ["data.select.exclude.poor={column: quality, equals: poor}", "data.image.size=32"]
        assert run_verb(prepare, [*words, "--output", str(tmp_path / "out")]) == 1
        invalid = json.loads((tmp_path / "out" / "audit.json").read_text())["invalid"]
        assert invalid == [
            "1 image(s) are refused by their headers (unreadable DICOM header); "
            "data.on_bad_image=skip would leave them out"
        ]
        words += ["data.on_bad_image=skip", "--output", str(tmp_path / "out")]
        assert run_verb(prepare, words) == 0
        audit = json.loads((tmp_path / "out" / "audit.json").read_text())
        left_out = {step["reason"]: step["left_out"] for step in audit["flow"]}
        assert audit["flow"][0]["images"] == IMAGES + 3 + 4 + 1
        assert left_out["unreadable DICOM header"] == 1
        assert left_out["several frames in one file"] == 3
        assert left_out["copy of a file above"] == 4
        for before, step in pairwise(audit["flow"]):
            assert before["images"] - step["left_out"] == step["images"]
        assert list(left_out)[1:4] == [
            "unreadable DICOM header",
            "several frames in one file",
            "modality is not CR, DX, DR, RG",
        ]
        page = (tmp_path / "out" / "audit.html").read_text()
        for reason, count in left_out.items():
            assert (reason in page) == (count > 0 or reason == "in the data set")
        assert "view not given, so unknown: " in page


@pytest.fixture(scope="module")
def phantom_options() -> list[str]:
    return [f"data.phantom={{images: {IMAGES}, seed: {SEED}, pixels: {SIZE}}}"]


class TestReading:
    def test_the_hospital_by_the_default_configuration(self, phantom_options: list[str]) -> None:
        words = ["data=ehr", "data.root=phantom", "data.tabular_columns=[qrs_ms,bnp]"]
        config = compose([*words, *phantom_options]).data
        assert isinstance(config, ehr.Config)
        reading = ehr.read_studies(config)
        reasons = {step.reason: step.left_out for step in reading.flow}
        for reason in (
            "modality is not CR, DX, DR, RG",
            "body part is not CHEST, THORAX, LUNG",
            "poor quality (quality is poor)",
            "no examination of the patient",
            "no examination from 90 days before to 90 after",
        ):
            assert reasons[reason] > 0
        studies = reading.table
        assert set(studies["view"]) == {"PA", "AP", "LATERAL", "UNKNOWN"}
        for name in reading.labels.names:
            known = studies[name].dropna()
            assert 0.05 < known.mean() < 0.4
            assert studies[name].isna().any()
        assert not any(read_image(path).std() < 5 for path in studies["image_path"][:30])
        known = studies[["qrs_ms", "low_ef"]].dropna()
        assert np.corrcoef(known["qrs_ms"], known["low_ef"])[0, 1] > 0.7
        again = ehr.read_studies(config)
        pd.testing.assert_frame_equal(again.table, studies)

    def test_a_plain_table(self, phantom_options: list[str]) -> None:
        config = compose(["data=table", "data.root=phantom", *phantom_options]).data
        assert isinstance(config, table.Config)
        reading = table.read_studies(config)
        assert reading.labels.names == tuple(COLUMNS)
        assert len(reading.table) == IMAGES
        assert (reading.table[list(COLUMNS)] == -1).any().all()
        assert reading.table["visit"].notna().all()
        by_name = {case.image_index: case for case in make_cohort(IMAGES, SEED)}
        assert len(by_name) == IMAGES
        assert read_image(reading.table["image_path"][0]).shape == (SIZE, SIZE)

    def test_a_plain_table_by_its_findings(self, phantom_options: list[str]) -> None:
        words = ["data=table", "data.root=phantom", "data.findings=diagnoses", "data.separator=';'"]
        config = compose([*words, "data.no_finding=[normal]", *phantom_options]).data
        reading = table.read_studies(config)
        assert {"Effusion", "Mass"} < set(reading.labels.names)
        assert "normal" not in reading.labels.names

    def test_a_table_says_what_was_drawn(self, tmp_path: Path) -> None:
        root = tmp_path / "data"
        write_table_phantom(root, images=50, seed=SEED, size=SIZE, processes=1, progress=False)
        rows = pd.read_csv(root / "radiographs.csv", keep_default_na=False)
        cases = make_cohort(50, SEED)
        for name, finding in COLUMNS.items():
            truth = np.array([finding in case.labels for case in cases])
            said = rows[name].isin(["yes", "no"]).to_numpy()
            np.testing.assert_array_equal((rows[name] == "yes")[said], truth[said])
            assert said.mean() > 0.75
        np.testing.assert_array_equal(
            read_image(root / "pictures" / f"{rows['file'][3]}.png"), render(cases[3], size=SIZE)
        )
