"""1,000 patient-bootstrap replicates of AUROC (and average precision) against the scikit-learn loop.

Both sides see the same resamples in the same run. The loop is timed on a few replicates and its
time per replicate multiplied; the numbers of these replicates must be equal within 1e-12.

    python benchmarks/bench_bootstrap.py                                    # 25,596 x 14
    python benchmarks/bench_bootstrap.py --images 112120 --patients 30805
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr_lightning.evaluation.bootstrap import bootstrap_discrimination, discrimination_replicates
from cxr_lightning.evaluation.replicates import draw_patient_weights

# share of positives in the official test list of ChestX-ray14, in its order of labels
PREVALENCE = (
    *(0.128, 0.042, 0.182, 0.239, 0.068, 0.063, 0.022),
    *(0.104, 0.071, 0.036, 0.043, 0.017, 0.045, 0.003),
)
SKLEARN = {"auroc": roc_auc_score, "average_precision": average_precision_score}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=25_596)
    parser.add_argument("--patients", type=int, default=2_797)
    parser.add_argument("--replicates", type=int, default=1_000)
    parser.add_argument("--loop-replicates", type=int, default=5, help="timed of the sklearn loop")
    parser.add_argument("--repeats", type=int, default=5, help="runs of the fast path")
    parser.add_argument("--decimals", type=int, default=2, help="rounding of scores: makes ties")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    y_true = (rng.random((options.images, len(PREVALENCE))) < PREVALENCE).astype(np.float64)
    y_score = (rng.normal(size=y_true.shape) + y_true).round(options.decimals)
    patients = np.append(
        np.arange(options.patients),
        rng.integers(0, options.patients, options.images - options.patients),
    )
    print(
        f"{options.images:,} images of {options.patients:,} patients, {len(PREVALENCE)} labels, "
        f"{options.replicates:,} replicates, scores rounded to {options.decimals} decimals"
    )
    rows = [("", "fast, s", "sklearn loop, s", "ratio", "largest difference")]
    rows += [compare(name, y_true, y_score, patients, options) for name in SKLEARN]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))

    def whole() -> None:
        bootstrap_discrimination(
            y_true,
            y_score,
            patients,
            replicates=options.replicates,
            level=0.95,
            generator=np.random.default_rng(0),
        )

    print(
        "both metrics per label, macro and micro, drawing and percentiles included: "
        f"{seconds(whole, options.repeats)[0]:.2f} s"
    )


def compare(
    name: str,
    y_true: np.ndarray,
    y_score: np.ndarray,
    patients: np.ndarray,
    options: argparse.Namespace,
) -> tuple[str, ...]:
    def fast() -> np.ndarray:
        generator = np.random.default_rng(0)
        weights = draw_patient_weights(options.patients, options.replicates, generator)
        return discrimination_replicates(y_true, y_score, patients, weights, metrics=(name,))[name]

    values = fast()
    median, spread = seconds(fast, options.repeats)

    generator = np.random.default_rng(0)
    weights = draw_patient_weights(options.patients, options.replicates, generator)
    members = [np.flatnonzero(patients == patient) for patient in range(options.patients)]
    times, differences = [], []
    for replicate in range(options.loop_replicates):
        drawn = np.repeat(np.arange(options.patients), weights[:, replicate])
        start = time.perf_counter()
        rows = np.concatenate([members[patient] for patient in drawn])
        truth, score = y_true[rows], y_score[rows]
        loop = [SKLEARN[name](truth[:, label], score[:, label]) for label in range(truth.shape[1])]
        times.append(time.perf_counter() - start)
        differences.append(np.abs(loop - values[replicate]).max())
    difference = max(differences)
    if not difference <= 1e-12:
        raise SystemExit(f"{name}: the two differ by {difference:.1e}")
    naive = statistics.median(times) * options.replicates
    return (
        name,
        f"{median:.3f} (+-{spread:.3f})",
        f"{naive:.1f}",
        f"{naive / median:,.0f}",
        f"{difference:.1e}",
    )


def seconds(function: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median, and half the range."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times), (max(times) - min(times)) / 2


if __name__ == "__main__":
    main()
