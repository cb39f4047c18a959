"""Pictures as DICOM files of many kinds: bits, signs, windows, tables, transfer syntaxes."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

__all__ = ["ENCODINGS", "Encoding", "make_uid", "write_dicom"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a picture is stored.

    Attributes
    ----------
    syntax
        implicit, explicit, RLE, JPEG 2000, JPEG-LS, JPEG lossless, or JPEG (baseline, 8 bits).
    bits
        Bits Stored, 8 to 16.
    signed
        Whether pixels are stored as signed numbers, and rescaled.
    inverted
        MONOCHROME1: small values are white.
    display
        window, lut (a VOI LUT beside a wrong window), or none (the range of the pixels).
    """

    syntax: str
    bits: int
    signed: bool = False
    inverted: bool = False
    display: str = "window"


ENCODINGS = (
    Encoding("explicit", 12),
    Encoding("implicit", 10, inverted=True),
    Encoding("RLE", 14),
    Encoding("JPEG 2000", 12),
    Encoding("JPEG-LS", 12, inverted=True),
    Encoding("JPEG lossless", 16),
    Encoding("explicit", 16, signed=True),
    Encoding("implicit", 12, display="lut"),
    Encoding("explicit", 8, display="none"),
    Encoding("RLE", 12, signed=True, inverted=True),
    Encoding("JPEG", 8, display="none"),
)
"""The kinds that occur; all but the last are free of loss."""

_JPEG_QUALITY = 95

_GDCM = {"JPEG-LS": "JPEGLSLossless", "JPEG lossless": "JPEGLosslessProcess14_1"}
_LUT_BITS = 12


def write_dicom(
    file: Path, grey: NDArray[np.uint8], encoding: Encoding, tags: Mapping[str, object]
) -> None:
    """Write a picture (height, width) that is displayed as `grey`.

    It is so to within one grey value; as JPEG, as near as quality 95 keeps it.

    Parameters
    ----------
    file
        Where to.
    grey
        0 black to 255 white.
    encoding
        How.
    tags
        Further elements by DICOM keyword; None leaves one out.
    """
    made = _dataset(grey, encoding)
    for name, value in tags.items():
        if value is None:
            if name in made:
                delattr(made, name)
        else:
            setattr(made, name, value)
    meta = FileMetaDataset()
    plain = encoding.syntax != "implicit"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if plain else ImplicitVRLittleEndian
    made.file_meta = meta
    file.parent.mkdir(parents=True, exist_ok=True)
    if encoding.syntax in _GDCM:
        made.save_as(file, enforce_file_format=True)
        _recompress(file, _GDCM[encoding.syntax])
        return
    if encoding.syntax == "JPEG":
        _as_jpeg(made)
    if encoding.syntax in ("RLE", "JPEG 2000"):
        syntax = RLELossless if encoding.syntax == "RLE" else JPEG2000Lossless
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.compress(syntax, generate_instance_uid=False)
    made.save_as(file, enforce_file_format=True)


def make_uid(*address: object) -> str:
    """Return a UID that depends on the address alone (PS3.5 B.2)."""
    digest = hashlib.sha256("\0".join(map(str, address)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def _dataset(grey: NDArray[np.uint8], encoding: Encoding) -> Dataset:
    top = 2**encoding.bits - 1
    shown = 255 - grey if encoding.inverted else grey
    made = Dataset()
    made.SOPClassUID = DigitalXRayImageStorageForPresentation
    made.Rows, made.Columns = grey.shape
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME1" if encoding.inverted else "MONOCHROME2"
    made.BitsAllocated = 8 if encoding.bits == 8 else 16
    made.BitsStored, made.HighBit = encoding.bits, encoding.bits - 1
    made.PixelRepresentation = int(encoding.signed)
    if encoding.display == "none":
        stored = shown.astype(np.int64)
    else:
        # The window shows the middle of what the detector can tell.
        low, span = 0.1 * top, 0.75 * top
        stored = np.rint(low + span * shown / 255.0).astype(np.int64)
        offset = (top + 1) // 2 if encoding.signed else 0
        made.RescaleSlope, made.RescaleIntercept = 1, offset
        stored -= offset
        made.WindowCenter, made.WindowWidth = round(low + span / 2 + 0.5, 1), round(span + 1, 1)
    if encoding.display == "lut":
        entries = round(0.75 * top) + 1
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [entries, round(0.1 * top), _LUT_BITS])
        ramp = np.rint(np.linspace(0, 2**_LUT_BITS - 1, entries)).astype(int)
        item.add_new("LUTData", "US", ramp.tolist())
        made.VOILUTSequence = [item]
        made.WindowCenter, made.WindowWidth = 1, 2  # of a technician who never looked
    kind = ("i" if encoding.signed else "u") + str(made.BitsAllocated // 8)
    made.PixelData = stored.astype(kind).tobytes()
    made["PixelData"].VR = "OB" if made.BitsAllocated == 8 else "OW"
    return made


def _as_jpeg(made: Dataset) -> None:
    """Compress 8-bit pixels as baseline JPEG, and say that it is not free of loss (PS3.3 C.7.6)."""
    grey = np.frombuffer(made.PixelData, np.uint8).reshape(made.Rows, made.Columns)
    _, frame = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    made.PixelData = encapsulate([frame.tobytes()])
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    made.LossyImageCompression = "01"
    made.LossyImageCompressionRatio = round(grey.size / len(frame), 2)
    made.LossyImageCompressionMethod = "ISO_10918_1"


def _recompress(file: Path, syntax: str) -> None:
    """Compress a written file by gdcm, which encodes what pydicom's own plug-ins do not."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(os.fspath(file))
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        target = Path(folder) / file.name
        writer = gdcm.ImageWriter()
        writer.SetFileName(os.fspath(target))
        if not reader.Read():
            raise OSError(f"gdcm cannot read {file.name}")
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise OSError(f"gdcm cannot compress {file.name} as {syntax}")
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise OSError(f"gdcm cannot write {file.name}")
        compressed, made = dcmread(target), dcmread(file)
        # Only the pixels: gdcm adds times and UIDs of its own, which differ from run to run.
        made.PixelData = compressed.PixelData
        made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
        made.file_meta.TransferSyntaxUID = compressed.file_meta.TransferSyntaxUID
        made.save_as(file, enforce_file_format=True)
