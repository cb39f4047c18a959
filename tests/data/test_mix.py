"""Several data sets as one: labels merged by hand, and every source as it would be alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cxr_lightning.assessment.options import EvaluateOptions
from cxr_lightning.config.compose import compose, config_from_file, config_to_yaml
from cxr_lightning.config.compose_verbs import compose_data
from cxr_lightning.config.schema import AugmentConfig, DataConfig
from cxr_lightning.data import chexpert, nih
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.cohort import Cohort, build_cohort
from cxr_lightning.data.mix_labels import Member, merge_labels
from cxr_lightning.data.report_labels import LABELS as CHEXPERT
from cxr_lightning.data.targets import training_targets
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.labels import LabelSpace
from cxr_lightning.losses import bce
from cxr_lightning.losses.base import build_loss
from cxr_lightning.studies import SPLITS

SMALL = ["data.phantom.images=120", "data.phantom.pixels=64", "data.image.size=32"]
BOTH = ["data=mix", "data.sources=[nih,chexpert]", *SMALL]


def members(**labels: Sequence[str]) -> dict[str, Member]:
    return {name: Member(name, LabelSpace(tuple(found))) for name, found in labels.items()}


class TestLabels:
    def test_one_meaning_is_one_label_by_its_first_name(self) -> None:
        labels, matches = merge_labels(
            members(nih=["Effusion", "Mass"], chexpert=["Pleural Effusion", "Fracture"])
        )
        assert labels.names == ("Effusion", "Mass", "Fracture")
        assert [one.sources for one in matches["nih"]] == [("Effusion",), ("Mass",), ()]
        assert [one.sources for one in matches["chexpert"]] == [
            ("Pleural Effusion",), (), ("Fracture",)
        ]  # fmt: skip
        assert [one.target for one in matches["chexpert"]] == list(labels.names)

    def test_a_label_of_several_is_known_where_all_are(self) -> None:
        labels, matches = merge_labels(members(nih=["Mass", "Nodule"], chexpert=["Lung Lesion"]))
        assert labels.names == ("Mass", "Nodule", "Lung Lesion")
        assert matches["nih"][2].sources == ("Mass", "Nodule")
        assert [one.sources for one in matches["chexpert"]] == [(), (), ("Lung Lesion",)]
        _, matches = merge_labels(members(nih=["Mass"], chexpert=["Lung Lesion"]))
        assert matches["nih"][1].sources == ()

    def test_the_order_of_sources_decides_on_names_alone(self) -> None:
        there, _ = merge_labels({"n": Member("nih", nih.LABELS), "c": Member("chexpert", CHEXPERT)})
        back, _ = merge_labels({"c": Member("chexpert", CHEXPERT), "n": Member("nih", nih.LABELS)})
        # 14 and 14, of which 7 are the same.
        assert len(there) == len(back) == 21
        assert set(there.names) ^ set(back.names) == {"Effusion", "Pleural Effusion"}

    def test_caution_is_kept(self) -> None:
        _, matches = merge_labels(members(nih=["Pneumonia"], chexpert=["Pneumonia"]))
        assert [one[0].degree for one in matches.values()] == ["same", "caution"]

    def test_a_source_is_the_same_as_itself_alone(self) -> None:
        hospital = LabelSpace(("low_ef",))
        both = {"here": Member("ehr", hospital), "there": Member("ehr", hospital)}
        labels, matches = merge_labels(both)
        assert labels.names == ("low_ef",)
        assert [one[0].degree for one in matches.values()] == ["same", "caution"]

    def test_a_third_source_joins_by_any_name(self) -> None:
        labels, matches = merge_labels(
            members(nih=["Effusion"], chexpert=["Pleural Effusion"], own=["Pleural Effusion"])
        )
        assert labels.names == ("Effusion",)
        assert matches["own"][0].sources == ("Pleural Effusion",)
        assert matches["own"][0].degree == "caution"


class TestConfiguration:
    def test_it_survives_its_file(self, tmp_path: Path) -> None:
        config = compose([*BOTH, "data.nih.root=/n", "data.chexpert.uncertain=ones"])
        file = tmp_path / "config.yaml"
        file.write_text(config_to_yaml(config))
        assert config_from_file(file) == config
        changed = compose(["data.chexpert.blank=unknown", "data.batch_size=5"], config_file=file)
        parts = changed.data.parts  # type: ignore[attr-defined]
        assert (parts["chexpert"].blank, parts["chexpert"].uncertain) == ("unknown", "ones")
        assert changed.data.batch_size == 5

    def test_a_source_has_the_defaults_of_its_file(self) -> None:
        config = compose(["data=mix", "data.sources=[ehr,mimic_cxr]"]).data
        alone = compose(["data=ehr"]).data
        ehr = config.parts["ehr"]  # type: ignore[attr-defined]
        assert type(ehr) is type(alone)
        assert ehr.targets == alone.targets  # type: ignore[attr-defined]
        assert config.kinds == ("ehr", "mimic_cxr")

    def test_choices_of_ones_own(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        for name in "ab":
            (tmp_path / "data" / f"site_{name}.yaml").write_text(
                f"name: table\ncsv: /{name}.csv\nbatch_size: 7\n"
            )
        words = ["data=mix", "data.sources=[site_a,site_b]", "data.site_b.image=file"]
        config = compose(words, config_dir=tmp_path).data
        parts = config.parts  # type: ignore[attr-defined]
        assert [str(part.csv) for part in parts.values()] == ["/a.csv", "/b.csv"]
        assert parts["site_b"].image_column == "file"
        assert config.batch_size == 32

    def test_verbs_that_take_a_bundle(self) -> None:
        words = [*BOTH[:2], "data.chexpert.root=/c", "bundle=[b.safetensors]"]
        _, config = compose_data(words, EvaluateOptions)
        assert str(config.parts["chexpert"].root) == "/c"  # type: ignore[attr-defined]
        with pytest.raises(ConfigError, match=r"data\.nih\.rot \(command line\): no such key"):
            compose_data([*words, "data.nih.rot=/n"], EvaluateOptions)

    def test_every_mistake_is_told_at_once(self) -> None:
        with pytest.raises(ConfigError) as error:
            compose(
                [*BOTH, "data.nih.rot=/x", "data.chexpert.projection=front", "data.workers=-1",
                 "data.nih.batch_size=3", "data.chexprt.root=/x"]
            )  # fmt: skip
        text = str(error.value)
        assert "5 problems" in text
        assert "data.nih.rot (command line): no such key. Did you mean 'root'?" in text
        assert "data.chexpert.projection=front (command line): must be one of" in text
        assert "data.workers=-1 (command line): must be greater than" in text
        assert (
            "data.nih.batch_size (command line): set once for the whole mix, by data.batch_size"
            in text
        )
        assert "data.chexprt (command line): no such key. Did you mean 'chexpert'?" in text

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["data.sources=[nih,chexprt]"], "no choice of data. Did you mean 'chexpert'?"),
            (["data.sources=[nih,mix]"], "'mix' is no choice of data"),
            (["data.sources=[nih,phantom]"], "take any other source, with data.NAME.root=phantom"),
            (["data.sources=[nih]"], "two or more different data sets make a mix"),
            (["data.sources=[nih,nih]"], "two or more different data sets make a mix"),
            (["data.sources=nih"], "data.sources=nih (command line): must be a list"),
            (["data.uncertain=ones"], "are set for each source, e.g. data.chexpert.uncertain=ones"),
            (["data.chexpert=3"], "a source is a section of keys, e.g. data.chexpert.root=FOLDER"),
            (["data.chexpert.uncertain=three_class"], "three_class and loss=three_class go toge"),
            (["data.nih.uncertain=self_trained"], "and first_model=FILE"),
        ],
    )
    def test_mistakes(self, words: list[str], said: str) -> None:
        with pytest.raises(ConfigError) as error:
            compose([*BOTH, *words])
        assert said in str(error.value)


@pytest.fixture(scope="module")
def words(phantom_root: Path) -> list[str]:
    return [*BOTH, f"data.nih.root={phantom_root}", "data.chexpert.root=phantom"]


@pytest.fixture(scope="module")
def config(words: list[str]) -> DataConfig:
    return compose([*words, "data.chexpert.uncertain=ones", "data.chexpert.blank=unknown"]).data


@pytest.fixture(scope="module")
def cohort(config: DataConfig) -> Cohort:
    return build_cohort(config)


class TestCohort:
    def test_every_source_is_as_it_would_be_alone(self, cohort: Cohort, phantom_root: Path) -> None:
        own = compose(["data=nih", f"data.root={phantom_root}"]).data
        alone = build_cohort(own)
        table = cohort.table[cohort.table["source"] == "nih"].reset_index(drop=True)
        for column in ("sample_id", "patient_id", "study_id"):
            assert ("nih/" + alone.table[column]).tolist() == table[column].tolist()
        names = ["split", "view", "image_path", "age_years", *alone.labels.names]
        pd.testing.assert_frame_equal(table[names], alone.table[names])
        assert set(cohort.table["source"]) == {"nih", "chexpert"}

    def test_what_a_source_does_not_tell_is_unknown(self, cohort: Cohort) -> None:
        table = cohort.table.set_index("source")
        assert table.loc["chexpert", ["Mass", "Hernia", "Infiltration"]].isna().all(axis=None)
        assert table.loc["nih", ["Fracture", "Lung Opacity"]].isna().all(axis=None)
        lesion = table.loc["nih", ["Mass", "Nodule"]].max(axis=1)
        assert table.loc["nih", "Lung Lesion"].tolist() == lesion.tolist()
        assert table.loc["chexpert", "Effusion"].notna().any()
        assert "Pleural Effusion" not in table

    def test_policies_are_each_sources_own(self, cohort: Cohort, config: DataConfig) -> None:
        table = cohort.table.copy()
        place = cohort.labels.names.index("Effusion")
        doubt = (table["Effusion"] == -1).to_numpy()
        assert doubt.any()
        of_nih = int(np.flatnonzero(table["source"] == "nih")[0])
        table.loc[of_nih, "Effusion"] = -1
        aims = training_targets(table, cohort.labels, config, cohort.sources).values[:, place]
        np.testing.assert_array_equal(aims[doubt], 1)
        assert np.isnan(aims[of_nih])  # NIH's policy is to ignore

    def test_soft_targets_of_one_source(self, cohort: Cohort, words: list[str]) -> None:
        config = compose([*words, "data.chexpert.uncertain=zeros_lsr"]).data
        sources = build_cohort(config).sources
        table = cohort.table
        aims = training_targets(table, cohort.labels, config, sources)
        doubt = np.flatnonzero(table["Effusion"] == -1)
        place = cohort.labels.names.index("Effusion")
        keys = np.arange(len(doubt), dtype=np.uint64)
        drawn = aims.of(doubt, seed=0, epochs=np.zeros(len(doubt), int), keys=keys)[:, place]
        assert ((drawn >= 0) & (drawn <= 0.3)).all()
        assert len(set(drawn.tolist())) == len(doubt)
        expected = (table["Effusion"] == 1).sum() + 0.15 * len(doubt)
        positives, _ = aims.counts(np.arange(len(table)), np.ones(len(table)))
        assert positives[place] == pytest.approx(expected, rel=1e-5)

    def test_notes_and_flow(self, cohort: Cohort) -> None:
        text = "\n".join(cohort.notes)
        assert "label Effusion: of nih and chexpert (Pleural Effusion)\n" in text
        assert "label Pneumonia: of nih and chexpert; with caution: a diagnosis more" in text
        assert "label Fracture: of chexpert; unknown in nih: NIH has no such label" in text
        assert "\nchexpert: test set: the published one" in text
        assert cohort.flow[0].images == 280

    def test_sources_are_drawn_alike(self, config: DataConfig) -> None:
        data = ChestXrayDataModule(config, AugmentConfig(name="none"), seed=0)
        data.prepare()
        source = data.cohort.table["source"].to_numpy()
        drawn = np.concatenate([source[data.order()(epoch)] for epoch in range(20)])
        assert np.mean(drawn == "nih") == pytest.approx(0.5, abs=0.03)
        assert np.mean(source[data.cohort.rows("train")] == "nih") > 0.53

    def test_labels_and_splits_of_choice(self, words: list[str]) -> None:
        chosen = build_cohort(
            compose([*words, "data.labels=[Edema,Effusion]", "data.split=patient"]).data
        )
        assert chosen.labels.names == ("Edema", "Effusion")
        by_source = chosen.table.groupby(["source", "split"]).size()
        assert len(by_source) == 2 * len(SPLITS)
        assert chosen.table.groupby("patient_id")["split"].nunique().max() == 1

    def test_a_source_that_knows_nothing(self, words: list[str]) -> None:
        with pytest.raises(ConfigError, match="chexpert: knows none of Hernia, Mass"):
            build_cohort(compose([*words, "data.labels=[Hernia,Mass]"]).data)

    def test_a_policy_for_what_follows_from_two(self, words: list[str]) -> None:
        with pytest.raises(ConfigError, match="Lung Lesion follows from Mass and Nodule, whose"):
            build_cohort(compose([*words, "data.nih.uncertain={Mass: ones}"]).data)

    def test_mistakes_of_all_sources_with_their_keys(self) -> None:
        with pytest.raises(ConfigError) as error:
            build_cohort(compose(BOTH).data)
        assert str(error.value) == (
            "nih: data.nih.root: required; the folder with Data_Entry_2017.csv and the images, "
            "or phantom\n"
            "chexpert: data.chexpert.root: required; the folder of CheXpert's archive, or phantom"
        )
        with pytest.raises(ConfigError, match=r"set that of each source: data\.nih\.root=FOLDER"):
            build_cohort(compose([*BOTH, "data.root=/data"]).data)

    def test_a_picture_in_two_sources_is_refused(self, phantom_root: Path, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "copy.yaml").write_text(
            f"name: nih\nroot: {phantom_root}\nsplit: patient\n"
        )
        config = compose(
            ["data=mix", "data.sources=[nih,copy]", f"data.nih.root={phantom_root}", *SMALL],
            config_dir=tmp_path,
        ).data
        data = ChestXrayDataModule(config, AugmentConfig(name="none"), seed=0)
        assert data.read().table["sample_id"].is_unique
        with pytest.raises(DataError, match=r"identical pixels in more than one split:\n.*copy/"):
            data.prepare()


def test_synthetic_sources_are_said_to_be(words: list[str]) -> None:
    assert compose([*BOTH, "data.root=phantom"]).data.synthetic
    assert compose(words).data.synthetic
    assert not compose(BOTH).data.synthetic
    assert chexpert.Config(name="chexpert", root=Path("phantom")).synthetic


OF = {
    "mimic_cxr": ["Atelectasis", "Pneumothorax", "Lung Opacity"],
    "ehr": ["low_ef", "mitral_regurgitation"],
    "table": ["fluid", "opacity"],
}


class TestReportsMeasurementsAndATable:
    """No label of three sources is shared: each is known of one and masked in the others."""

    @pytest.fixture(scope="class")
    @staticmethod
    def module() -> ChestXrayDataModule:
        config = compose(
            ["data=mix", "data.sources=[mimic_cxr,ehr,table]", "data.root=phantom",
             "data.phantom.images=60", "data.phantom.pixels=64", "data.image.size=32",
             "data.batch_size=24"]
        ).data  # fmt: skip
        data = ChestXrayDataModule(config, AugmentConfig(name="none"), seed=0)
        data.prepare()
        return data

    def test_labels_are_known_of_their_own_source_alone(self, module: ChestXrayDataModule) -> None:
        table = module.cohort.table.set_index("source")
        for source, names in OF.items():
            others = table.loc[[name for name in OF if name != source], names]
            assert others.isna().all(axis=None), source
            assert table.loc[source, names].notna().any().all(), source
            assert set(names) <= set(module.labels.names)
        text = "\n".join(module.cohort.notes)
        assert "label low_ef: of ehr; unknown in mimic_cxr: a measurement by echocardiog" in text
        assert "unknown in ehr: an echocardiogram does not look for it" in text

    def test_every_source_is_as_it_would_be_alone(self, module: ChestXrayDataModule) -> None:
        alone = build_cohort(
            compose(["data=ehr", "data.root=phantom", "data.phantom.images=60",
                     "data.phantom.pixels=64", "data.phantom.seed=1", "data.image.size=32"]).data
        )  # fmt: skip
        table = module.cohort.table
        own = table[table["source"] == "ehr"].reset_index(drop=True)
        assert ("ehr/" + alone.table["sample_id"]).tolist() == own["sample_id"].tolist()
        names = ["split", "age_years", *alone.labels.names]
        pd.testing.assert_frame_equal(own[names], alone.table[names])

    def test_a_batch_masks_what_is_unknown(self, module: ChestXrayDataModule) -> None:
        table, labels = module.cohort.table, module.labels
        loader = module.train_dataloader()
        seen = dict.fromkeys(OF, 0)
        for epoch in range(3):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            for batch in loader:
                targets = batch["target"].numpy()
                rows = batch["row"].numpy()
                known = table[list(labels.names)].isin((0, 1)).to_numpy()[rows]
                np.testing.assert_array_equal(~np.isnan(targets), known)
                assert known.any(axis=1).all()  # no image without any label
                for source in table["source"].iloc[rows]:
                    seen[source] += 1
                # Where nothing is known of a label no gradient of it is left.
                logits = torch.zeros(targets.shape, requires_grad=True)
                loss = build_loss(bce.Config(name="bce"), module.label_counts())
                loss(logits, batch["target"]).backward()
                assert logits.grad is not None
                np.testing.assert_array_equal(logits.grad.numpy() != 0, known)
        # Drawn alike, though the sources have 37, 27 and 41 training images: 288 draws, 96 each.
        assert sum(seen.values()) == 3 * 4 * 24
        assert max(seen.values()) - min(seen.values()) < 40

    def test_scoring_leaves_it_out_too(self, module: ChestXrayDataModule) -> None:
        table = module.cohort.table
        for batch in module.test_dataloader():
            source = table["source"].iloc[batch["row"].numpy()].to_numpy()
            place = module.labels.names.index("low_ef")
            of_low_ef = batch["target"].numpy()[:, place]
            assert np.isnan(of_low_ef[source != "ehr"]).all()
