"""What the tests of data modules share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian


@pytest.fixture
def radiograph() -> Callable[..., Path]:
    """Return a function that writes a DICOM file; None leaves an element out.

    `syntax` is its transfer syntax.
    """
    return write_radiograph


def write_radiograph(file: Path, **elements: object) -> Path:
    number = crc32(str(file).encode())
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = elements.pop("syntax", ExplicitVRLittleEndian)
    made.SOPClassUID = DigitalXRayImageStorageForPresentation
    made.SOPInstanceUID = f"1.2.{number}"
    made.Modality, made.BodyPartExamined, made.ViewPosition = "DX", "CHEST", "PA"
    made.PatientID, made.PatientSex, made.PatientAge = "P1", "F", "061Y"
    made.PatientName, made.StudyDate = "Doe^Jane", "20200301"
    made.Rows = made.Columns = 8
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.PixelRepresentation, made.SamplesPerPixel = 0, 1
    made.PhotometricInterpretation = "MONOCHROME2"
    generator = np.random.default_rng(number)
    made.PixelData = generator.integers(0, 4096, (8, 8), dtype=np.uint16).tobytes()
    made["PixelData"].VR = "OW"
    for name, value in elements.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    file.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(file, enforce_file_format=True)
    return file
