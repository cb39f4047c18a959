"""Patients whose ids were hashed with another salt: said, and refused where it matters."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxr_lightning import evaluate, explain
from cxr_lightning.assessment.models import open_target
from cxr_lightning.bundle import BundleInfo, read_bundle_info, save_bundle
from cxr_lightning.cli import run_verb
from cxr_lightning.config.compose import compose
from cxr_lightning.config.schema import ImageConfig, ModelConfig
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.seen import seen_patients
from cxr_lightning.evaluation.thresholds import Thresholds
from cxr_lightning.models.network import build_network


def test_another_salt_leaves_no_patient_unseen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {}
    for name in ("own", "other"):
        salt = tmp_path / name
        salt.write_text(name * 16)
        salt.chmod(0o600)
        words[name] = ["data=ehr", "data.root=phantom", "data.phantom.images=60",
                       "data.phantom.pixels=64", f"data.salt_file={salt}"]  # fmt: skip
    data = {name: compose(one).data for name, one in words.items()}
    model = ModelConfig(name="simple_cnn", options={"channels": [4, 8], "convs_per_block": 1})
    labels, path = ("low_ef",), tmp_path / "model" / "bundle.safetensors"
    cohort = build_cohort(data["own"].model_copy(update={"labels": labels}))
    info = BundleInfo(
        labels=labels,
        model=model,
        image=ImageConfig(size=32),
        thresholds=Thresholds(labels, (0.5,), (True,), "f1"),
        provenance={"data": "ehr", "fingerprint": cohort.fingerprint},
        seen=seen_patients(cohort, data["own"]),
    )
    path.parent.mkdir()
    save_bundle(path, build_network(model, info.image, labels), info)
    info = read_bundle_info(path)
    own, other = (open_target(info, data[name]) for name in ("own", "other"))
    assert own.trained_on
    assert own.seen is not None
    assert own.notes == ()
    assert other.seen is None
    assert "the fingerprints differ" in other.notes[0]
    assert "data.salt_file" in other.notes[0]
    for verb, out in ((evaluate.main, "output"), (explain.main, "output")):
        given = [f"bundle={path}", *words["other"], "split=unseen", f"{out}={tmp_path / 'o'}"]
        assert run_verb(verb, given) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "split=unseen: " in said
        assert "hashed with another salt than in its training" in said
        assert "data.salt_file" in said
        assert not (tmp_path / "o").exists()
