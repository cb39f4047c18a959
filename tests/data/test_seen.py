"""Patients of a training: found again by hash, in the same data set, a part of it, or a mix."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cxr_lightning.config.compose import compose
from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.seen import UNSEEN, seen_patients, why_untold

SMALL = ["data.phantom.images=60", "data.phantom.pixels=64"]


def test_patients_of_a_part_are_found_in_the_whole(phantom_root: Path) -> None:
    words = ["data=nih", f"data.root={phantom_root}", "data.split=patient"]
    few, whole = (compose([*words, *more]).data for more in (["data.max_patients=30"], []))
    trained, everyone = build_cohort(few), build_cohort(whole).table
    seen = seen_patients(trained, few)
    assert seen is not None
    expected = dict(zip(trained.table["patient_id"], trained.table["split"], strict=True))
    found = seen.split_of(everyone, whole)
    assert found.tolist() == [expected.get(one, UNSEEN) for one in everyone["patient_id"]]
    assert {*found} == {"train", "val", "test", UNSEEN}
    # Under another key, and in another data set, the same ids are hashed otherwise.
    other = compose(["data=chexpert", "data.root=phantom"]).data
    assert set(seen.split_of(everyone, other)) == {UNSEEN}
    again = seen_patients(build_cohort(whole), whole)
    assert again is not None
    assert not np.isin(*(np.concatenate([*x.hashes.values()]) for x in (seen, again))).any()


def test_patients_of_a_mix_are_those_of_its_sources() -> None:
    mix = compose(["data=mix", "data.sources=[chexpert,mimic_cxr]", "data.root=phantom", *SMALL])
    trained = build_cohort(mix.data)
    seen = seen_patients(trained, mix.data)
    assert seen is not None
    np.testing.assert_array_equal(seen.split_of(trained.table, mix.data), trained.table["split"])
    # The first source of a synthetic mix has the seed of its own phantom.
    alone = compose(["data=chexpert", "data.root=phantom", *SMALL]).data
    whole = build_cohort(alone)
    np.testing.assert_array_equal(seen.split_of(whole.table, alone), whole.table["split"])


def hospital(*words: str) -> DataConfig:
    return compose(["data=ehr", "data.root=phantom", *SMALL, *words]).data


def test_patients_under_another_salt_cannot_be_told(tmp_path: Path) -> None:
    """Nobody would be found again, and all would pass for unseen."""
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_text(file.name * 32)
        file.chmod(0o600)
    own, other = (hospital(f"data.salt_file={file}") for file in files)
    seen = seen_patients(build_cohort(own), own)
    assert seen is not None
    assert why_untold(seen, own) == ""
    assert set(seen.split_of(build_cohort(other).table, other)) == {UNSEEN}
    assert "give the salt of the training by data.salt_file" in why_untold(seen, other)
    # In a mix too; where no patients are hashed, the salt is nobody's concern.
    mix = [compose([
        "data=mix", "data.sources=[nih,ehr]", "data.root=phantom", *SMALL,
        f"data.ehr.salt_file={file}",
    ]).data for file in files]  # fmt: skip
    assert why_untold(seen, mix[0]) == ""
    assert "data.salt_file" in why_untold(seen, mix[1])
    assert why_untold(seen, compose(["data=nih", "data.root=phantom"]).data) == ""


def test_plain_ids_are_not_kept() -> None:
    table = ["data=table", "data.root=phantom", *SMALL]
    plain, hashed = (compose([*table, f"data.ids={ids}"]).data for ids in ("plain", "hashed"))
    cohort = build_cohort(hashed)
    seen = seen_patients(cohort, hashed)
    assert seen is not None
    assert "data.ids as there" in why_untold(seen, plain)
    mix = compose(["data=mix", "data.sources=[nih,table]", "data.root=phantom", *SMALL,
                   "data.table.ids=plain"]).data  # fmt: skip
    assert [seen_patients(cohort, one) for one in (plain, mix)] == [None, None]
    assert "data.ids=plain, do not tell" in why_untold(None, plain)


def test_a_synthetic_source_makes_no_other_synthetic(phantom_root: Path) -> None:
    mix = compose([
        "data=mix", "data.sources=[nih,chexpert]", "data.root=null", *SMALL,
        f"data.nih.root={phantom_root}", "data.chexpert.root=phantom",
    ]).data  # fmt: skip
    seen = seen_patients(build_cohort(mix), mix)
    assert seen is not None
    alone = compose(["data=nih", f"data.root={phantom_root}"]).data
    whole = build_cohort(alone).table
    np.testing.assert_array_equal(seen.split_of(whole, alone), whole["split"])
