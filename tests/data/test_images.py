"""Files to grey arrays: every kind of PNG and JPEG, every way in which one can be broken."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data.images import (
    UnreadableImage,
    placement,
    read_image,
    read_resized,
    resize_to_square,
    to_grey,
)
from cxr_lightning.data.shrink import areas, shrink

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
GREY = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)
COLOUR = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])


def luma(colour: np.ndarray) -> np.ndarray:
    """Rec. 601 by definition, in floating point."""
    return colour.astype(float) @ [0.299, 0.587, 0.114]


def png_of(image: Image.Image | np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(
    rows: bytes, width: int, height: int, depth: int, colour: int, interlaced: int = 0, *more: bytes
) -> bytes:
    """A PNG written by hand, from rows that begin with their filter byte."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = [
        chunk(b"IHDR", header),
        *more,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def adam7(image: np.ndarray) -> bytes:
    """The rows of the seven passes of an interlaced picture (ISO/IEC 15948 section 8.2)."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    parts = [image[y::dy, x::dx] for y, x, dy, dx in [*passes, (1, 0, 2, 1)]]
    rows = (row for part in parts if part.size for row in part)
    return b"".join(
        b"\0" + row.astype(">u2" if image.dtype == np.uint16 else "u1").tobytes() for row in rows
    )


@pytest.fixture
def read(tmp_path, capfd):
    """Read bytes as a file, and see that nothing was printed."""

    def read_bytes(data: bytes, name: str = "x.png") -> np.ndarray:
        path = tmp_path / name
        path.write_bytes(data)
        try:
            image = read_image(path)
        finally:
            assert capfd.readouterr() == ("", "")
        assert image.dtype == np.uint8
        assert image.ndim == 2
        assert image.flags.c_contiguous
        return image

    return read_bytes


class TestPNG:
    def test_grey_is_unchanged(self, read):
        np.testing.assert_array_equal(read(png_of(GREY)), GREY)

    def test_the_name_does_not_matter(self, read):
        np.testing.assert_array_equal(read(png_of(GREY), "x.jpg"), GREY)

    @pytest.mark.parametrize("channels", ["RGB", "RGBA"])
    def test_grey_stored_as_colour_is_unchanged(self, read, channels):
        alpha = [255 - GREY] if channels == "RGBA" else []
        np.testing.assert_array_equal(read(png_of(np.dstack([GREY] * 3 + alpha))), GREY)

    def test_colour_becomes_luma(self, read):
        assert np.abs(read(png_of(COLOUR)) - luma(COLOUR)).max() <= 0.51

    def test_palette(self, read):
        palette = Image.fromarray(COLOUR).quantize(64)
        assert palette.mode == "P"
        expected = luma(np.asarray(palette.convert("RGB")))
        assert np.abs(read(png_of(palette)) - expected).max() <= 0.51

    @pytest.mark.parametrize("colours", [2, 4, 16])
    def test_palette_of_few_bits_with_transparency(self, read, colours):
        palette = Image.fromarray(COLOUR).quantize(colours)
        expected = luma(np.asarray(palette.convert("RGB")))
        assert np.abs(read(png_of(palette, transparency=1)) - expected).max() <= 0.51

    def test_grey_with_alpha(self, read):
        picture = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(255 - GREY)])
        np.testing.assert_array_equal(read(png_of(picture)), GREY)

    def test_one_bit(self, read):
        np.testing.assert_array_equal(read(png_of(GREY > 99)), np.where(GREY > 99, 255, 0))

    @pytest.mark.parametrize(("depth", "step"), [(2, 85), (4, 17)])
    def test_two_and_four_bits(self, read, depth, step):
        values = GREY[:, :48] >> (8 - depth)
        bits = np.unpackbits(values[..., None], axis=2)[..., -depth:]
        rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits.reshape(37, -1))
        np.testing.assert_array_equal(read(raw_png(rows, 48, 37, depth, 0)), values * step)

    def test_sixteen_bits_by_hand(self, read):
        stored = np.array([[100, 200], [300, 1120]], np.uint16)  # 1020 values onto 255: 4 to 1
        np.testing.assert_array_equal(read(png_of(stored)), [[0, 25], [50, 255]])

    def test_sixteen_bits_of_colour(self, read):
        stored = GREY.astype(np.uint16) * 100
        data = cv2.imencode(".png", np.dstack([stored] * 3))[1].tobytes()
        low, high = int(stored.min()), int(stored.max())
        expected = np.rint((stored.astype(float) - low) * 255 / (high - low))
        np.testing.assert_array_equal(read(data), expected)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_interlaced(self, read, dtype):
        image = GREY.astype(dtype)
        image[0, :2] = 0, 255  # so that 16 bits are spread by a factor of 1
        data = raw_png(adam7(image), 53, 37, 8 * image.itemsize, 0, 1)
        np.testing.assert_array_equal(read(data), image)

    def test_interlaced_and_smaller_than_its_grid(self, read):
        image = np.array([[0, 255]], np.uint16)
        np.testing.assert_array_equal(read(raw_png(adam7(image), 2, 1, 16, 0, 1)), image)

    @pytest.mark.parametrize("value", [0, 7, 255])
    def test_constant_pictures_are_readable(self, read, value):
        np.testing.assert_array_equal(read(png_of(np.full((9, 9), value, np.uint8))), value)

    def test_useless_chunks_are_ignored_silently(self, read):
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in GREY.astype(np.uint16))
        broken_profile = chunk(b"iCCP", b"abc\0\0xxxx")
        grey = read(raw_png(rows, 53, 37, 16, 0, 0, broken_profile))
        np.testing.assert_array_equal(grey, to_grey(GREY.astype(np.uint16)))

    @settings(max_examples=30)
    @given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["L", "RGB", "RGBA"]), st.data())
    def test_decoders_agree_bit_for_bit(self, tmp_path_factory, height, width, mode, data):
        seed = data.draw(st.integers(0, 2**32 - 1))
        shape = (height, width) if mode == "L" else (height, width, len(mode))
        image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        path = tmp_path_factory.mktemp("png") / "x.png"
        path.write_bytes(png_of(image))
        if mode == "L":
            np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path)))
            np.testing.assert_array_equal(
                read_image(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            )
        else:
            assert np.abs(read_image(path) - luma(image[..., :3])).max() <= 0.51


PICTURES = {
    "grey": png_of(GREY),
    "rgba": png_of(np.dstack([COLOUR, GREY])),
    "palette": png_of(Image.fromarray(COLOUR).quantize(64)),
    "16 bits": png_of(GREY.astype(np.uint16) * 200),
    "interlaced": raw_png(adam7(GREY), 53, 37, 8, 0, 1),
}


class TestBrokenPNG:
    @pytest.mark.parametrize("kind", PICTURES)
    def test_a_file_cut_anywhere_is_truncated(self, read, kind):
        data = PICTURES[kind]
        for kept in [8, 20, 33, 40, len(data) // 2, len(data) - 30, len(data) - 12, len(data) - 5]:
            with pytest.raises(UnreadableImage, match="truncated PNG"):
                read(data[:kept])

    @pytest.mark.parametrize("kind", PICTURES)
    def test_a_flipped_byte_is_damage(self, read, kind):
        data = bytearray(PICTURES[kind])
        data[data.index(b"IDAT") + 30] ^= 0x10
        with pytest.raises(UnreadableImage, match="damaged PNG"):
            read(bytes(data))

    @pytest.mark.parametrize("depth", [8, 16])
    def test_too_few_rows_with_correct_checksums(self, read, depth):
        rows = (b"\0" + bytes(53 * depth // 8)) * 20
        with pytest.raises(UnreadableImage, match="PNG"):
            read(raw_png(rows, 53, 37, depth, 0))

    @pytest.mark.parametrize("depth", [8, 16])
    def test_unknown_row_filter(self, read, depth):
        rows = (b"\7" + bytes(53 * depth // 8)) * 37
        with pytest.raises(UnreadableImage, match="damaged PNG"):
            read(raw_png(rows, 53, 37, depth, 0))

    @pytest.mark.parametrize(("width", "height"), [(0, 5), (2**31 - 1, 2**31 - 1)])
    def test_impossible_sizes(self, read, width, height):
        with pytest.raises(UnreadableImage, match="pixels"):
            read(raw_png(b"", width, height, 8, 0))

    def test_impossible_kinds(self, read):
        with pytest.raises(UnreadableImage, match="impossible header"):
            read(raw_png(b"\0" * 60, 5, 5, 8, 5))

    def test_no_palette(self, read):
        with pytest.raises(UnreadableImage, match="no palette"):
            read(raw_png(b"\0" * 30, 5, 5, 8, 3))

    @settings(max_examples=60)
    @given(st.sampled_from(sorted(PICTURES)), st.data())
    def test_garbage_is_refused_or_harmless(self, tmp_path_factory, kind, data):
        content = bytearray(PICTURES[kind])
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path_factory.mktemp("png") / "x.png"
        path.write_bytes(content)
        try:
            image = read_image(path)
        except UnreadableImage as error:
            reason = error.reason
        else:  # what was changed is of no consequence, or not covered by any checksum
            reason = f"PNG of {image.ndim} axes"
        assert reason.startswith(("damaged PNG", "truncated PNG", "PNG of"))


class TestJPEG:
    SMOOTH = cv2.GaussianBlur(GREY, (0, 0), 2)
    DATA = cv2.imencode(".jpg", SMOOTH, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()

    def test_equals_other_decoders(self, read):
        np.testing.assert_array_equal(
            read(self.DATA), np.asarray(Image.open(io.BytesIO(self.DATA)))
        )
        assert np.abs(read(self.DATA).astype(int) - self.SMOOTH).max() < 8

    def test_progressive(self, read):
        data = cv2.imencode(".jpg", self.SMOOTH, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
        np.testing.assert_array_equal(read(data), np.asarray(Image.open(io.BytesIO(data))))

    def test_colour_gives_its_luma(self, read):
        colour = cv2.GaussianBlur(COLOUR, (0, 0), 3)
        data = cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
        assert np.abs(read(data) - luma(colour[..., ::-1])).max() < 6

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_truncated(self, read, share):
        with pytest.raises(UnreadableImage, match="truncated JPEG"):
            read(self.DATA[: int(len(self.DATA) * share)])

    def test_without_its_end_marker(self, read):
        with pytest.raises(UnreadableImage, match="truncated JPEG"):
            read(self.DATA[:-2])

    def test_a_stream_that_ends_early_but_is_closed(self, read):
        # Pillow and OpenCV return such a picture with a grey lower half
        data = self.DATA[: int(len(self.DATA) * 0.7)] + b"\xff\xd9"
        assert np.asarray(Image.open(io.BytesIO(data))).shape == GREY.shape
        with pytest.raises(UnreadableImage, match="damaged JPEG"):
            read(data)

    def test_padding_after_the_end_is_harmless(self, read):
        np.testing.assert_array_equal(read(self.DATA + bytes(50)), read(self.DATA))


class TestNotAnImage:
    def test_missing(self, tmp_path):
        path = tmp_path / "nothing.png"
        with pytest.raises(UnreadableImage) as caught:
            read_image(path)
        assert str(caught.value) == f"{path}: missing"
        assert caught.value.passing

    def test_folder(self, tmp_path):
        with pytest.raises(UnreadableImage, match="a folder, not a file"):
            read_image(tmp_path)

    def test_empty(self, read):
        with pytest.raises(UnreadableImage, match="empty file"):
            read(b"")

    def test_a_web_page(self, read):
        with pytest.raises(UnreadableImage) as caught:
            read(b"<!DOCTYPE html><html>sign in</html>")
        assert caught.value.reason.startswith("not an image: starts with b'<!DOCTYPE ht'")
        assert not caught.value.passing

    def test_the_error_survives_pickling(self):
        error = UnreadableImage("missing", Path("a/b.png"), passing=True)
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # made here
        assert (str(copy), copy.reason, copy.passing) == (str(error), "missing", True)


class TestResize:
    def test_same_size_is_a_copy(self):
        image = GREY[:32, :32]
        square = resize_to_square(image, ImageConfig(size=32))
        np.testing.assert_array_equal(square, image)
        assert not np.shares_memory(square, image)

    def test_shrinking_averages_areas(self):
        image = np.random.default_rng(1).integers(0, 256, (128, 128), dtype=np.uint8)
        means = image.reshape(32, 4, 32, 4).mean((1, 3))
        assert np.abs(resize_to_square(image, ImageConfig(size=32)) - means).max() <= 0.51

    @pytest.mark.parametrize(
        ("height", "width", "size"),
        [
            (1024, 1024, 224),
            (1024, 1024, 448),  # 7 areas in 16 pixels
            (2048, 1664, 224),  # 7 in 64, both ways
            (1024, 832, 320),
            (512, 512, 96),
            (1024, 1024, 256),  # whole numbers of pixels
            (1024, 1024, 299),  # nothing repeats
            (1024, 1000, 224),  # repeats down, not across
        ],
    )
    def test_large_pictures_are_averaged_as_by_opencv(self, height, width, size):
        image = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
        image[: height // 2] = cv2.blur(image[: height // 2], (9, 9))
        config = ImageConfig(size=size)
        top, left, rows, columns = placement(height, width, config).target
        expected = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
        square = resize_to_square(image, config)
        np.testing.assert_array_equal(square[top : top + rows, left : left + columns], expected)

    def test_a_picture_is_the_caller_s_own_whatever_is_shrunk_after_it(self):
        one, other = np.random.default_rng(3).integers(0, 256, (2, 256, 256), dtype=np.uint8)
        small = shrink(one, (96, 96))
        before = small.copy()
        shrink(other, (96, 96))
        np.testing.assert_array_equal(small, before)

    def test_pictures_of_several_shapes_are_shrunk_by_several_threads(self):
        draw = np.random.default_rng(4)
        pictures = [
            draw.integers(0, 256, (side, 512), dtype=np.uint8) for side in (256, 512) for _ in "12"
        ] * 10
        shapes = [(len(picture) * 3 // 8, 192) for picture in pictures]
        with ThreadPoolExecutor(4) as pool:
            small = list(pool.map(shrink, pictures, shapes))
        for picture, shape, result in zip(pictures, shapes, small, strict=True):
            expected = cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_AREA)
            np.testing.assert_array_equal(result, expected)

    def test_the_averages_are_products_where_the_pattern_repeats(self):
        shares = areas(1024, 224)
        assert shares is not None
        assert shares.shape == (7, 32)
        np.testing.assert_array_equal(shares.sum(0) * 32, 7)
        np.testing.assert_array_equal(shares.sum(1), 1)
        np.testing.assert_array_equal(shares[0, :6], np.array([7, 7, 7, 7, 4, 0]) / 32)
        assert areas(1024, 299) is None
        assert areas(1024, 256) is None

    def test_pad_by_hand(self):
        image = np.full((64, 32), 200, np.uint8)
        square = resize_to_square(image, ImageConfig(size=32, fit="pad"))
        np.testing.assert_array_equal(square[:, 8:24], 200)
        assert square[:, :8].max() == square[:, 24:].max() == 0

    def test_crop_by_hand(self):
        image = np.zeros((32, 96), np.uint8)
        image[:, 32:64] = 77
        np.testing.assert_array_equal(resize_to_square(image, ImageConfig(size=32, fit="crop")), 77)

    def test_stretch_averages_the_axis_that_shrinks(self):
        image = np.tile(np.array([0, 200], np.uint8), (16, 128))  # 256 columns, alternating
        square = resize_to_square(image, ImageConfig(size=32, fit="stretch"))
        np.testing.assert_array_equal(square, 100)

    @settings(max_examples=80)
    @given(
        st.integers(1, 90), st.integers(1, 90), st.integers(32, 64),
        st.sampled_from(["pad", "crop", "stretch"]), st.integers(1, 255),
    )  # fmt: skip
    def test_whatever_the_shape(self, height, width, size, fit, value):
        image = np.full((height, width), value, np.uint8)
        config = ImageConfig(size=size, fit=fit)
        square = resize_to_square(image, config)
        assert square.shape == (size, size)
        assert square.flags.c_contiguous
        source, target = placement(height, width, config)
        assert source.top >= 0
        assert source.left >= 0
        assert source.top + source.height <= height
        assert source.left + source.width <= width
        inside = np.zeros((size, size), bool)
        inside[
            target.top : target.top + target.height, target.left : target.left + target.width
        ] = True
        np.testing.assert_array_equal(square, np.where(inside, value, 0))
        assert (image == value).all()

    def test_read_resized(self, tmp_path):
        path = tmp_path / "x.png"
        path.write_bytes(png_of(GREY))
        config = ImageConfig(size=32, fit="crop")
        np.testing.assert_array_equal(read_resized(path, config), resize_to_square(GREY, config))


def test_real_radiographs_equal_another_decoder():
    folder = SHARED / "nih_dev" / "images_1024"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: real radiographs are not part of the project")
    paths = sorted(folder.glob("*.png"))[:12]
    for path in paths:
        expected = np.asarray(Image.open(path).convert("L"))
        np.testing.assert_array_equal(read_image(path), expected)
