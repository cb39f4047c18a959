"""Metrics and their intervals: equal to scikit-learn's, and how much sooner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.functional.classification import multilabel_auroc

from benchmarks.measure import Goal, Row, Section, seconds, timed, turns
from cxr_lightning.evaluation.bootstrap import discrimination_replicates
from cxr_lightning.evaluation.discrimination import auroc_per_label
from cxr_lightning.evaluation.replicates import draw_patient_weights

# share of positives in the official test list of ChestX-ray14, in its order of labels
PREVALENCE = (
    *(0.128, 0.042, 0.182, 0.239, 0.068, 0.063, 0.022),
    *(0.104, 0.071, 0.036, 0.043, 0.017, 0.045, 0.003),
)
REPLICATES, LABELS = 1000, len(PREVALENCE)
SIZES = {(25_596, 2_797): 300.0, (112_120, 30_805): 100.0}  # images, patients: wanted ratio
SKLEARN = {"auroc": roc_auc_score, "average_precision": average_precision_score}


def measure(work: Path, repeats: int) -> Section:
    del work
    rows: list[Row] = []
    goals: list[Goal] = []
    for (images, patients), wanted in SIZES.items():
        for metrics in (("auroc",), tuple(SKLEARN)):
            pair, difference = bootstrap(images, patients, metrics, repeats)
            rows += pair.values()
            ours, loop = (row.median for row in pair.values())
            named = f"{words(metrics)}, {REPLICATES:,} replicates over {images:,} x {LABELS}"
            if metrics == ("auroc",):
                goals.append(Goal(f"bootstrap of {named}", loop / ours, wanted, why=WHY))
            else:
                rows.append(Row(f"bootstrap of {named}: ratio", "x", [loop / ours]))
            what = f"largest difference of a replicate, {words(metrics)}, {images:,} x {LABELS}"
            goals.append(Goal(what, difference, 1e-12, "", at_most=True))
    y_true, y_score = drawn(*next(iter(SIZES)))
    tensors = torch.from_numpy(y_score), torch.from_numpy(y_true).long()
    labels = y_true.shape[1]
    calls = {
        "AUROC per label, ours": lambda: auroc_per_label(y_true, y_score),
        "AUROC per label, scikit-learn": lambda: roc_auc_score(y_true, y_score, average=None),
        "AUROC per label, torchmetrics": lambda: multilabel_auroc(
            *tensors, num_labels=labels, average=None
        ),
    }
    rows += turns(timed(calls), "s", repeats).values()
    return Section("Evaluation", METHOD, rows, goals)


METHOD = (
    "Patient bootstrap of AUROC, which the goals are about, and of AUROC and average precision "
    "together, with the same resamples on both sides, scores rounded to two decimals so that many "
    "tie. The scikit-learn loop is timed on one replicate a turn and multiplied; those replicates "
    "are compared."
)
WHY = "Memory bandwidth: the weights of all replicates are read once per label."


def drawn(images: int, patients: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    y_true = (generator.random((images, len(PREVALENCE))) < PREVALENCE).astype(np.float64)
    return y_true, (generator.normal(size=y_true.shape) + y_true).round(2)


def words(metrics: Sequence[str]) -> str:
    return " and ".join({"auroc": "AUROC"}.get(name, name.replace("_", " ")) for name in metrics)


def bootstrap(
    images: int, patients: int, metrics: Sequence[str], repeats: int
) -> tuple[dict[str, Row], float]:
    """Return the rows of both sides, ours first, and by how much they differ at most."""
    y_true, y_score = drawn(images, patients)
    more = np.random.default_rng(1).integers(0, patients, images - patients)
    patient = np.append(np.arange(patients), more)
    members = np.split(np.argsort(patient, kind="stable"), np.cumsum(np.bincount(patient))[:-1])
    weights = draw_patient_weights(patients, REPLICATES, np.random.default_rng(0))

    def ours() -> dict[str, np.ndarray]:
        redrawn = draw_patient_weights(patients, REPLICATES, np.random.default_rng(0))
        return discrimination_replicates(y_true, y_score, patient, redrawn, metrics=metrics)

    values = ours()
    turn = count()
    differences: list[float] = []

    def loop() -> float:
        replicate = next(turn)
        found: dict[str, list[float]] = {}

        def one() -> None:
            chosen = np.repeat(np.arange(patients), weights[:, replicate])
            rows = np.concatenate([members[index] for index in chosen])
            truth, score = y_true[rows], y_score[rows]
            for name in metrics:
                metric = SKLEARN[name]
                found[name] = [metric(truth[:, i], score[:, i]) for i in range(truth.shape[1])]

        taken = seconds(one)
        differences.extend(
            float(np.abs(found[name] - values[name][replicate]).max()) for name in metrics
        )
        return taken * REPLICATES

    calls: dict[str, Callable[[], float]] = {
        f"{words(metrics)}, {images:,} images, ours": lambda: seconds(ours),
        f"{words(metrics)}, {images:,} images, scikit-learn loop": loop,
    }
    return turns(calls, "s", repeats), max(differences)
