"""Every data module, found by its `Config`, keeps the same contract on its phantom layout."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import yaml

import cxr_lightning.data
from cxr_lightning.config.compose import compose
from cxr_lightning.config.schema import AugmentConfig, Config, DataConfig
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.reading import STRATUM, Reading
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.studies import (
    COLUMNS,
    SPLITS,
    audit_leakage,
    fingerprint,
    label_array,
    split_by_patient,
    validate_studies,
)

NAMES = sorted(
    file.stem
    for file in Path(cxr_lightning.data.__path__[0]).glob("*.py")
    if "\nclass Config(" in file.read_text(encoding="utf-8")
)
CONF = Path(__file__).parents[2] / "conf" / "data"
SMALL = ["data.phantom.images=120", "data.phantom.pixels=64"]
IMAGE = ["data.image.size=32"]


def overrides(name: str, phantom_root: Path) -> list[str]:
    """Return the choice of a small phantom in the layout of a data module."""
    special = {
        "phantom": [f"data.root={phantom_root}", "data.images=160", "data.phantom_seed=3",
                    "data.pixels=64"],
        "mix": ["data.sources=[nih,chexpert]", "data.root=phantom", *SMALL],
    }  # fmt: skip
    return [f"data={name}", *special.get(name, ["data.root=phantom", *SMALL]), *IMAGE]


def composed(name: str, phantom_root: Path, more: Sequence[str] = ()) -> DataConfig:
    config: Config = compose([*overrides(name, phantom_root), *more])
    return config.data


@pytest.fixture(scope="module")
def readings(phantom_root: Path) -> dict[str, Reading]:
    """What each module reads; made when first asked for."""
    return {}


@pytest.fixture
def module(name: str) -> ModuleType:
    return importlib.import_module(f"cxr_lightning.data.{name}")


@pytest.fixture
def config(name: str, phantom_root: Path) -> DataConfig:
    return composed(name, phantom_root)


@pytest.fixture
def reading(
    name: str, module: ModuleType, config: DataConfig, readings: dict[str, Reading]
) -> Reading:
    if name not in readings:
        readings[name] = module.read_studies(config)
    return readings[name]


def test_the_contract_finds_all_modules() -> None:
    shipped = {"chexpert", "ehr", "mimic_cxr", "mix", "nih", "phantom", "table"}
    assert shipped <= set(NAMES)
    # By three ways of finding one: none is passed over because it is written in another way.
    files = Path(cxr_lightning.data.__path__[0]).glob("*.py")
    readers = {
        file.stem
        for file in files
        if hasattr(importlib.import_module(f"cxr_lightning.data.{file.stem}"), "read_studies")
    }
    named = {
        str(yaml.safe_load(file.read_text(encoding="utf-8"))["name"])
        for file in CONF.glob("*.yaml")
    }
    assert readers == named == set(NAMES)


def test_every_module_has_a_configuration_and_every_configuration_a_module() -> None:
    assert {file.stem for file in CONF.glob("*.yaml")} >= set(NAMES)
    for file in CONF.glob("*.yaml"):
        assert file.read_text(encoding="utf-8").startswith("# "), f"{file.name}: what is it?"


_IDS = ["sample_id", "patient_id", "split"]


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_config(self, name: str, module: ModuleType, config: DataConfig) -> None:
        assert type(config) is module.Config
        assert config.name == name
        assert module.__doc__
        assert module.Config.__doc__
        assert {"Config", "read_studies"} <= set(module.__all__)
        for field, info in module.Config.model_fields.items():
            nested = field in ("image", "sampling") or hasattr(info.annotation, "model_fields")
            assert info.description or nested, f"data.{field} is not described"

    def test_table(self, reading: Reading) -> None:
        table = reading.table
        assert [column for column in COLUMNS if column not in table] == []
        assert len(table) > 20
        assert table["sample_id"].is_unique
        assert set(table["split"]) <= {"", "train_val", *SPLITS}
        assert table["age_years"].dtype == np.float64
        assert all(Path(path).is_absolute() for path in table["image_path"])
        for column in ("sample_id", "patient_id", "study_id"):
            assert all(type(value) is str for value in table[column]), column

    def test_labels(self, reading: Reading) -> None:
        values = label_array(reading.table, reading.labels)
        assert np.isin(values[~np.isnan(values)], (0, 1, -1)).all()
        assert (values == 1).any()
        assert (values == 0).any()
        for label in reading.labels.names:
            assert reading.table[label].dtype == np.float32

    def test_labels_in_the_order_that_is_asked_for(
        self, name: str, module: ModuleType, phantom_root: Path, reading: Reading
    ) -> None:
        chosen = reading.labels.names[1::-1]
        config = composed(name, phantom_root, [f"data.labels=[{','.join(chosen)}]"])
        again = module.read_studies(config)
        assert again.labels.names == chosen
        expected = reading.table[["sample_id", *chosen]].set_index("sample_id")
        found = again.table[["sample_id", *chosen]].set_index("sample_id")
        pd.testing.assert_frame_equal(found, expected, check_like=True)

    def test_the_flow_adds_up(self, reading: Reading) -> None:
        steps = reading.flow
        if steps:
            assert steps[0].left_out == 0
            for before, step in pairwise(steps):
                assert before.images - step.left_out == step.images
            assert steps[-1].images == len(reading.table)
            assert steps[-1].patients == reading.table["patient_id"].nunique()

    def test_cohort(self, config: DataConfig) -> None:
        cohort = build_cohort(config)
        validate_studies(cohort.table, cohort.labels)
        assert audit_leakage(cohort.table).clean
        assert build_cohort(config).fingerprint == cohort.fingerprint

    def test_split_by_patient(self, name: str, phantom_root: Path, reading: Reading) -> None:
        cohort = build_cohort(composed(name, phantom_root, ["data.split=patient"]))
        assert audit_leakage(cohort.table).clean
        assert all(len(cohort.rows(split)) for split in SPLITS)
        fractions = {"train": 0.5, "val": 0.2, "test": 0.3}
        halves = split_by_patient(reading.table, fractions, labels=reading.labels, seed=1)
        assert fingerprint(halves, reading.labels) != cohort.fingerprint

    def test_a_split_does_not_depend_on_the_labels_that_are_chosen(
        self, name: str, phantom_root: Path, reading: Reading
    ) -> None:
        if name in ("ehr", "table"):
            pytest.skip("its labels are the user's own: it knows none but those that are chosen")
        words = ["data.split=patient"]
        whole = build_cohort(composed(name, phantom_root, words)).table
        for label in reading.labels.names[:2]:
            one = build_cohort(composed(name, phantom_root, [*words, f"data.labels=[{label}]"]))
            pd.testing.assert_frame_equal(one.table[_IDS], whole[_IDS])
            assert not any(str(column).startswith(STRATUM) for column in one.table)

    def test_images_of_a_study_agree(self, reading: Reading) -> None:
        # Scoring per study rests on it.
        names = ["patient_id", *reading.labels.names]
        assert (reading.table.groupby("study_id")[names].nunique() <= 1).all(axis=None)

    def test_prepare(self, config: DataConfig) -> None:
        data = ChestXrayDataModule(config, AugmentConfig(name="none"), seed=0)
        cohort = data.prepare()
        assert (data.cache.source_shape == (64, 64)).all()
        assert len(data.cache.rows) == len(cohort.table)

    def test_a_missing_image_is_reported_with_its_path(
        self, module: ModuleType, config: DataConfig, reading: Reading,
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    ) -> None:  # fmt: skip
        # The phantoms are shared between tests: the table is damaged in their stead.
        table = reading.table.copy()
        lost = str(tmp_path / "lost.png")
        table.loc[3, "image_path"] = lost
        damaged = Reading(table, reading.labels, reading.flow)
        monkeypatch.setattr(module, "read_studies", lambda config: damaged)
        data = ChestXrayDataModule(config, AugmentConfig(name="none"), seed=0)
        with pytest.raises(DataError, match=r"1 of .* images cannot be used") as caught:
            data.prepare()
        assert lost in str(caught.value)
        skipping = config.model_copy(update={"on_bad_image": "skip"})
        data = ChestXrayDataModule(skipping, AugmentConfig(name="none"), seed=0)
        assert data.prepare().flow[-1].left_out == 1

    def test_a_missing_root(self, name: str, module: ModuleType, tmp_path: Path) -> None:
        if name == "phantom":
            pytest.skip("the phantom is written where its root is missing")
        nowhere = tmp_path / "nowhere"
        config = compose([f"data={name}", f"data.root={nowhere}"]).data
        with pytest.raises(ConfigError):
            module.read_studies(config)

    def test_no_root(self, name: str, module: ModuleType) -> None:
        if name == "phantom":
            pytest.skip("the phantom needs none")
        with pytest.raises(ConfigError, match=r"data\.\w+: required"):
            module.read_studies(compose([f"data={name}"]).data)
