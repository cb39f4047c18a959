"""What `prepare` counts, worked out by hand: uncertain and blank labels, contradictions, people."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cxr_lightning.cli import run_verb
from cxr_lightning.prepare import main

LABELS = ("No Finding", "Edema", "Pneumonia", "Support Devices")
# sex, age, view, (height, width), cells of the four labels; a row is an image of patient 1, 2, ...
TRAIN = [
    ("Male", 68, "AP", (40, 50), ("", "1.0", "-1.0", "1.0")),
    ("Female", 50, "PA", (40, 50), ("1.0", "", "", "1.0")),
    ("Female", 40, "PA", (40, 50), ("1.0", "1.0", "0.0", "")),  # both no finding and edema
    ("Unknown", 0, "PA", (64, 64), ("", "-1.0", "1.0", "0.0")),
    ("Male", 130, "LL", (64, 64), ("", "0.0", "1.0", "")),
]
VALID = [
    ("Male", 61, "AP", (64, 48), ("1.0", "0.0", "0.0", "0.0")),
    ("Male", 62, "AP", (64, 48), ("0.0", "1.0", "0.0", "1.0")),
]


def write_chexpert(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, first, rows in (("train", 1, TRAIN), ("valid", 101, VALID), ("test", 201, VALID)):
        lines = [f"Path,Sex,Age,Frontal/Lateral,AP/PA,{','.join(LABELS)}"]
        for number, (sex, age, view, shape, cells) in enumerate(rows, start=first):
            path = f"{split}/patient{number:05d}/study1/view1_frontal.jpg"
            lines.append(f"CheXpert-v1.0/{path},{sex},{age},Frontal,{view},{','.join(cells)}")
            (root / path).parent.mkdir(parents=True)
            cv2.imwrite(str(root / path), rng.integers(0, 256, shape, np.uint8))
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return root


def prepare(out: Path, *words: str) -> dict:  # type: ignore[type-arg]
    assert run_verb(main, [*words, "data.image.size=32", "--output", str(out)]) == 0
    return json.loads((out / "audit.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def chexpert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chexpert(tmp_path_factory.mktemp("chexpert"))


def counts(audit: dict, label: str, split: str = "train") -> list[float | None]:  # type: ignore[type-arg]
    return list(audit["labels"][label][split].values())


@pytest.fixture(scope="module")
def audit(chexpert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:  # type: ignore[type-arg]
    words = ["data=chexpert", f"data.root={chexpert}", "data.blank=unknown"]
    words.append(f"data.labels=[{','.join(LABELS)}]")
    return prepare(tmp_path_factory.mktemp("audit"), *words)


class TestCheXpert:
    def test_the_four_values(self, audit: dict, chexpert: Path, tmp_path: Path) -> None:  # type: ignore[type-arg]
        # positive, negative, uncertain, unknown (blank), positives among the known
        assert counts(audit, "Edema") == [2, 1, 1, 1, 2 / 3]
        assert counts(audit, "Pneumonia") == [2, 1, 1, 1, 2 / 3]
        assert counts(audit, "Support Devices") == [2, 1, 0, 2, 2 / 3]
        assert counts(audit, "No Finding") == [2, 3, 0, 0, 2 / 5]
        assert counts(audit, "Edema", "val") == [1, 1, 0, 0, 1 / 2]
        words = ["data=chexpert", f"data.root={chexpert}", "data.labels=[Edema,Pneumonia]"]
        negative = prepare(tmp_path, *words)
        assert counts(negative, "Edema") == [2, 2, 1, 0, 1 / 2]

    def test_what_is_positive_together(self, audit: dict) -> None:  # type: ignore[type-arg]
        # over all splits: five images of training, and the two of validation and of test
        assert audit["positive_together"] == {
            "No Finding": dict(zip(LABELS, (4, 1, 0, 1), strict=True)),
            "Edema": dict(zip(LABELS, (1, 4, 0, 3), strict=True)),
            "Pneumonia": dict(zip(LABELS, (0, 0, 2, 0), strict=True)),
            "Support Devices": dict(zip(LABELS, (1, 3, 0, 4), strict=True)),
        }

    def test_no_finding_beside_a_finding(self, audit: dict) -> None:  # type: ignore[type-arg]
        # Devices are no finding: the second image of training contradicts nothing.
        said = "images are positive for No Finding and for a finding: Edema (1)"
        assert said in audit["warnings"]

    def test_people(self, audit: dict) -> None:  # type: ignore[type-arg]
        train, whole = audit["table_one"]["train"], audit["table_one"]["all"]
        assert train["patients"] == train["images"] == "5"
        assert train["age in years, median (quartiles)"] == "50 (45-59)"  # of 40, 50 and 68
        assert (train["age not known"], whole["age not known"]) == ("2 (40.0%)", "2 (22.2%)")
        assert "2 image(s) state an age of 0 or over 120: it is unknown" in audit["notes"]
        assert (train["female"], train["male"]) == ("2 (40.0%)", "2 (40.0%)")
        assert train["sex not known"] == "1 (20.0%)"
        assert (train["view PA"], train["view AP"]) == ("3 (60.0%)", "1 (20.0%)")
        assert train["view not known"] == "1 (20.0%)"

    def test_sizes(self, audit: dict) -> None:  # type: ignore[type-arg]
        sizes = {(one["width"], one["height"]): one["images"] for one in audit["sizes"]}
        assert sizes == {(50, 40): 3, (64, 64): 2, (48, 64): 4}
        assert audit["sizes"][0]["images"] == 4
        assert audit["images"]["small"] == audit["images"]["elongated"] == []


def write_table(root: Path) -> Path:
    """Twelve patients with a finding, a number and a word, some of them missing."""
    rng = np.random.default_rng(1)
    lines = ["file,pid,mass,bnp,ward,part"]
    for number in range(12):
        name = f"{number}.png"
        cv2.imwrite(str(root / name), rng.integers(0, 256, (32, 32 + number % 2), np.uint8))
        mass = ("1", "0", "")[number % 3]
        bnp = "" if number % 4 == 0 else str(100 + number)
        ward = "UNKNOWN" if number == 1 else ("ICU", "")[number % 2]
        part = ("train", "val", "test")[number // 6 + (number >= 9)]
        lines.append(f"{name},{number},{mass},{bnp},{ward},{part}")
    (root / "images.csv").write_text("\n".join(lines) + "\n")
    return root / "images.csv"


class TestTable:
    def words(self, file: Path, *more: str) -> list[str]:
        return [
            "data=table", f"data.csv={file}", "data.image=file", "data.patient=pid",
            "data.labels=[mass]", "data.split_column=part", *more,
        ]  # fmt: skip

    def test_missing_labels_and_inputs(self, tmp_path: Path) -> None:
        file = write_table(tmp_path)
        audit = prepare(tmp_path / "out", *self.words(file, "data.tabular=[bnp,ward]"))
        # Of mass every third says nothing; of bnp every fourth, that is 0, 4 and 8.
        assert counts(audit, "mass") == [2, 2, 0, 2, 1 / 2]
        train, whole = audit["table_one"]["train"], audit["table_one"]["all"]
        assert (train["bnp missing"], whole["bnp missing"]) == ("2 (33.3%)", "3 (25.0%)")
        # odd ones are blank, or say that it is not known
        assert (train["ward missing"], whole["ward missing"]) == ("3 (50.0%)", "6 (50.0%)")
        page = (tmp_path / "out" / "audit.html").read_text()
        assert "bnp missing" in page
        assert {(one["width"], one["images"]) for one in audit["sizes"]} == {(32, 6), (33, 6)}

    def test_what_reading_would_refuse_is_part_of_the_audit(self, tmp_path: Path) -> None:
        file = write_table(tmp_path)
        (tmp_path / "2.png").unlink()
        page = b"<html>please sign in</html>" * 30
        (tmp_path / "8.dcm").write_bytes(page)
        file.write_text(file.read_text().replace("8.png", "8.dcm"))
        words = [*self.words(file), "data.image.size=32", "--output", str(tmp_path / "out")]
        assert run_verb(main, words) == 1
        audit = json.loads((tmp_path / "out" / "audit.json").read_text())
        bad = [
            "1 image(s) are missing or unreadable",
            "1 image(s) are refused by their headers (unreadable DICOM header)",
        ]
        left_out = "data.on_bad_image=skip would leave them out"
        assert audit["invalid"] == [f"{one}; {left_out}" for one in bad]
        assert [one["reason"] for one in audit["images"]["bad"]] == ["missing"]
        skipped = prepare(tmp_path / "out", *self.words(file, "data.on_bad_image=skip"))
        assert {f"{one} and are left out" for one in bad} <= set(skipped["warnings"])

    def test_an_input_that_a_fit_would_refuse(
        self, chexpert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["data=chexpert", f"data.root={chexpert}", "data.labels=[Edema]"]
        words += ["data.tabular=[veiw]", "--output", str(tmp_path / "out")]
        assert run_verb(main, words) == 2
        assert "'veiw'. Did you mean 'view'?" in capsys.readouterr().err
