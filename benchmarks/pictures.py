"""Synthetic data sets in the layout of ChestX-ray14: a few large pictures, or all of it, tiny."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from cxr_lightning.data.nih import LABELS
from cxr_lightning.whole_file import whole_file

SIDE = 1024
IMAGES, PATIENTS = 112_120, 30_805  # of ChestX-ray14


def nih_folder(work: Path, images: int = 600) -> Path:
    """Return 1024 x 1024 pictures of about 400 KB with a table, made on the first call."""
    root = work / f"nih-{images}"
    table = root / "Data_Entry_2017.csv"
    if not table.is_file():
        (root / "images").mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(0)
        rows = nih_table(images, max(3, images // 4), generator)
        for name in rows["Image Index"]:
            cv2.imwrite(str(root / "images" / name), radiograph(generator))
        save(rows, table)
    return root


def nih_words(root: Path, caches: Path) -> list[str]:
    """Return how `fit` is told to train on such a folder."""
    chosen = ["data=nih", f"data.root={root}", "data.split=patient", f"data.cache_dir={caches}"]
    return [*chosen, "augment=standard"]


def whole_folder(work: Path) -> Path:
    """Return all of ChestX-ray14 with official lists and pictures of 32 x 32 pixels of noise."""
    root = work / f"nih-{IMAGES}"
    table = root / "Data_Entry_2017.csv"
    if not table.is_file():
        (root / "images").mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(0)
        rows = nih_table(IMAGES, PATIENTS, generator)
        for name in rows["Image Index"]:
            noise = generator.integers(0, 256, (32, 32), np.uint8)
            (root / "images" / name).write_bytes(cv2.imencode(".png", noise)[1].tobytes())
        test = rows["Patient ID"] % 4 == 0
        for name, part in (("train_val_list.txt", rows[~test]), ("test_list.txt", rows[test])):
            (root / name).write_text("\n".join(part["Image Index"]) + "\n")
        save(rows, table)
    return root


def save(rows: pd.DataFrame, table: Path) -> None:
    """Write the table, which says that the pictures are all there."""
    with whole_file(table) as partial:
        rows.to_csv(partial, index=False)


def radiograph(generator: np.random.Generator, side: int = SIDE) -> np.ndarray:
    """Draw lungs, ribs and film grain: as compressible as a chest radiograph."""
    smooth = cv2.resize(
        generator.normal(size=(8, 8)).astype(np.float32),
        (side, side),
        interpolation=cv2.INTER_CUBIC,
    )
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    lungs = np.exp(-((((np.abs(x) - 0.42) / 0.3) ** 2 + ((y - 0.05) / 0.65) ** 2) ** 2))
    ribs = np.sin(14 * np.pi * (y + 0.25 * x**2))
    grain = generator.normal(size=(side, side)).astype(np.float32)
    grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), 0.8), np.float32)
    grey = 150 - 70 * lungs + 18 * smooth + 12 * ribs + 5.5 * grain
    return grey.clip(0, 255).astype(np.uint8)


def nih_table(images: int, patients: int, generator: np.random.Generator) -> pd.DataFrame:
    """Return a Data_Entry table: every patient at least once, each finding on about a tenth."""
    patient = np.append(np.arange(patients), generator.integers(0, patients, images - patients))
    patient.sort()
    visit = pd.Series(patient).groupby(patient).cumcount().to_numpy()
    present = generator.random((images, len(LABELS))) < 0.1
    names = np.array(LABELS.names)
    return pd.DataFrame(
        {
            "Image Index": [
                f"{p + 1:08d}_{v:03d}.png" for p, v in zip(patient, visit, strict=True)
            ],
            "Finding Labels": ["|".join(names[row]) or "No Finding" for row in present],
            "Follow-up #": visit,
            "Patient ID": patient + 1,
            "Patient Age": generator.integers(1, 95, patients)[patient],
            "Patient Gender": np.array(["M", "F"])[generator.integers(0, 2, patients)][patient],
            "View Position": np.array(["PA", "AP"])[generator.integers(0, 2, images)],
        }
    )
