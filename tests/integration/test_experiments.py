"""Each named experiment in a small form: its own network, loss and data set, for two steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cxr_lightning.cli import run_verb
from cxr_lightning.config.compose import compose
from cxr_lightning.config.groups import choices, shipped_conf
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.nih import LABELS
from cxr_lightning.fit import main

SMALLER = [
    "model.pretrained=false",
    "data.image.size=64",
    "trainer=cpu",
    "trainer.threads=1",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "evaluation.replicates=10",
    "evaluation.report=false",
]
IMAGES = {
    "phantom": ["data.images=160", "data.pixels=64"],
    "ehr": ["data.phantom.images=300", "data.phantom.pixels=64"],
    "chexpert": ["data.phantom.images=300", "data.phantom.pixels=64"],
}
NAMES = choices("experiment", [shipped_conf()])


@pytest.mark.parametrize("name", NAMES)
def test_it_trains(name: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = compose([f"experiment={name}"])
    words = [f"experiment={name}", *SMALLER, *IMAGES[config.data.name]]
    words += [f"run.tracking_uri={store}", "run.dir=run", "data.workers=0", "data.batch_size=8"]
    if config.data.name == "phantom":
        words += ["data.labels=[Effusion,Infiltration,Atelectasis]"]  # of few images
    if config.model.unfreeze_epoch:
        words += ["model.unfreeze_epoch=null"]
    if config.data.max_patients:
        words += ["data.max_patients=null"]
    assert run_verb(main, words) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())


def test_what_the_published_systems_need_is_set() -> None:
    """A few of the settings that make each what it is, so that a change is noticed."""
    echo = compose(["experiment=echo_screening"])
    assert (echo.model.freeze, echo.model.head.kind, echo.loss.name) == (
        "backbone", "per_label", "bce",
    )  # fmt: skip
    assert echo.loss.average == "labels"  # type: ignore[attr-defined]
    assert echo.augment.horizontal_flip == 0.5
    fusion = compose(["experiment=demographic_fusion"])
    assert fusion.data.tabular == ("age_years", "sex", "view", "previous_labels")
    assert (fusion.model.head.fusion, fusion.model.head.hidden) == ("gated", (256, 256))
    assert (fusion.optim.name, fusion.optim.lr, fusion.trainer.patience) == ("adam", 1e-4, 3)
    assert (fusion.model.freeze, fusion.model.unfreeze_epoch) == ("backbone", 3)
    thresholds = compose(["experiment=resnet50_thresholds"])
    assert (thresholds.model.freeze, thresholds.optim.lr) == ("all_but_last_3", 1e-5)
    assert (thresholds.evaluation.threshold, thresholds.trainer.max_epochs) == ("f1", 5)
    hpo = compose(["experiment=densenet_hpo"])
    assert (hpo.model.name, hpo.model.pretrained) == ("densenet121", False)
    assert hpo.loss.weighting == "frequency"  # type: ignore[attr-defined]
    assert len(compose(["experiment=pathology_subset"]).data.labels or ()) == 5


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_the_real_files(name: str, shared_data: Path) -> None:
    """All but those of another layout, whose files are not there."""
    words = [
        f"experiment={name}",
        "data=nih",
        f"data.root={shared_data / 'nih_dev'}",
        "data.max_patients=null",
    ]
    config = compose([f"experiment={name}"])
    if config.data.name != "phantom":
        pytest.skip(f"data={config.data.name}: another layout")
    cohort = build_cohort(compose([*words, "data.split=patient"]).data)
    assert len(cohort.table) == 999
    assert set(cohort.labels.names) <= set(LABELS.names)
