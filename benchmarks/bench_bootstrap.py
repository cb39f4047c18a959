"""Patient bootstrap of AUROC and average precision, 1,000 replicates, against a scikit-learn loop.

Both sides see the same resamples in the same run, turn by turn. The loop is timed on one replicate
a turn and its median time multiplied; these replicates must be equal within 1e-12.

    python benchmarks/bench_bootstrap.py                                    # 25,596 x 14
    python benchmarks/bench_bootstrap.py --images 112120 --patients 30805
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

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
    parser.add_argument(
        "--turns", type=int, default=5, help="runs of the fast path, and replicates of the loop"
    )
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
    rows = [("", "fast, s (range)", "sklearn loop, s", "ratio", "largest difference")]
    rows += [compare(name, y_true, y_score, patients, options) for name in SKLEARN]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))

    def whole() -> object:
        return bootstrap_discrimination(
            y_true,
            y_score,
            patients,
            replicates=options.replicates,
            level=0.95,
            generator=np.random.default_rng(0),
        )

    median = statistics.median(seconds(whole)[0] for _ in range(options.turns))
    print(
        f"both metrics per label, macro and micro, drawing and percentiles included: {median:.2f} s"
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
    generator = np.random.default_rng(0)
    weights = draw_patient_weights(options.patients, options.replicates, generator)
    members = [np.flatnonzero(patients == patient) for patient in range(options.patients)]

    def loop(replicate: int) -> list[float]:
        drawn = np.repeat(np.arange(options.patients), weights[:, replicate])
        rows = np.concatenate([members[patient] for patient in drawn])
        truth, score = y_true[rows], y_score[rows]
        return [SKLEARN[name](truth[:, label], score[:, label]) for label in range(truth.shape[1])]

    # turn by turn, so that what else the machine does falls on both
    fast_times, loop_times, difference = [], [], 0.0
    for turn in range(options.turns):
        fast_times.append(seconds(fast)[0])
        taken, found = seconds(lambda turn=turn: loop(turn))
        loop_times.append(taken)
        difference = max(difference, float(np.abs(found - values[turn]).max()))
    if not difference <= 1e-12:
        raise SystemExit(f"{name}: the two differ by {difference:.1e}")
    median = statistics.median(fast_times)
    naive = statistics.median(loop_times) * options.replicates
    return (
        name,
        f"{median:.3f} ({min(fast_times):.3f}-{max(fast_times):.3f})",
        f"{naive:.1f}",
        f"{naive / median:,.0f}",
        f"{difference:.1e}",
    )


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


if __name__ == "__main__":
    main()
