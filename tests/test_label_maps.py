"""Maps between label sets: complete, with reasons, and what they do to a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cxr_lightning.config.compose import compose
from cxr_lightning.data import nih
from cxr_lightning.data.report_labels import COMPETITION, LABELS
from cxr_lightning.label_maps import MAPS, describe_matches, match_labels, translate_labels
from cxr_lightning.label_maps.echo import PAIRS, READ
from cxr_lightning.labels import NO_FINDING, LabelSpace

NIH = LabelSpace((*nih.LABELS.names, NO_FINDING))
ECHO = LabelSpace(tuple(compose(["data=ehr"]).data.targets))  # type: ignore[attr-defined]
SPACES = {"nih": NIH, "chexpert": LABELS, "mimic_cxr": LABELS, "ehr": ECHO}
NAN = np.nan


@pytest.mark.parametrize(("source", "target"), list(MAPS))
def test_every_label_has_a_match_and_a_reason(source: str, target: str) -> None:
    matches = MAPS[source, target]
    assert sorted(match.target for match in matches) == sorted(SPACES[target].names)
    for match in matches:
        assert set(match.sources) <= set(SPACES[source].names)
        assert (match.degree == "none") == (not match.sources)
        assert len(match.reason) > 20


def test_maps_agree_in_both_directions() -> None:
    # One source each way: whatever is the same there is the same here.
    for (source, target), matches in MAPS.items():
        back = {match.target: match for match in MAPS[target, source]}
        for match in matches:
            if len(match.sources) == 1:
                assert back[match.sources[0]].sources == (match.target,)
                assert back[match.sources[0]].degree == match.degree


def test_the_five_of_the_competition_are_the_same_in_nih() -> None:
    matches = match_labels("nih", NIH, "chexpert", LabelSpace(COMPETITION))
    assert {match.degree for match in matches} == {"same"}
    assert [match.sources for match in matches] == [
        ("Atelectasis",), ("Cardiomegaly",), ("Consolidation",), ("Edema",), ("Effusion",)
    ]  # fmt: skip


def test_what_is_not_the_same() -> None:
    to_nih = {m.target: m for m in match_labels("chexpert", LABELS, "nih", NIH)}
    for name in ("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Fibrosis", "Hernia"):
        assert to_nih[name].degree == "none", name
    assert to_nih["Pneumonia"].degree == "caution"
    to_chexpert = {m.target: m for m in match_labels("nih", NIH, "chexpert", LABELS)}
    assert to_chexpert["Pleural Other"].degree == "none"
    assert to_chexpert["Lung Lesion"].sources == ("Mass", "Nodule")


def test_phantom_labels_are_nihs() -> None:
    assert match_labels("phantom", NIH, "chexpert", LABELS) == match_labels(
        "nih", NIH, "chexpert", LABELS
    )
    assert all(m.degree == "same" for m in match_labels("phantom", NIH, "nih", NIH))


def test_a_table_of_ones_own_is_matched_by_name_with_caution() -> None:
    own = LabelSpace(("Edema", "Scoliosis"))
    edema, fracture = match_labels("table", own, "chexpert", LabelSpace(("Edema", "Fracture")))
    assert (edema.degree, edema.sources) == ("caution", ("Edema",))
    assert (fracture.degree, fracture.reason) == ("none", "table has no such label")


@pytest.mark.parametrize("kind", ["table", "ehr"])
def test_two_of_ones_own_are_not_the_same_data_set(kind: str) -> None:
    labels = LabelSpace(("Scoliosis", "low_ef"))
    for match in match_labels(kind, labels, kind, labels):
        assert (match.degree, match.sources) == ("caution", (match.target,))
        assert "is for the reader to judge" in match.reason
    (match,) = match_labels(kind, labels, kind, LabelSpace(("Edema",)))
    assert match.degree == "none"


class TestMeasured:
    @pytest.mark.parametrize("other", ["nih", "chexpert", "mimic_cxr", "phantom"])
    def test_none_follows_in_either_direction(self, other: str) -> None:
        labels = SPACES.get(other, NIH)
        for matches in (
            match_labels(other, labels, "ehr", ECHO),
            match_labels("ehr", ECHO, other, labels),
        ):
            assert {match.degree for match in matches} == {"none"}
        # Each of the six has reasons of its own, by finding; so have the findings of the heart.
        reasons = [match.reason for match in match_labels(other, labels, "ehr", ECHO)]
        assert len(set(reasons)) == len(ECHO) == 6
        assert all("; Cardiomegaly: " in reason for reason in reasons)

    def test_every_pair_is_of_labels_that_exist(self) -> None:
        assert {name for name, _ in PAIRS} == set(ECHO.names)
        assert {finding for _, finding in PAIRS} <= set(NIH.names)
        assert set(READ) <= {*NIH.names, *LABELS.names}
        assert {finding for _, finding in PAIRS} <= set(READ)

    def test_the_message_says_why(self) -> None:
        text = describe_matches(match_labels("nih", NIH, "ehr", LabelSpace(("low_ef",))))
        assert text.startswith("not comparable:\n  - low_ef: a measurement by echocardiography")
        assert "Cardiomegaly: an enlarged silhouette is neither necessary nor sufficient" in text
        (match,) = match_labels("ehr", ECHO, "chexpert", LabelSpace(("Fracture",)))
        assert match.reason.startswith("an echocardiogram does not look for it")

    def test_rules_of_ones_own(self) -> None:
        # Another measurement is none of a report's labels; a finding's name may be that finding.
        (match,) = match_labels("nih", NIH, "ehr", LabelSpace(("strain",)))
        assert (match.degree, "echocardiography" in match.reason) == ("none", True)
        (match,) = match_labels("mine", NIH, "ehr", LabelSpace(("low_ef",)))
        assert match.reason == "mine has no such label"
        own = LabelSpace(("Edema", "low_ef"))
        for source, target in (("ehr", "nih"), ("nih", "ehr")):
            (match,) = match_labels(source, own, target, LabelSpace(("Edema",)))
            assert (match.degree, match.sources) == ("caution", ("Edema",))


def test_labels_that_are_not_in_use_cannot_be_translated() -> None:
    (match,) = match_labels("nih", LabelSpace(("Mass",)), "chexpert", LabelSpace(("Lung Lesion",)))
    assert match.degree == "none"
    assert match.reason == "Nodule is not among the labels that are in use"


def test_translation_by_hand() -> None:
    labels = LabelSpace(("Mass", "Nodule", "Effusion"))
    table = pd.DataFrame(
        {
            "sample_id": list("abcdefg"),
            "Mass": [1, 0, 0, NAN, -1, -1, 0],
            "Nodule": [NAN, 1, 0, 0, NAN, 1, -1],
            "Effusion": [1, 0, NAN, -1, 0, 0, 1],
        }
    )
    before = table.copy(deep=True)
    target = LabelSpace(("Pleural Effusion", "Lung Lesion", "Fracture"))
    translated = translate_labels(table, labels, match_labels("nih", labels, "chexpert", target))
    pd.testing.assert_frame_equal(table, before)
    assert list(translated) == ["sample_id", *target.names]
    assert {str(translated[name].dtype) for name in target.names} == {"float32"}
    np.testing.assert_array_equal(translated["Lung Lesion"], [1, 1, 0, NAN, -1, 1, -1])
    np.testing.assert_array_equal(translated["Pleural Effusion"], [1, 0, NAN, -1, 0, 0, 1])
    assert translated["Fracture"].isna().all()


def test_labels_of_one_name_survive_the_translation() -> None:
    labels = LabelSpace(("Edema",))
    table = pd.DataFrame({"sample_id": ["a"], "Edema": [1.0]})
    translated = translate_labels(table, labels, match_labels("nih", labels, "chexpert", labels))
    assert translated["Edema"].tolist() == [1]


def test_description_names_every_label_once() -> None:
    matches = match_labels("nih", NIH, "chexpert", LABELS)
    text = describe_matches(matches)
    assert text.index("comparable:\n") < text.index("comparable with caution:\n")
    assert "  - Pleural Effusion (from Effusion): NIH's Effusion is that of the pleura" in text
    assert "  - Lung Lesion (from Mass or Nodule): " in text
    for name in LABELS.names:
        assert (
            sum(line.startswith((f"  - {name}:", f"  - {name} (")) for line in text.split("\n"))
            == 1
        )
