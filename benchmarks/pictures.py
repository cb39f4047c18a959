"""A synthetic ChestX-ray14: 600 pictures of 1024 x 1024 pixels and about 400 KB, with a table."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from cxr_lightning.data.nih import LABELS

SIDE = 1024


def nih_folder(work: Path, images: int = 600) -> Path:
    """Return NIH's layout with drawn pictures, made on the first call."""
    root = work / f"nih-{images}"
    table = root / "Data_Entry_2017.csv"
    if not table.is_file():
        (root / "images").mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(0)
        rows = nih_table(images, max(3, images // 4), generator)
        for name in rows["Image Index"]:
            cv2.imwrite(str(root / "images" / name), radiograph(generator))
        rows.to_csv(table, index=False)
    return root


def radiograph(generator: np.random.Generator) -> np.ndarray:
    """Draw lungs, ribs and film grain: as compressible as a chest radiograph."""
    smooth = cv2.resize(
        generator.normal(size=(8, 8)).astype(np.float32),
        (SIDE, SIDE),
        interpolation=cv2.INTER_CUBIC,
    )
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j].astype(np.float32)
    lungs = np.exp(-((((np.abs(x) - 0.42) / 0.3) ** 2 + ((y - 0.05) / 0.65) ** 2) ** 2))
    ribs = np.sin(14 * np.pi * (y + 0.25 * x**2))
    grain = generator.normal(size=(SIDE, SIDE)).astype(np.float32)
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
