"""What training aims at: uncertain labels by hand, and draws by their address."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.targets import Targets, scored_targets, training_targets
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.evaluation.predictions import make_predictions, write_predictions
from cxr_lightning.labels import LabelSpace

LABELS = LabelSpace(("Edema", "Mass"))
NAN = np.nan
ROWS = np.arange(4)
KEYS = np.array([11, 12, 13, 14], dtype=np.uint64)
TABLE = pd.DataFrame(
    {
        "sample_id": ["a", "b", "c", "d"],
        "split": ["train", "train", "train", "val"],
        "Edema": np.array([1, -1, NAN, -1], np.float32),
        "Mass": np.array([-1, 0, -1, 1], np.float32),
    }
)


def targets(**options: object) -> Targets:
    return training_targets(TABLE, LABELS, DataConfig(name="x", **options))  # type: ignore[arg-type]


def of(aims: Targets, *, seed: int = 0, epoch: int = 0, rows: np.ndarray = ROWS) -> np.ndarray:
    return aims.of(rows, seed=seed, epochs=np.full(len(rows), epoch), keys=KEYS[rows])


def test_uncertain_labels_are_never_scored() -> None:
    expected = [[1, NAN], [NAN, 0], [NAN, NAN], [NAN, 1]]
    np.testing.assert_array_equal(of(scored_targets(TABLE, LABELS)), expected)


def test_a_policy_per_label() -> None:
    aims = targets(uncertain={"Edema": "zeros"})
    np.testing.assert_array_equal(of(aims), [[1, NAN], [0, 0], [NAN, NAN], [0, 1]])


def test_draws_lie_in_their_range_and_leave_the_rest() -> None:
    drawn = of(targets(uncertain={"Edema": "zeros_lsr", "Mass": "ones_lsr"}))
    assert drawn[0, 0] == 1
    assert drawn[1, 1] == 0
    assert np.isnan(drawn[2, 0])
    assert 0 <= drawn[1, 0] <= 0.3
    assert 0 <= drawn[3, 0] <= 0.3
    assert 0.55 <= drawn[0, 1] <= 0.85
    assert 0.55 <= drawn[2, 1] <= 0.85


def test_a_draw_depends_on_seed_epoch_and_sample_alone() -> None:
    aims = targets(uncertain="ones_lsr")
    first = of(aims)
    np.testing.assert_array_equal(of(aims, rows=np.array([2, 0])), first[[2, 0]])
    assert of(aims, epoch=1)[0, 1] != first[0, 1]
    assert of(aims, seed=1)[0, 1] != first[0, 1]
    assert first[0, 1] != first[2, 1]


def test_draws_fill_their_range_evenly() -> None:
    n = 4000
    aims = Targets(
        np.full((n, 2), -1, np.float32), np.float32([0.0, 0.55]), np.float32([0.3, 0.85])
    )
    drawn = aims.of(
        np.arange(n), seed=0, epochs=np.zeros(n, int), keys=np.arange(n, dtype=np.uint64)
    )
    np.testing.assert_allclose(drawn.mean(axis=0), [0.15, 0.7], atol=0.005)
    np.testing.assert_allclose(drawn.min(axis=0), [0, 0.55], atol=0.001)
    np.testing.assert_allclose(drawn.max(axis=0), [0.3, 0.85], atol=0.001)


@pytest.mark.parametrize(
    ("policy", "positives", "negatives"),
    [
        ("ignore", [1, 0], [0, 1]),
        ("ones", [2, 2], [0, 1]),
        ("zeros", [1, 0], [1, 3]),
        ("ones_lsr", [1.7, 1.4], [0.3, 1.6]),
        ("three_class", [1, 0], [0, 1]),
    ],
)
def test_counts_for_weights(policy: str, positives: list[float], negatives: list[float]) -> None:
    counts = targets(uncertain=policy).counts(np.array([0, 1, 2]), np.ones(3))
    np.testing.assert_allclose(counts, [positives, negatives], rtol=1e-6)


class TestFirstModel:
    def file(self, tmp_path: Path, ids: list[str], labels: tuple[str, ...] = LABELS.names) -> Path:
        logits = np.linspace(-2, 2, len(ids) * len(labels)).reshape(len(ids), -1)
        table = make_predictions(
            sample_id=ids,
            patient_id=ids,
            study_id=ids,
            split="train",
            labels=labels,
            y_true=np.full(logits.shape, NAN),
            logits=logits,
        )
        return write_predictions(table, tmp_path / "first.parquet")

    def test_its_probabilities_take_the_place(self, tmp_path: Path) -> None:
        file = self.file(tmp_path, ["c", "b", "a"])
        aims = of(targets(uncertain="self_trained", first_model=file))
        logits = np.linspace(-2, 2, 6).reshape(3, 2)
        probability = 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(aims[0], [1, probability[2, 1]], rtol=1e-6)
        np.testing.assert_allclose(aims[1], [probability[1, 0], 0], rtol=1e-6)
        np.testing.assert_allclose(aims[2], [NAN, probability[0, 1]], rtol=1e-6)

    def test_lacking_images(self, tmp_path: Path) -> None:
        file = self.file(tmp_path, ["a", "d"])
        with pytest.raises(DataError, match="lacks 2 training images with uncertain labels"):
            targets(uncertain="self_trained", first_model=file)

    def test_lacking_labels(self, tmp_path: Path) -> None:
        file = self.file(tmp_path, ["a", "b", "c"], labels=("Mass",))
        with pytest.raises(DataError, match="has no predictions of Edema; it has Mass"):
            targets(uncertain="self_trained", first_model=file)

    def test_both_or_neither(self) -> None:
        with pytest.raises(ValidationError, match="one of them is missing"):
            DataConfig(name="x", uncertain="self_trained")
        with pytest.raises(ValidationError, match="one of them is missing"):
            DataConfig(name="x", first_model=Path("x.parquet"))


def test_a_policy_for_another_label() -> None:
    with pytest.raises(ConfigError, match=r"'Masse'\. Did you mean 'Mass'\?"):
        targets(uncertain={"Masse": "ones"})
