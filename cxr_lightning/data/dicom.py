"""DICOM to a grey picture as it is meant to be seen.

The steps and their order are those of PS3.4 annex N.2 (the grayscale transformation sequence):
stored value -> modality LUT or rescale -> VOI LUT or window -> MONOCHROME1 inversion. They act on
single values, so they are computed once for every possible stored value and applied as a table.

The table is applied to the whole picture, which is resized afterwards. That is exact, and takes a
fortieth of the time of the same formulas in floating point on every pixel (2.4 and 105 ms for
3000 x 2500 pixels of 16 bits; a whole uncompressed file is read in a fifth). Resizing first would
save 2 ms more of 23, and nothing where the cache is filled: the hash that recognises copies needs
the whole picture. Nor would it be exact. Let f map stored values to grey with a slope of at most s
grey values, and let m be the mean of the pixels x of a cell that becomes one:

- Where the window clips none of them, f is linear on them, so that mean f(x) = f(m). Rounding then
  separates the two orders by one grey value at most, if s < 1.
- Elsewhere, |mean f(x) - f(m)| <= mean |f(x) - f(m)| <= s mean |x - m|, which a narrow window makes
  large: half a cell of collimator's shutter beside half a cell of lung is off by 127.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import get_expected_length, pixel_array
from pydicom.uid import (
    UID,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from cxr_lightning.data.dicom_display import Voi, display_values, padding_value
from cxr_lightning.data.images import spread_to_uint8, to_grey
from cxr_lightning.data.unreadable import UnreadableImage

__all__ = ["dicom_to_grey", "read_dicom"]

END_OF_IMAGE = b"\xff\xd9"
JPEG_FAMILY = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)


def read_dicom(source: Path | str | BinaryIO, *, voi: Voi = "lut") -> NDArray[np.uint8]:
    """Read a single-frame DICOM file as a contiguous uint8 array of shape (Rows, Columns).

    See :func:`dicom_to_grey` for what is done to the pixels.

    Raises
    ------
    UnreadableImage, with a short reason.
    """
    path = Path(source) if isinstance(source, str | Path) else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about tags that do not matter here
            try:
                dataset = dcmread(source, force=True)
            except OSError as error:
                raise UnreadableImage(f"cannot be read ({error.strerror or error})") from error
            except Exception as error:  # pydicom documents no common base of its parser's errors
                raise UnreadableImage(f"damaged DICOM: {_brief(error)}") from error
            try:
                return dicom_to_grey(dataset, voi=voi)
            except UnreadableImage:
                raise
            except Exception as error:  # an element with a value that the standard does not allow
                raise UnreadableImage(f"damaged DICOM: {_brief(error)}") from error
    except UnreadableImage as error:
        raise UnreadableImage(error.reason, path, error.passing) from error


def dicom_to_grey(dataset: Dataset, *, voi: Voi = "lut") -> NDArray[np.uint8]:
    """Turn the pixels of a dataset into what a viewer shows first; the dataset is not changed.

    - Bits above Bits Stored (overlays, garbage) are ignored; signed pixels keep their sign.
    - Modality LUT or rescale, then the first VOI LUT, else the first usable window (LINEAR,
      LINEAR_EXACT or SIGMOID, PS3.3 C.11.2), else the range of the pixels without their padding
      value; `voi` puts the window first, or takes the range in any case. Pixels of at most 8 bits
      keep their whole range instead, so that 8-bit pictures come out unchanged.
    - MONOCHROME1 is inverted last. Pixels that equal the padding value are black.
    - Colour (secondary captures) becomes Rec. 601 luma, without modality or VOI steps.

    Compressed pixels are tried with every installed decoder (gdcm, pylibjpeg, Pillow) in turn.

    Raises
    ------
    UnreadableImage for data without pixels, multi-frame data, palettes, pixels that no decoder
    accepts, and stored bits that are not the lowest of their cells, as old files may have them.
    """
    interpretation = _check_is_picture(dataset)
    pixels = _decode_pixels(dataset)
    if pixels.ndim == 3:
        if pixels.dtype != np.uint8:
            pixels = spread_to_uint8(pixels, 0, 2**dataset.BitsStored - 1)
        return to_grey(pixels)
    bits, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    signed = bool(dataset.PixelRepresentation)
    padding = padding_value(dataset, bits, signed)

    def shown(stored: NDArray[Any], seen: Callable[[], NDArray[Any]]) -> NDArray[np.uint8]:
        grey = display_values(dataset, seen, padding, voi)(stored)
        if interpretation == "MONOCHROME1":
            grey = 255 - grey
        if padding is not None:
            grey[stored == padding] = 0
        return grey

    lossy = _syntax(dataset) == JPEGLSNearLossless
    if pixels.dtype.itemsize > 2:
        stored = _stored_values(pixels, bits, allocated, signed, lossy)
        return np.ascontiguousarray(shown(stored, lambda: stored))
    raw = np.ascontiguousarray(pixels).view(f"u{pixels.dtype.itemsize}")
    patterns = np.arange(256**raw.itemsize).astype(raw.dtype).view(pixels.dtype)
    stored = _stored_values(patterns, bits, allocated, signed, lossy)

    def seen() -> NDArray[Any]:
        low, high = (int(end) for end in cv2.minMaxLoc(pixels)[:2])
        lowest = -(2 ** (bits - 1)) if signed else 0
        clean = lowest <= low and high < lowest + 2**bits  # nothing above the stored bits
        if clean and padding is None and "ModalityLUTSequence" not in dataset:
            return np.array([low, high])  # a tenth of the time
        return np.asarray(stored[_occurring(raw)])

    return _look_up(shown(stored, seen), raw)


def _look_up(table: NDArray[np.uint8], raw: NDArray[Any]) -> NDArray[np.uint8]:
    try:
        return np.asarray(cv2.LUT(raw, table), np.uint8)
    except cv2.error:  # OpenCV below 5 looks up 8 bits only; NumPy takes nine times as long
        return table[raw]


def _occurring(raw: NDArray[Any]) -> NDArray[np.bool_]:
    """Say for each bit pattern whether it is in the picture."""
    size = 256**raw.itemsize
    return np.asarray(cv2.calcHist([raw], [0], None, [size], [0, size]).ravel() > 0)


def _check_is_picture(dataset: Dataset) -> str:
    """Return the photometric interpretation, or say why there is no single picture."""
    if not len(dataset) and getattr(dataset, "file_meta", None):
        raise UnreadableImage("truncated DICOM")  # pydicom gives up on all of a file cut in pixels
    if "Rows" not in dataset and "SOPClassUID" not in dataset:
        raise UnreadableImage("not an image: no DICOM elements of one in it")
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise UnreadableImage("DICOM with floating-point pixels")
    if "PixelData" not in dataset:
        raise UnreadableImage("DICOM without pixel data")
    frames = dataset.get("NumberOfFrames") or 1
    if int(frames) > 1:
        raise UnreadableImage(f"multi-frame DICOM with {frames} frames")
    needed = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
    if missing := [name for name in needed if dataset.get(name) is None]:
        raise UnreadableImage(f"DICOM without {', '.join(missing)}")
    stored, high = int(dataset.BitsStored), dataset.get("HighBit")
    # Of a JPEG the decoder returns samples, whatever cells the header tells of.
    if high is not None and stored <= high < dataset.BitsAllocated and not _is_jpeg(dataset):
        raise UnreadableImage(
            f"DICOM whose stored bits are not the lowest (Bits Stored {stored}, High Bit {high})"
        )
    interpretation = str(dataset.get("PhotometricInterpretation", "")).strip().upper()
    samples = int(dataset.get("SamplesPerPixel", 1))
    monochrome = interpretation in ("MONOCHROME1", "MONOCHROME2") and samples == 1
    colour = interpretation.startswith(("RGB", "YBR")) and samples == 3
    if not (monochrome or colour):
        raise UnreadableImage(
            f"DICOM with {interpretation or 'unnamed'} pixels of {samples} samples"
        )
    return interpretation


def _decode_pixels(dataset: Dataset) -> NDArray[Any]:
    """Return (Rows, Columns) as stored, or (Rows, Columns, 3) in R, G, B."""
    syntax = _syntax(dataset)
    if syntax is None:  # a file without its meta header, read as the standard's default
        dataset = _with_syntax(dataset)
        syntax = ImplicitVRLittleEndian
    _check_complete(dataset, syntax)
    try:
        with warnings.catch_warnings(), _quiet_stderr(syntax.is_compressed):
            warnings.simplefilter("ignore")
            pixels = pixel_array(dataset)
    except Exception as error:  # plug-ins raise what they like
        name = syntax.name if syntax.is_compressed else "uncompressed"
        reason = f"DICOM whose {name} pixels cannot be decoded: {_brief(error)}"
        raise UnreadableImage(reason) from error
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)  # big-endian files stay so


def _syntax(dataset: Dataset) -> UID | None:
    meta = getattr(dataset, "file_meta", None)
    return None if meta is None else meta.get("TransferSyntaxUID")


def _is_jpeg(dataset: Dataset) -> bool:
    return _syntax(dataset) in JPEG_FAMILY


def _check_complete(dataset: Dataset, syntax: UID) -> None:
    """Refuse pixels that end early: the decoders of JPEG-LS and JPEG lossless fill the rest."""
    if not syntax.is_compressed:
        expected = get_expected_length(dataset)
        if len(dataset.PixelData) < expected:
            found = f"{len(dataset.PixelData):,} of {expected:,} bytes of pixels"
            raise UnreadableImage(f"truncated DICOM: {found}")
    elif syntax in JPEG_FAMILY:
        try:
            frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        except Exception as error:  # struct.error, ValueError, StopIteration, ...
            raise UnreadableImage("DICOM with damaged pixel fragments") from error
        if END_OF_IMAGE not in frame[-16:]:  # padding may follow the marker
            raise UnreadableImage("truncated DICOM: no end of its compressed image")


def _with_syntax(dataset: Dataset) -> Dataset:
    copy = Dataset(dataset)
    copy.file_meta = FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return copy


def _stored_values(
    pixels: NDArray[Any], bits: int, allocated: int, signed: bool, lossy: bool
) -> NDArray[Any]:
    """Drop what lies above the stored bits, keeping the sign.

    Near-lossless JPEG-LS decodes some of the whitest pixels to a little more than the bits hold:
    dropping the highest bit of these would make them black.
    """
    if bits >= pixels.dtype.itemsize * 8 or bits >= allocated:
        return pixels
    if lossy:
        lowest = -(2 ** (bits - 1)) if signed else 0
        return np.asarray(pixels.clip(lowest, lowest + 2**bits - 1))
    unsigned = pixels.view(f"u{pixels.dtype.itemsize}") & (2**bits - 1)
    sign = 2 ** (bits - 1)
    return np.asarray((unsigned.astype(np.int64) ^ sign) - sign if signed else unsigned)


def _brief(error: BaseException) -> str:
    """One line of at most 200 characters; pydicom lists one decoder's reason per line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


_stderr_lock = threading.Lock()


@contextmanager
def _quiet_stderr(wanted: bool) -> Iterator[None]:
    """Send file descriptor 2 nowhere: gdcm and the JPEG libraries print what they also raise."""
    if not wanted:
        yield
        return
    with _stderr_lock:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)
