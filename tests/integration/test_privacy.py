"""Nothing of a person leaves the hospital's own folder, whatever its files are called."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from pydicom import dcmread

from cxr_lightning.cli import run_verb
from cxr_lightning.config.compose import compose
from cxr_lightning.phantom.layouts.ehr import write_ehr_phantom
from cxr_lightning.prepare import main as prepare
from cxr_lightning.training import run_fit

SECRET = re.compile(rb"MRN-|Doe\^|2\.25\.\d{9}|(?<![\w.])20\d\d-?\d\d-?\d\d(?!\w)")
"""A patient's id (in the name of each file too), a name, a UID of the phantom, and any date."""

SKIP = ["data.on_bad_image=skip", "data.on_duplicate=skip", "data.image.size=32"]
EHR = [
    "data=ehr",
    "data.images={file: images.csv, path: file}",
    "data.inputs.file=examinations.csv",
    "data.tabular_columns=[bnp]",
    "data.tabular=[age_years,bnp]",
    "data.labels=[low_ef]",
    *SKIP,
]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom with ids that occur nowhere by chance, in the names of its files too."""
    drawn, root = tmp_path_factory.mktemp("drawn") / "data", tmp_path_factory.mktemp("archive")
    write_ehr_phantom(drawn, images=200, seed=1, size=32, processes=1, progress=False)
    rows = []
    for file, quality in pd.read_csv(drawn / "images.csv").itertuples(index=False):
        made = dcmread(drawn / str(file))
        made.PatientID = f"MRN-{made.PatientID}"
        made.PatientName = f"Doe^Jane {made.PatientID}"
        name = f"{made.PatientID}_{made.StudyDate}_{made.SOPInstanceUID[-8:]}.dcm"
        made.save_as(root / name)
        rows.append({"file": name, "quality": quality, "who": made.PatientID})
    for start in range(0, len(rows) - 3, 20):
        cut, copied, other = (root / row["file"] for row in rows[start : start + 3])
        cut.write_bytes(cut.read_bytes()[:-200])
        twin, header = dcmread(copied), dcmread(other, stop_before_pixels=True)
        for tag in ("PatientID", "SOPInstanceUID", "StudyInstanceUID", "StudyDate"):
            setattr(twin, tag, header[tag].value)
        twin.save_as(other)  # identical pixels, of another patient by the header
    images = pd.DataFrame(rows).assign(poor=[int(row["quality"] == "poor") for row in rows])
    images.drop(columns="who").to_csv(root / "images.csv", index=False)
    images.to_csv(root / "table.csv", index=False)
    for name in ("echo.csv", "examinations.csv"):
        records = pd.read_csv(drawn / name, dtype=str, keep_default_na=False)
        records["patient_id"] = "MRN-" + records["patient_id"]
        records.to_csv(root / name, index=False)
    return root


@pytest.fixture(scope="module")
def days(hospital: Path) -> set[bytes]:
    """Every date of the headers and tables, in both ways of writing it."""
    found: set[str] = set()
    for file in hospital.glob("*.dcm"):
        found.add(str(dcmread(file, stop_before_pixels=True, force=True).get("StudyDate", "")))
    for name in ("echo.csv", "examinations.csv"):
        found |= set(pd.read_csv(hospital / name, dtype=str)["date"].str.replace("-", ""))
    assert len(found) > 300
    dashed = {f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in found}
    return {day.encode() for day in (found | dashed) - {""}}


def leaks(folder: Path, days: set[bytes], *, since: float = 0) -> list[str]:
    """Return which files below a folder hold a name, id, UID or date, in their names or inside.

    Files that were last written before `since` are passed over.
    """
    found = []
    files = (path for path in folder.rglob("*") if path.is_file())
    for file in sorted(path for path in files if path.stat().st_mtime >= since):
        content = str(file.relative_to(folder)).encode() + b"\n" + file.read_bytes()
        if file.suffix == ".parquet":  # compressed
            content += pd.read_parquet(file).to_csv().encode()
        hits = [hit[0] for hit in SECRET.finditer(content)]
        if hits := [hit for hit in hits if not hit.startswith(b"20") or hit in days]:
            found.append(f"{file.relative_to(folder)}: {hits[0]!r}")
    return found


def test_the_search_finds_what_is_there(hospital: Path, days: set[bytes]) -> None:
    assert len(leaks(hospital, days)) == len(list(hospital.iterdir()))


def test_a_run_on_a_hospital_s_files(
    hospital: Path,
    days: set[bytes],
    store: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Predictions, report, bundle, checkpoints, MLflow, audit and cache."""
    monkeypatch.chdir(tmp_path)
    started = hospital.stat().st_mtime
    words = [*EHR, f"data.root={hospital}", "data.cache_dir=cache"]
    assert run_verb(prepare, [*words, "--output", "audit"]) == 0
    small = ["model.options={channels: [8, 16], convs_per_block: 1}", "trainer=cpu", "augment=none"]
    small += ["trainer.threads=1", "trainer.max_epochs=1", "evaluation.replicates=20"]
    small += [f"run.tracking_uri={store}"]
    run_fit(compose([*words, *small, "data.batch_size=16", "run.dir=run"]))
    (tmp_path / "said.txt").write_text("".join(capfd.readouterr()))
    audit = (tmp_path / "audit" / "audit.json").read_text()
    assert "truncated DICOM" in audit  # what was planted did come up
    assert "in more than one split" in audit
    for made in ("predictions_test.parquet", "report.html", "bundle.safetensors", "config.yaml"):
        assert (tmp_path / "run" / made).is_file()
    tracked = Path(store.removeprefix("sqlite:///")).parent
    assert list(tracked.rglob("predictions_test.parquet"))
    assert leaks(tmp_path, days) == []
    assert leaks(tracked, days, since=started) == []


def test_an_audit_of_a_table_of_them(
    hospital: Path, days: set[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["data=table", f"data.csv={hospital / 'table.csv'}", "data.image=file"]
    words += ["data.patient=who", "data.labels=[poor]", "data.cache_dir=cache", *SKIP]
    assert run_verb(prepare, [*words, "--output", "audit"]) in (0, 1)
    audit = (tmp_path / "audit" / "audit.json").read_text()
    assert "truncated DICOM" in audit
    assert "modality is not CR, DX, DR, RG" in audit
    assert leaks(tmp_path, days) == []
