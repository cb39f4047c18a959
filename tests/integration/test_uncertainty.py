"""Blank, 0, -1 and 1 of a table's cells to the value of the loss and of the metrics, by hand.

The expected values are written out here with `math` alone; a small archive in CheXpert's layout is
read, split and loaded as in a run.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.special import expit

from cxr_lightning.config.compose import compose
from cxr_lightning.config.schema import Config
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.dataset import Batch
from cxr_lightning.evaluation.discrimination import (
    auroc_per_label,
    average_precision_per_label,
    macro,
)
from cxr_lightning.evaluation.predictions import arrays, make_predictions, write_predictions
from cxr_lightning.losses.base import build_loss
from cxr_lightning.models.network import decision_logits

LABELS = ("Edema", "Consolidation")
# Of each patient: the cells of both labels, and the probabilities that a network gives them.
TRAIN = [
    (("1.0", "0.0"), (0.8, 0.2)),
    (("0.0", "-1.0"), (0.4, 0.7)),
    (("-1.0", "1.0"), (0.6, 0.5)),
    (("", "-1.0"), (0.3, 0.6)),
    (("-1.0", ""), (0.9, 0.1)),
]
VALID = [
    (("1.0", "-1.0"), (0.8, 0.9)),
    (("0.0", "1.0"), (0.9, 0.4)),
    (("-1.0", "1.0"), (0.95, 0.7)),
    (("", "-1.0"), (0.1, 0.5)),
    (("1.0", ""), (0.5, 0.6)),
    (("0.0", ""), (0.3, 0.2)),
    (("-1.0", "-1.0"), (0.2, 0.3)),
    (("", ""), (0.6, 0.55)),
]
SPLITS = {"train": (0, TRAIN), "valid": (10, VALID), "test": (20, VALID)}
BLANKS = ["unknown", "negative"]
POLICIES = ["ignore", "zeros", "ones", "zeros_lsr", "ones_lsr", "self_trained", "three_class"]


def cost(probability: float, target: float) -> float:
    """Binary cross-entropy."""
    return -target * math.log(probability) - (1 - target) * math.log(1 - probability)


# What is certain: the 1s and 0s above; what a blank adds where it is a negative; the -1s.
CERTAIN = [cost(0.8, 1), cost(0.4, 0), cost(0.2, 0), cost(0.5, 1)]
BLANK = {"unknown": [], "negative": [cost(0.3, 0), cost(0.1, 0)]}
DOUBTED = {"Edema": (0.6, 0.9), "Consolidation": (0.7, 0.6)}


def image(split: str, patient: int) -> str:
    return f"{split}/patient{patient:05d}/study1/view1_frontal.jpg"


def mean(terms: list[float]) -> float:
    return sum(terms) / len(terms)


def doubted(edema: float, consolidation: float) -> list[float]:
    """Costs of the uncertain cells, where they aim at these targets."""
    return [cost(p, edema) for p in DOUBTED["Edema"]] + [
        cost(p, consolidation) for p in DOUBTED["Consolidation"]
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uncertainty")
    rng = np.random.default_rng(0)
    for split, (first, rows) in SPLITS.items():
        lines = [f"Path,Sex,Age,Frontal/Lateral,AP/PA,{','.join(LABELS)}"]
        for number, (cells, _) in enumerate(rows):
            path = image(split, first + number)
            lines.append(f"CheXpert-v1.0-small/{path},Female,60,Frontal,PA,{','.join(cells)}")
            (folder / path).parent.mkdir(parents=True)
            cv2.imwrite(str(folder / path), rng.integers(0, 256, (32, 32), np.uint8))
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return folder


def configuration(root: Path, *words: str) -> Config:
    return compose(
        ["data=chexpert", f"data.root={root}", f"data.labels=[{','.join(LABELS)}]", "loss=bce",
         "data.image.size=32", "data.batch_size=8", "augment=none", *words]
    )  # fmt: skip


def module(config: Config) -> ChestXrayDataModule:
    data = ChestXrayDataModule(config.data, config.augment, seed=0)
    data.prepare()
    return data


def patients(data: ChestXrayDataModule, batch: Batch) -> list[int]:
    """Return the places of a batch's images in the list of their split."""
    names = data.cohort.table["patient_id"].iloc[batch["row"].numpy()]
    return [int(name[-1]) for name in names]


def logits_of(places: list[int], rows: list[tuple[tuple[str, str], tuple[float, float]]]):  # type: ignore[no-untyped-def]
    p = torch.tensor([rows[place][1] for place in places], dtype=torch.float64)
    return torch.log(p) - torch.log1p(-p)


def losses(config: Config, epochs: int = 1) -> list[float]:
    """Return the loss of all training images, which are one batch, for some epochs."""
    data = module(config)
    loss = build_loss(config.loss, data.label_counts())
    loader = data.train_dataloader()
    found = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        (batch,) = loader
        found.append(loss(logits_of(patients(data, batch), TRAIN), batch["target"]).item())
    return found


