"""PNG bytes to an array, complete or not at all.

Decoders differ in what they let pass. Pillow returns a picture whose stream ends early (the rest
is black) or whose last chunk is missing; libpng, behind OpenCV, writes its complaints to stderr.
Here the common kinds (8-bit grey, RGB, RGBA) go to the decoder of kornia-rs: it checks every
chunk's CRC, refuses what is incomplete, and takes less than half the time of the others. Every
other kind is first verified chunk by chunk and decompressed for its exact length, and then OpenCV
is given palette and pixels alone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import kornia_rs
import numpy as np
from numpy.typing import NDArray

from cxr_lightning.data.unreadable import UnreadableImage

__all__ = ["SIGNATURE", "decode_png"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 2**27  # a 10k x 13k film scan; a header that claims more is damage or an attack

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types, ISO/IEC 15948 section 11.2.2
SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
FAST_MODES = {GREY: "mono", RGB: "rgb", RGBA: "rgba"}
ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


class Header(NamedTuple):
    """The IHDR chunk."""

    width: int
    height: int
    depth: int
    colour: int
    compression: int
    filtering: int
    interlaced: int


def decode_png(data: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode a PNG of any colour type, bit depth and interlacing.

    Returns
    -------
    array of shape (H, W) for grey pictures, (H, W, 3) in the order R, G, B for the others (palettes
    are resolved, alpha is dropped); uint16 where the file has 16 bits per sample, else uint8. Grey
    of 1, 2 or 4 bits is spread over 0 to 255.

    Raises
    ------
    UnreadableImage for anything that is not complete and consistent.
    """
    header = _read_header(data)
    if header.depth == 8 and header.colour in FAST_MODES:
        return _decode_fast(data, header)
    import cv2  # not sooner: see decoder.py

    image: Any = cv2.imdecode(
        np.frombuffer(_verified(data, header), np.uint8), cv2.IMREAD_UNCHANGED
    )
    if image is None:
        raise UnreadableImage("damaged PNG")
    if header.colour in (GREY, GREY_ALPHA):
        image = image[..., None] if image.ndim == 2 else image
        return np.ascontiguousarray(image[..., 0])
    return np.ascontiguousarray(image[..., 2::-1])


def _read_header(data: bytes) -> Header:
    if len(data) < 33:
        raise UnreadableImage("truncated PNG")
    if data[12:16] != b"IHDR":
        raise UnreadableImage("damaged PNG: no header chunk")
    header = Header(*struct.unpack(">IIBBBBB", data[16:29]))
    if header.colour not in SAMPLES or header.depth not in (1, 2, 4, 8, 16):
        raise UnreadableImage("damaged PNG: impossible header")
    if not 0 < header.width * header.height <= MAX_PIXELS:
        raise UnreadableImage(f"PNG of {header.width} x {header.height} pixels")
    return header


def _decode_fast(data: bytes, header: Header) -> NDArray[np.uint8]:
    try:
        image = kornia_rs.io.decode_image_png_u8(
            data, (header.height, header.width), FAST_MODES[header.colour]
        )
    except Exception as error:  # the decoder raises nothing more specific
        complete = data.rfind(b"IEND") >= 0
        raise UnreadableImage("damaged PNG" if complete else "truncated PNG") from error
    return np.ascontiguousarray(image[..., 0 if header.colour == GREY else slice(3)])


def _verified(data: bytes, header: Header) -> bytes:
    """Rewrite the file with only its palette and pixels, once those are known to be whole."""
    streams, kept = [], [SIGNATURE + data[8:33]]
    for kind, body in _chunks(data):
        if kind == b"IDAT":
            streams.append(body)
        elif kind == b"PLTE" and header.colour == PALETTE:
            kept.append(_chunk(kind, bytes(body)))
    if header.colour == PALETTE and len(kept) == 1:
        raise UnreadableImage("damaged PNG: no palette")
    passes = list(_rows(header))
    expected = sum(rows * stride for rows, stride in passes)
    inflater = zlib.decompressobj()
    try:
        pixels = inflater.decompress(b"".join(streams), expected)
        inflater.decompress(inflater.unconsumed_tail, 1)  # reads on to the stream's own checksum
    except zlib.error as error:
        raise UnreadableImage("damaged PNG: broken pixel stream") from error
    if len(pixels) < expected:
        raise UnreadableImage("truncated PNG: not enough pixel data")
    start = 0
    for rows, stride in passes:
        if np.frombuffer(pixels, np.uint8, rows * stride, start)[::stride].max() > 4:
            raise UnreadableImage("damaged PNG: unknown row filter")
        start += rows * stride
    stored = zlib.compress(pixels, 0)  # copies without compressing
    return b"".join([*kept, _chunk(b"IDAT", stored), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Walk (type, body) up to IEND and check each CRC."""
    view, start = memoryview(data), len(SIGNATURE)
    while start + 12 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        end = start + 12 + length
        if end > len(data):
            break
        kind = data[start + 4 : start + 8]
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise UnreadableImage("damaged PNG: wrong checksum")
        yield kind, view[start + 8 : end - 4]
        if kind == b"IEND":
            return
        start = end
    raise UnreadableImage("truncated PNG")


def _rows(header: Header) -> Iterator[tuple[int, int]]:
    """Yield (rows, bytes per row with its filter byte) of the picture, or of its Adam7 passes."""
    bits = header.depth * SAMPLES[header.colour]
    for top, left, down, right in ADAM7 if header.interlaced else ((0, 0, 1, 1),):
        width = -(-(header.width - left) // right)
        height = -(-(header.height - top) // down)
        if width > 0 and height > 0:
            yield height, 1 + (width * bits + 7) // 8
