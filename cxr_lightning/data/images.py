"""A radiograph's file to one grey array: PNG, JPEG and DICOM by one function.

A file is read completely or refused with a reason. Nothing here returns a picture whose lower part
is grey or black because the file ended early, as Pillow (PNG whose stream is short), OpenCV and
libjpeg (JPEG with a damaged stream) do, and nothing is written to stderr.

Eight bits per pixel are what is kept. Pictures of 16 bits say nothing about the range in which they
are meant to be seen, so the range of their own values is spread over 0 to 255, as for a DICOM
without a window. Colour becomes Rec. 601 luma; equal red, green and blue stay exactly that value.
Alpha is ignored, and so is EXIF orientation.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import kornia_rs
import numpy as np
from numpy.typing import NDArray

from cxr_lightning.data import png
from cxr_lightning.data.shrink import shrink
from cxr_lightning.data.unreadable import UnreadableImage

if TYPE_CHECKING:
    from cxr_lightning.data.dicom_display import Voi

__all__ = [
    "DECODER_VERSION",
    "Box",
    "Placement",
    "UnreadableImage",
    "decode_image",
    "is_picture",
    "placement",
    "read_image",
    "read_resized",
    "resize_to_square",
    "spread_to_uint8",
    "to_grey",
]

DECODER_VERSION = 4
"""Raised whenever the same file would give other pixels or another hash of them; caches of another
version are not used."""

_JPEG = b"\xff\xd8\xff"
DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})


class Drawn(Protocol):
    """What of `ImageConfig` decides pixels; decoders start sooner without its validation."""

    @property
    def size(self) -> int: ...
    @property
    def fit(self) -> str: ...
    @property
    def voi(self) -> Voi: ...


class Box(NamedTuple):
    """A part of a picture, in pixels from its upper left corner."""

    top: int
    left: int
    height: int
    width: int


class Placement(NamedTuple):
    """Which part of a picture (`source`) is drawn where in the square (`target`)."""

    source: Box
    target: Box


def read_image(path: Path | str, *, voi: Voi = "lut") -> NDArray[np.uint8]:
    """Read a radiograph as a contiguous uint8 array of shape (height, width).

    The kind is told from the content, not from the file's name. DICOM pixels are as displayed
    (see :mod:`cxr_lightning.data.dicom`).

    Raises
    ------
    UnreadableImage, with a short reason, for every file that is missing, is none of the three
    kinds, or cannot be decoded completely.
    """
    path = Path(path)
    try:
        return _decode(_read_bytes(path), path.suffix.lower(), voi)
    except UnreadableImage as error:
        raise UnreadableImage(error.reason, path, error.passing) from error


def decode_image(data: bytes, *, voi: Voi = "lut") -> NDArray[np.uint8]:
    """Decode the content of a PNG, JPEG or DICOM file as :func:`read_image` does.

    DICOM is told by its preamble here, as there is no name.

    Raises
    ------
    UnreadableImage, with a short reason.
    """
    if not data:
        raise UnreadableImage("empty file")
    return _decode(data, "", voi)


def is_picture(data: bytes) -> bool:
    """Tell whether a file that begins with `data`, of at least eight bytes, is a PNG or JPEG."""
    return data.startswith((png.SIGNATURE, _JPEG))


def read_resized(path: Path | str, image: Drawn) -> NDArray[np.uint8]:
    """Read a radiograph as a uint8 square of `image.size` pixels.

    The whole picture is decoded and then resized. The reduced decoding of JPEG is not used: it
    shifts single pixels by 10 to 60 grey values, and the hash of the picture needs all of it.
    """
    return resize_to_square(read_image(path, voi=image.voi), image)


def placement(height: int, width: int, image: Drawn) -> Placement:
    """Say how a picture of `height` x `width` pixels comes to lie in the square.

    Coordinates on the picture are mapped into the square with it, and back: a box of an
    annotation, or a heat map.
    """
    size, whole = image.size, Box(0, 0, height, width)
    if image.fit == "stretch":
        return Placement(whole, Box(0, 0, size, size))
    if image.fit == "crop":
        side = min(height, width)
        return Placement(
            Box((height - side) // 2, (width - side) // 2, side, side), Box(0, 0, size, size)
        )
    longest = max(height, width)
    inner_height = max(1, round(size * height / longest))
    inner_width = max(1, round(size * width / longest))
    return Placement(
        whole,
        Box((size - inner_height) // 2, (size - inner_width) // 2, inner_height, inner_width),
    )


def resize_to_square(image: NDArray[np.uint8], config: Drawn) -> NDArray[np.uint8]:
    """Resize a (height, width) picture to (size, size): padded with black, cropped or stretched.

    Shrinking averages over areas, enlarging is bilinear; each axis by itself, so that a stretched
    picture is averaged along the one that shrinks.
    """
    source, target = placement(image.shape[0], image.shape[1], config)
    top, left, height, width = source
    part: Any = image[top : top + height, left : left + width]
    shrunk = (min(height, target.height), min(width, target.width))
    if part.shape != shrunk:
        part = shrink(part, shrunk)
    if part.shape != (target.height, target.width):
        import cv2  # not sooner: see decoder.py

        part = cv2.resize(part, (target.width, target.height), interpolation=cv2.INTER_LINEAR)
    if part.shape == (config.size, config.size):
        return np.array(part, dtype=np.uint8, order="C")  # never a view of the caller's picture
    square = np.zeros((config.size, config.size), np.uint8)
    top, left, height, width = target
    square[top : top + height, left : left + width] = part
    return square


def to_grey(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Turn grey (H, W) or R, G, B (H, W, 3) of 8 or 16 bits into grey of 8 bits."""
    if image.ndim == 3:
        import cv2  # not sooner: see decoder.py

        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    if image.dtype != np.uint8:
        image = spread_to_uint8(image, image.min(), image.max())
    return np.ascontiguousarray(image)