@pytest.mark.parametrize("blank", BLANKS)
class TestLoss:
    def loss(self, root: Path, blank: str, *words: str) -> float:
        return losses(configuration(root, f"data.blank={blank}", *words))[0]

    def test_ignore(self, root: Path, blank: str) -> None:
        expected = mean(CERTAIN + BLANK[blank])
        assert self.loss(root, blank, "data.uncertain=ignore") == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize(("policy", "target"), [("zeros", 0.0), ("ones", 1.0)])
    def test_zeros_and_ones(self, root: Path, blank: str, policy: str, target: float) -> None:
        expected = mean(CERTAIN + BLANK[blank] + doubted(target, target))
        found = self.loss(root, blank, f"data.uncertain={policy}")
        assert found == pytest.approx(expected, rel=1e-6)

    def test_a_policy_for_each_label(self, root: Path, blank: str) -> None:
        expected = mean(CERTAIN + BLANK[blank] + doubted(1, 0))
        words = "data.uncertain={Edema: ones, Consolidation: zeros}"
        assert self.loss(root, blank, words) == pytest.approx(expected, rel=1e-6)
        # A label that is not named is ignored.
        expected = mean(CERTAIN + BLANK[blank] + [cost(0.6, 1), cost(0.9, 1)])
        words = "data.uncertain={Edema: ones}"
        assert self.loss(root, blank, words) == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize(
        ("policy", "low", "high"), [("zeros_lsr", 0.0, 0.3), ("ones_lsr", 0.55, 0.85)]
    )
    def test_ranges(self, root: Path, blank: str, policy: str, low: float, high: float) -> None:
        config = configuration(root, f"data.blank={blank}", f"data.uncertain={policy}")
        found = losses(config, epochs=120)
        # The cost is linear in the target: each is between those at the ends of the range (which
        # end costs more differs between cells), and their mean is that of its middle.
        known = CERTAIN + BLANK[blank]
        pairs = list(zip(doubted(low, low), doubted(high, high), strict=True))
        terms = len(known) + len(pairs)
        assert min(found) >= (sum(known) + sum(map(min, pairs))) / terms - 1e-6
        assert max(found) <= (sum(known) + sum(map(max, pairs))) / terms + 1e-6
        assert len(set(found)) == 120
        middle = (low + high) / 2
        expected = mean(known + doubted(middle, middle))
        assert mean(found) == pytest.approx(expected, abs=0.01)
        assert max(found) - min(found) > 0.05

    def test_self_trained(self, root: Path, blank: str, tmp_path: Path) -> None:
        # A first model gives the uncertain cells 0.25 (the third), 0.9 (the fifth) for edema, and
        # 0.4 (the second), 0.7 (the fourth) for consolidation; what it says of others is not used.
        first = [(0.01, 0.99), (0.99, 0.4), (0.25, 0.01), (0.99, 0.7), (0.9, 0.99)]
        file = first_model(tmp_path, dict(enumerate(first)))
        doubts = [cost(0.6, 0.25), cost(0.9, 0.9), cost(0.7, 0.4), cost(0.6, 0.7)]
        found = self.loss(root, blank, "data.uncertain=self_trained", f"data.first_model={file}")
        assert found == pytest.approx(mean(CERTAIN + BLANK[blank] + doubts), rel=1e-6)

    def test_three_class(self, root: Path, blank: str) -> None:
        words = [f"data.blank={blank}", "data.uncertain=three_class", "loss=three_class"]
        config = configuration(root, *words)
        data = module(config)
        (batch,) = data.train_dataloader()
        # softmax over absent, present, uncertain: 1/10, 4/10, 5/10 for edema and
        # 6/12, 3/12, 3/12 for consolidation, the same for all images
        outputs = torch.log(torch.tensor([[1.0, 4.0, 5.0], [6.0, 3.0, 3.0]])).expand(5, 2, 3)
        found = build_loss(config.loss, data.label_counts())(outputs, batch["target"]).item()
        # edema: 1, 0, two uncertain; consolidation: 0, 1, two uncertain; a blank of each
        terms = [-math.log(4 / 10), -math.log(1 / 10), -math.log(5 / 10), -math.log(5 / 10)]
        terms += [-math.log(6 / 12), -math.log(3 / 12), -math.log(3 / 12), -math.log(3 / 12)]
        if blank == "negative":
            terms += [-math.log(1 / 10), -math.log(6 / 12)]
        assert found == pytest.approx(mean(terms), rel=1e-6)

    def test_weights_count_what_the_policy_made(self, root: Path, blank: str) -> None:
        words = [f"data.blank={blank}", "data.uncertain={Edema: ones, Consolidation: zeros}"]
        found = losses(configuration(root, *words, "loss=weighted_bce", "loss.weight_cap=null"))[0]
        # Edema: 3 positives, and 1 negative or 2; consolidation: 1 positive, 3 negatives or 4.
        more = len(BLANK[blank]) // 2
        present, absent = 2 * (1 + more) / (4 + more), 2 * 3 / (4 + more)
        terms = [present * cost(p, 1) for p in (0.8, 0.6, 0.9)]
        terms += [absent * cost(p, 0) for p in (0.4, 0.3)[: 1 + more]]
        present, absent = 2 * (3 + more) / (4 + more), 2 * 1 / (4 + more)
        terms += [present * cost(0.5, 1)]
        terms += [absent * cost(p, 0) for p in (0.2, 0.7, 0.6, 0.1)[: 3 + more]]
        assert found == pytest.approx(mean(terms), rel=1e-6)


