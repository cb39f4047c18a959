"""What shortcuts in decoding would save, and change; the code takes none of them."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
)

from benchmarks.measure import Row, Section, seconds, turns
from benchmarks.pictures import radiograph
from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data.images import read_resized

SIDE, IMAGE = 2048, ImageConfig()
CENTRE, WIDTH = 2048, 2400  # of a window that clips both ends of 12 bits
METHOD = (
    f"One picture of {SIDE} x {SIDE} pixels with letters and a shutter, in the system's page "
    f"cache, to {IMAGE.size} x {IMAGE.size}; each kind beside its shortcut, and how they differ. "
    "None is taken: the hash that recognises identical pictures across splits needs every pixel of "
    "the whole picture, and a cache is filled once. JPEG's reduced decoding (OpenCV's REDUCED_4, "
    "then INTER_AREA) is quicker, but moves single pixels at edges, so that a picture would differ "
    "from its copy in another format. DICOM resized before its window saves little or nothing, "
    "because the window is one table over all stored values, and is inexact wherever the window "
    "clips a part of what becomes one pixel. JPEG 2000's reduced decoding (OpenJPEG's, by Pillow) "
    "saves most, but gives the wavelet's low pass, which is not the mean of an area, and is then "
    "resized before the window too."
)


def measure(work: Path, repeats: int) -> Section:
    grey = marked(radiograph(np.random.default_rng(0), SIDE))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=work) as folder:
        plain, wavelet = Path(folder) / "plain.dcm", Path(folder) / "wavelet.dcm"
        jpeg = Path(folder) / "picture.jpg"
        cv2.imwrite(str(jpeg), grey, [cv2.IMWRITE_JPEG_QUALITY, 95])
        dataset = dicom(grey)
        dataset.save_as(plain, enforce_file_format=True)
        dataset.compress(JPEG2000Lossless)
        dataset.save_as(wavelet, enforce_file_format=True)
        shortcuts: dict[str, tuple[Path, Callable[[Path], np.ndarray]]] = {
            "JPEG": (jpeg, reduced_jpeg),
            "DICOM": (plain, resized_before_window),
            "JPEG 2000 in DICOM": (wavelet, reduced_wavelet),
        }
        for kind, (path, shortcut) in shortcuts.items():
            found = turns(
                {
                    kind: partial(milliseconds, partial(read_resized, path, IMAGE)),
                    f"{kind}, shortcut": partial(milliseconds, partial(shortcut, path)),
                },
                "ms",
                repeats,
            )
            whole, short = (row.median for row in found.values())
            apart = np.abs(read_resized(path, IMAGE).astype(int) - shortcut(path))
            rows += found.values()
            rows += [
                Row(f"{kind}: saved by it", "x", [whole / short]),
                Row(f"{kind}: largest difference", "grey levels", [float(apart.max())]),
                Row(f"{kind}: mean difference", "grey levels", [float(apart.mean())]),
            ]
    return Section("Decoding", METHOD, rows, [])


def milliseconds(call: Callable[[], object]) -> float:
    """Return the median of a few calls, of which the first imports."""
    call()
    return 1e3 * statistics.median(seconds(call) for _ in range(5))


def marked(grey: np.ndarray) -> np.ndarray:
    """Add what has sharp edges in a radiograph: the collimator's shutter, and lead letters."""
    whole = np.zeros_like(grey)
    edge = SIDE // 37
    whole[edge:-edge, edge:-edge] = grey[edge:-edge, edge:-edge]
    return cv2.putText(whole, "L 15:32", (99, 299), cv2.FONT_HERSHEY_SIMPLEX, 4, 255, 9)


def dicom(grey: np.ndarray) -> Dataset:
    """Wrap a picture as 12 bits with a window."""
    stored = grey.astype(np.uint16) * 16
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = CENTRE, WIDTH
    dataset.PixelData = stored.tobytes()
    return dataset


def reduced_jpeg(path: Path) -> np.ndarray:
    return resized(cv2.imread(str(path), cv2.IMREAD_REDUCED_GRAYSCALE_4))


def resized_before_window(path: Path) -> np.ndarray:
    return windowed(resized(dcmread(path).pixel_array))


def reduced_wavelet(path: Path) -> np.ndarray:
    frame = next(generate_frames(dcmread(path).PixelData, number_of_frames=1))
    with Image.open(BytesIO(frame)) as image:
        image.reduce = 2  # type: ignore[assignment, method-assign]  # a quarter of each side
        return windowed(resized(np.asarray(image).astype(np.uint16) >> 4))  # 12 bits, spread to 16


def resized(picture: np.ndarray | None) -> np.ndarray:
    assert picture is not None  # written above
    return cv2.resize(picture, (IMAGE.size, IMAGE.size), interpolation=cv2.INTER_AREA)


def windowed(stored: np.ndarray) -> np.ndarray:
    """Apply the LINEAR function of PS3.3 C.11.2.1.2.1."""
    scaled = (stored - (CENTRE - 0.5)) / (WIDTH - 1) + 0.5
    return np.rint(255 * scaled.clip(0, 1)).astype(np.uint8)
