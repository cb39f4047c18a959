"""Headers of DICOM files: every tag, in every encoding, several processes or one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from cxr_lightning.data import dicom_headers
from cxr_lightning.data.dicom_headers import PROBLEM, TAGS, read_headers

Radiograph = Callable[..., Path]


def test_tags_as_pydicom_reads_them(tmp_path: Path, radiograph: Radiograph) -> None:
    file = radiograph(
        tmp_path / "a.dcm",
        StudyInstanceUID="1.2.840.7",
        NumberOfFrames=1,
        BodyPartExamined="CHEST ",
        PatientBirthDate="19590102",
    )
    found = read_headers([str(file)]).iloc[0]
    whole = dcmread(file)
    assert found.to_dict() == {
        **{tag: str(whole.get(tag, "")).strip() for tag in TAGS},
        PROBLEM: "",
    }
    assert (found["Rows"], found["PatientAge"], found["SOPClassUID"]) == (
        "8", "061Y", "1.2.840.10008.5.1.4.1.1.1.1")  # fmt: skip


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_uncompressed_encodings(tmp_path: Path, radiograph: Radiograph, syntax: UID) -> None:
    plain = radiograph(tmp_path / "a.dcm", SOPInstanceUID="1.2.3")
    other = radiograph(tmp_path / "b.dcm", SOPInstanceUID="1.2.3", syntax=syntax)
    both = read_headers([str(plain), str(other)])
    assert both.iloc[0].to_dict() == both.iloc[1].to_dict()


def test_ids_in_other_letters(tmp_path: Path, radiograph: Radiograph) -> None:
    file = radiograph(tmp_path / "a.dcm", SpecificCharacterSet="ISO_IR 192", PatientID="Müller-7")
    assert read_headers([str(file)])["PatientID"].tolist() == ["Müller-7"]


def test_the_view_code_stands_in_for_the_view(tmp_path: Path, radiograph: Radiograph) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "272479007", "SCT"
    code.CodeMeaning = "postero-anterior"
    file = radiograph(tmp_path / "a.dcm", ViewPosition="", ViewCodeSequence=[code])
    assert read_headers([str(file)])["ViewPosition"].tolist() == ["postero-anterior"]


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "page.dcm").write_bytes(b"<html>sign in</html>" * 40)
    (tmp_path / "empty.dcm").touch()
    names = ("page.dcm", "empty.dcm", "absent.dcm")
    problems = read_headers([str(tmp_path / name) for name in names])[PROBLEM]
    assert all(problems)
    assert problems[2] == "cannot be read (No such file or directory)"


def test_by_several_processes(
    tmp_path: Path, radiograph: Radiograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [str(radiograph(tmp_path / f"{n}.dcm", PatientID=f"P{n}")) for n in range(7)]
    alone = read_headers(files)
    assert alone["PatientID"].tolist() == [f"P{n}" for n in range(7)]
    monkeypatch.setattr(dicom_headers, "INLINE", 2)
    pd.testing.assert_frame_equal(read_headers(files, processes=2), alone)


def test_no_files() -> None:
    assert read_headers([]).columns.tolist() == [*TAGS, PROBLEM]


def test_the_real_files(shared_data: Path) -> None:
    files = sorted((shared_data / "dicom").glob("*.dcm"))
    found = read_headers([str(file) for file in files]).set_index(pd.Index([f.stem for f in files]))
    assert not found[PROBLEM].any()
    assert found["BodyPartExamined"]["udacity_test4"] == "RIBCAGE"
    assert found["Modality"].to_dict() == {
        name: "CT" if name == "udacity_test5" else "DX" for name in found.index
    }