# The validation images' scores by hand. Uncertain ones are in none of these, whatever the policy.
#   Edema: positives 0.8, 0.5; negatives 0.9, 0.3 and, of the blanks, 0.1, 0.6.
#   Consolidation: positives 0.4, 0.7; no negatives but the blanks' 0.6, 0.2, 0.55.
KNOWN = {"unknown": (4, 2), "negative": (6, 5)}
# Pairs in the right order: 0.8 above 0.3, 0.5 above 0.3; with blanks also above 0.1 (both) and 0.8
# above 0.6. Consolidation: 0.7 above all three, 0.4 above 0.2.
AUROC = {"unknown": (2 / 4, math.nan), "negative": (5 / 8, 4 / 6)}
# Edema in order: 0.9 (negative), 0.8, 0.6 (a blank), 0.5; consolidation: 0.7, 0.6, 0.55, 0.4. The
# mean over positives of the precision at them.
PRECISION = {
    "unknown": ((1 / 2 + 2 / 3) / 2, math.nan),
    "negative": ((1 / 2 + 2 / 4) / 2, (1 + 2 / 4) / 2),
}


@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("policy", POLICIES)
def test_metrics(root: Path, tmp_path: Path, blank: str, policy: str) -> None:
    words = [f"data.blank={blank}", f"data.uncertain={policy}"]
    if policy == "three_class":
        words.append("loss=three_class")
    if policy == "self_trained":
        words.append(f"data.first_model={first_model(tmp_path)}")
    data = module(configuration(root, *words))
    for loader in (data.val_dataloader(), data.test_dataloader()):
        (batch,) = loader
        places = patients(data, batch)
        outputs = logits_of(places, VALID)
        if policy == "three_class":
            outputs = with_doubt(outputs)
        names = [str(place) for place in places]
        table = make_predictions(
            sample_id=names,
            patient_id=names,
            study_id=names,
            split="test",
            labels=LABELS,
            y_true=batch["target"].numpy(),
            logits=decision_logits(outputs).numpy(),
        )
        y_true, y_score, _ = arrays(table)
        np.testing.assert_allclose(y_score, [VALID[place][1] for place in places], rtol=1e-5)
        assert tuple((~np.isnan(y_true)).sum(axis=0)) == KNOWN[blank]
        auroc = auroc_per_label(y_true, y_score)
        np.testing.assert_allclose(auroc, AUROC[blank])
        precision = average_precision_per_label(y_true, y_score)
        np.testing.assert_allclose(precision, PRECISION[blank])
        # A label of one class is left out of the mean; it is not a 0 in it.
        defined = [value for value in AUROC[blank] if not math.isnan(value)]
        assert macro(auroc).value == pytest.approx(mean(defined))


def with_doubt(logits: torch.Tensor) -> torch.Tensor:
    """Return logits of three classes, whose "uncertain" would reverse the order if it counted."""
    p = logits.sigmoid()
    doubt = p / 1.01
    present, absent = p * (1 - doubt), (1 - p) * (1 - doubt)
    assert not torch.equal(present.argsort(dim=0), p.argsort(dim=0))
    return torch.log(torch.stack([absent, present, doubt], -1))


def first_model(folder: Path, train: dict[int, tuple[float, float]] | None = None) -> Path:
    """Write predictions: these of training images, and 0.95 of all others and labels."""
    rows = {
        image(split, first + number): (train or {}).get(first + number, (0.95, 0.95))
        for split, (first, images) in SPLITS.items()
        for number in range(len(images))
    }
    table = make_predictions(
        sample_id=list(rows),
        patient_id=list(rows),
        study_id=list(rows),
        split="train",
        labels=LABELS,
        y_true=np.full((len(rows), 2), np.nan),
        logits=[[math.log(p / (1 - p)) for p in pair] for pair in rows.values()],
    )
    return write_predictions(table, folder / "first.parquet")


def test_predictions_of_three_classes_are_those_of_present_against_absent() -> None:
    """Irvin et al., "CheXpert", AAAI 2019, section 4: the softmax of two logits."""
    # absent, present, uncertain: 2/10, 6/10, 2/10 is 6 / (2 + 6) whatever the third is.
    outputs = torch.log(torch.tensor([[[0.2, 0.6, 0.2], [0.02, 0.03, 0.95]]]))
    found = expit(decision_logits(outputs).numpy())
    np.testing.assert_allclose(found, [[0.75, 0.6]], rtol=1e-6)
