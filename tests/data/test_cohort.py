"""The cohort: selection is counted, splits are by patient, and the table is what was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_lightning.data import nih
from cxr_lightning.data.cohort import build_cohort, leave_out, split_counts
from cxr_lightning.data.reading import Reading
from cxr_lightning.errors import ConfigError, DataError


def cohort(root: Path, **options: object):  # type: ignore[no-untyped-def]
    return build_cohort(nih.Config(name="nih", root=root, **options))


def test_official_split_keeps_the_test_list(phantom_root: Path) -> None:
    listed = set((phantom_root / "test_list.txt").read_text().split())
    table = cohort(phantom_root).table
    assert set(table.loc[table["split"] == "test", "sample_id"]) == listed
    assert set(table["split"]) == {"train", "val", "test"}


def test_a_fraction_that_a_list_makes_needless_is_told(phantom_root: Path) -> None:
    listed = cohort(phantom_root, test_fraction=0.4, val_fraction=0.3)
    assert [note for note in listed.notes if "has no effect" in note] == [
        "data.test_fraction=0.4 has no effect: the data set's own lists say which images these "
        "are; data.split=patient draws them anew"
    ]
    assert listed.fingerprint != cohort(phantom_root).fingerprint  # validation is drawn
    for told in (cohort(phantom_root), cohort(phantom_root, split="patient", test_fraction=0.4)):
        assert not any("has no effect" in note for note in told.notes)


def test_no_patient_crosses(phantom_root: Path) -> None:
    for split in ("official", "patient"):
        table = cohort(phantom_root, split=split).table
        assert (table.groupby("patient_id")["split"].nunique() == 1).all()


def test_validation_does_not_depend_on_the_order_of_labels(phantom_root: Path) -> None:
    one = cohort(phantom_root, labels=("Mass", "Effusion"))
    other = cohort(phantom_root, labels=("Mass", "Effusion"), batch_size=7)
    assert one.fingerprint == other.fingerprint
    assert cohort(phantom_root, labels=("Effusion", "Mass")).fingerprint != one.fingerprint


def test_views_are_chosen_and_counted(phantom_root: Path) -> None:
    everything = cohort(phantom_root)
    only = cohort(phantom_root, views=("PA",))
    assert set(only.table["view"]) == {"PA"}
    first, last = only.flow[0], only.flow[-1]
    assert last.reason == "view is not PA"
    assert last.left_out == len(everything.table) - len(only.table) > 0
    assert first.images - last.left_out == last.images == len(only.table)


def test_a_view_that_is_not_there(phantom_root: Path) -> None:
    with pytest.raises(DataError) as error:
        cohort(phantom_root, views=("LATERAL",))
    assert str(error.value).startswith("no image is left:\n")
    assert "view is not LATERAL: 160 left out, 0 images remain" in str(error.value)


def test_max_patients_keeps_every_list(phantom_root: Path) -> None:
    few = cohort(phantom_root, max_patients=20)
    assert few.table["patient_id"].nunique() == pytest.approx(20, abs=1)
    assert set(few.table["split"]) == {"train", "val", "test"}
    assert few.table.equals(cohort(phantom_root, max_patients=20).table)
    assert few.all_images == cohort(phantom_root).all_images


def test_label_counts_by_hand(phantom_root: Path) -> None:
    whole = cohort(phantom_root, labels=("Effusion",))
    positives, negatives = whole.label_counts("train")
    values = whole.table.loc[whole.table["split"] == "train", "Effusion"]
    assert positives.tolist() == [(values == 1).sum()]
    assert negatives.tolist() == [(values == 0).sum()]


def test_leaving_rows_out_is_a_step_of_the_flow(phantom_root: Path) -> None:
    whole = cohort(phantom_root)
    bad = np.zeros(len(whole.table), dtype=bool)
    bad[[0, 5]] = True
    fewer = leave_out(whole, bad, "unreadable")
    assert len(fewer.table) == len(whole.table) - 2
    assert (fewer.flow[-1].reason, fewer.flow[-1].left_out) == ("unreadable", 2)
    assert fewer.fingerprint != whole.fingerprint
    assert fewer.table.index.tolist() == list(range(len(fewer.table)))


def test_split_counts_add_up(phantom_root: Path) -> None:
    whole = cohort(phantom_root)
    counts = split_counts(whole)
    assert counts.loc["images"].sum() == len(whole.table)
    assert counts.loc["patients"].sum() == whole.table["patient_id"].nunique()
    assert counts.loc["Effusion"].sum() == whole.table["Effusion"].sum()


def test_no_official_split(phantom_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = nih.read_studies

    def without_lists(config: nih.Config) -> Reading:
        reading = read(config)
        return replace(reading, table=reading.table.assign(split=""))

    monkeypatch.setattr(nih, "read_studies", without_lists)
    with pytest.raises(ConfigError, match="data=nih has no official split; use data"):
        cohort(phantom_root)


@pytest.mark.parametrize("count", [3, 4, 5, 7, 11, 40])
def test_max_patients_is_exact(phantom_root: Path, count: int) -> None:
    assert cohort(phantom_root, max_patients=count).table["patient_id"].nunique() == count
