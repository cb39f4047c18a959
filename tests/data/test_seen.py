"""Patients of a training: found again by hash, in the same data set, a part of it, or a mix."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cxr_lightning.config.compose import compose
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.seen import UNSEEN, seen_patients

SMALL = ["data.phantom.images=60", "data.phantom.pixels=64"]


def test_patients_of_a_part_are_found_in_the_whole(phantom_root: Path) -> None:
    words = ["data=nih", f"data.root={phantom_root}", "data.split=patient"]
    few, whole = (compose([*words, *more]).data for more in (["data.max_patients=30"], []))
    trained, everyone = build_cohort(few), build_cohort(whole).table
    seen = seen_patients(trained, few)
    expected = dict(zip(trained.table["patient_id"], trained.table["split"], strict=True))
    found = seen.split_of(everyone, whole)
    assert found.tolist() == [expected.get(one, UNSEEN) for one in everyone["patient_id"]]
    assert {*found} == {"train", "val", "test", UNSEEN}
    # Under another key, and in another data set, the same ids are hashed otherwise.
    other = compose(["data=chexpert", "data.root=phantom"]).data
    assert set(seen.split_of(everyone, other)) == {UNSEEN}
    assert not np.isin(*(np.concatenate([*one.hashes.values()]) for one in (
        seen, seen_patients(build_cohort(whole), whole)))).any()  # fmt: skip


def test_patients_of_a_mix_are_those_of_its_sources() -> None:
    mix = compose(["data=mix", "data.sources=[chexpert,mimic_cxr]", "data.root=phantom", *SMALL])
    trained = build_cohort(mix.data)
    seen = seen_patients(trained, mix.data)
    np.testing.assert_array_equal(seen.split_of(trained.table, mix.data), trained.table["split"])
    # The first source of a synthetic mix has the seed of its own phantom.
    alone = compose(["data=chexpert", "data.root=phantom", *SMALL]).data
    whole = build_cohort(alone)
    np.testing.assert_array_equal(seen.split_of(whole.table, alone), whole.table["split"])