def spread_to_uint8(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Map `low`..`high` linearly onto 0..255, rounded; values outside are clipped.

    Where `high` equals `low` there is nothing to show: all zero.
    """
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableImage("missing", passing=True) from error
    except IsADirectoryError as error:
        raise UnreadableImage("a folder, not a file", passing=True) from error
    except PermissionError as error:
        raise UnreadableImage("no permission to read it", passing=True) from error
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})"
        raise UnreadableImage(reason, passing=True) from error
    if not data:
        raise UnreadableImage("empty file")
    return data


def _decode(data: bytes, suffix: str, voi: Voi) -> NDArray[np.uint8]:
    if data.startswith(png.SIGNATURE):
        return to_grey(png.decode_png(data))
    if data.startswith(_JPEG):
        return _decode_jpeg(data)
    if data[128:132] == b"DICM" or suffix in DICOM_SUFFIXES:
        # imported here: pydicom takes longer to import than everything else in this module
        from cxr_lightning.data.dicom import read_dicom

        return read_dicom(BytesIO(data), voi=voi)
    raise UnreadableImage(f"not an image: starts with {data[:12]!r}; PNG, JPEG and DICOM are read")


def _decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    # kornia-rs treats libjpeg's warnings (stream ends early, wrong Huffman code) as errors, where
    # Pillow and OpenCV fill the rest with grey. Colour gives its luma channel, which is Rec. 601.
    try:
        return np.ascontiguousarray(kornia_rs.io.decode_image_jpegturbo(data, "mono")[..., 0])
    except Exception as error:  # the decoder raises nothing more specific
        if b"\xff\xd9" not in data[-64:].rstrip(b"\x00")[-2:]:
            raise UnreadableImage("truncated JPEG") from error
        raise UnreadableImage("damaged JPEG, or not 8 bits of grey or colour") from error
