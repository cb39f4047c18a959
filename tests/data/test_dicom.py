"""DICOM pixels as displayed: by hand, against pydicom's own look-up tables, in many encodings."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from cxr_lightning.data.dicom import dicom_to_grey, read_dicom
from cxr_lightning.data.images import UnreadableImage, read_image

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
ROWS, COLUMNS = np.mgrid[0:48, 0:40]
NOISE = np.random.default_rng(0).integers(0, 4096, (48, 40), dtype=np.uint16)
TWELVE_BITS = ((ROWS * 83 + COLUMNS * 5) % 4096).astype(np.uint16)


def dataset(pixels: np.ndarray, *, bits: int | None = None, **elements: object) -> Dataset:
    """An uncompressed dataset with these stored values."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = "1.2.3.4"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    made.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = pixels.itemsize * 8
    made.BitsStored = bits or made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in elements.items():
        setattr(made, name, value)
    made.PixelData = pixels.tobytes()
    made["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    return made


def written(made: Dataset, syntax: UID | None = None) -> bytes:
    """The file of a dataset, in another uncompressed transfer syntax if one is given."""
    made = copy.deepcopy(made)
    if syntax is not None:
        made.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian and made.BitsAllocated == 16:
            made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def with_gdcm(data: bytes, folder: Path, syntax: str, *, off_by: int = 0) -> bytes:
    """Compress a file with gdcm, which encodes what pydicom's own plug-ins do not.

    `off_by`: how far a pixel of near-lossless JPEG-LS may be from what it was.
    """
    gdcm = pytest.importorskip("gdcm", reason="python-gdcm is not installed")
    (folder / "from.dcm").write_bytes(data)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(folder / "from.dcm"))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    if off_by:
        codec = gdcm.JPEGLSCodec()
        codec.SetLossless(False)
        codec.SetLossyError(off_by)
        change.SetUserCodec(codec)
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(folder / "to.dcm"))
    assert writer.Write()
    return (folder / "to.dcm").read_bytes()


def encoded(kind: str, made: Dataset, folder: Path) -> bytes:
    plain = {
        "implicit": ImplicitVRLittleEndian,
        "explicit": ExplicitVRLittleEndian,
        "big endian": ExplicitVRBigEndian,
        "deflated": DeflatedExplicitVRLittleEndian,
    }
    if kind in plain:
        return written(made, plain[kind])
    if kind in ("RLE", "JPEG 2000"):
        made = dcmread(io.BytesIO(written(made)))
        made.compress({"RLE": RLELossless, "JPEG 2000": JPEG2000Lossless}[kind])
        return written(made)
    names = {
        "JPEG-LS": "JPEGLSLossless",
        "JPEG lossless": "JPEGLosslessProcess14_1",
        "JPEG lossless 14": "JPEGLosslessProcess14",
    }
    return with_gdcm(written(made), folder, names[kind])


UNCOMPRESSED = ("implicit", "explicit", "big endian", "deflated")
COMPRESSED = ("RLE", "JPEG 2000", "JPEG-LS", "JPEG lossless", "JPEG lossless 14")


def of_bits(bits: int) -> np.ndarray:
    """A picture that uses all of 8, 10, 12, 14 or 16 stored bits."""
    if bits == 8:
        return (TWELVE_BITS >> 4).astype(np.uint8)
    return TWELVE_BITS << bits - 12 if bits > 12 else TWELVE_BITS >> 12 - bits


def of_bits_as_dataset(bits: int, *, signed: bool) -> Dataset:
    """The same with a window over all of it, the middle of the values at 0 if signed."""
    stored, middle = of_bits(bits), 2 ** (bits - 1)
    if signed:
        stored = (stored.astype(int) - middle).astype(f"i{stored.itemsize}")
    return dataset(stored, bits=bits, WindowCenter=0 if signed else middle, WindowWidth=2**bits)


def lookup_item(first: int, depth: int, table: list[int]) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US" if first >= 0 else "SS", [len(table), first, depth])
    item.add_new("LUTData", "US", table)
    return item


class TestByHand:
    def test_linear_window(self):
        # PS3.3 C.11.2.1.2.1: c 100, w 51 is a ramp from 74.5 to 124.5, 5.1 grey values a step
        stored = np.array([[0, 74, 75, 99], [100, 124, 125, 4000]], np.uint16)
        made = dataset(stored, bits=12, WindowCenter=100, WindowWidth=51)
        np.testing.assert_array_equal(dicom_to_grey(made), [[0, 0, 3, 125], [130, 252, 255, 255]])

    def test_linear_exact_window(self):
        stored = np.array([[74, 75, 90, 125, 126]], np.uint16)  # 5.1 grey values a step
        made = dataset(stored, bits=12, WindowCenter=100, WindowWidth=50)
        made.VOILUTFunction = "LINEAR_EXACT"
        np.testing.assert_array_equal(dicom_to_grey(made), [[0, 0, 76, 255, 255]])

    def test_sigmoid_window(self):
        # 255 / (1 + exp(-4 (x - 100) / 40)): at 90, 255 / (1 + e) = 68.58; at 120, 224.6
        stored = np.array([[0, 90, 100, 120, 4095]], np.uint16)
        made = dataset(stored, bits=12, WindowCenter=100, WindowWidth=40, VOILUTFunction="SIGMOID")
        np.testing.assert_array_equal(dicom_to_grey(made), [[0, 69, 128, 225, 255]])

    def test_rescale_comes_before_the_window(self):
        stored = np.array([[500, 620, 700]], np.uint16)  # 0, 240, 400
        made = dataset(stored, bits=12, RescaleSlope=2, RescaleIntercept=-1000)
        made.WindowCenter, made.WindowWidth = 200.5, 401
        np.testing.assert_array_equal(dicom_to_grey(made), [[0, 153, 255]])

    def test_monochrome1_is_inverted_after_the_window(self):
        stored = np.array([[0, 10, 20, 30]], np.uint16)
        made = dataset(stored, bits=12, WindowCenter=10.5, WindowWidth=21)
        made.PhotometricInterpretation = "MONOCHROME1"
        np.testing.assert_array_equal(dicom_to_grey(made), [[255, 127, 0, 0]])

    def test_the_first_of_several_windows(self):
        stored = np.array([[0, 255, 510]], np.uint16)
        made = dataset(stored, bits=12, WindowCenter=[255.5, 9, 9], WindowWidth=[511, 2, 2])
        np.testing.assert_array_equal(dicom_to_grey(made), [[0, 128, 255]])

    @pytest.mark.parametrize("window", [(100, 0), (100, -5), (None, 10), ("", "")])
    def test_a_window_that_shows_nothing_is_no_window(self, window):
        stored = np.array([[100, 610]], np.uint16)
        made = dataset(stored, bits=12, WindowCenter=window[0], WindowWidth=window[1])
        np.testing.assert_array_equal(dicom_to_grey(made), [[0, 255]])

    @pytest.mark.parametrize("dirt", [0, 0x5000])
    @pytest.mark.parametrize("padding", [None, -2048])
    def test_the_range_of_signed_pixels(self, dirt, padding):
        low = np.array([[-2048, -1000, -490, 20]], np.int16).view(np.uint16) & 0x0FFF
        stored = (low | dirt).view(np.int16) if dirt else np.array([[-2048, -1000, -490, 20]], "i2")
        made = dataset(stored, bits=12)
        if padding is not None:
            made.PixelPaddingValue = padding
        shown = [0, 0, 128, 255] if padding is not None else [0, 129, 192, 255]
        np.testing.assert_array_equal(dicom_to_grey(made), [shown])

    def test_without_a_window_the_range_is_shown(self):
        stored = np.array([[1000, 1510], [1020, 2020]], np.uint16)  # 1020 values, 4 a grey value
        np.testing.assert_array_equal(dicom_to_grey(dataset(stored, bits=12)), [[0, 128], [5, 255]])

    def test_eight_bits_without_a_window_are_unchanged(self):
        stored = np.array([[3, 77, 200]], np.uint8)
        np.testing.assert_array_equal(dicom_to_grey(dataset(stored)), stored)
        wide = dataset(stored.astype(np.uint16), bits=8, RescaleSlope=1, RescaleIntercept=-1024)
        np.testing.assert_array_equal(dicom_to_grey(wide), stored)

    def test_a_constant_picture_is_black(self):
        assert dicom_to_grey(dataset(np.full((4, 5), 900, np.uint16), bits=12)).max() == 0

    def test_signed_pixels(self):
        stored = np.array([[-1000, -490, 20]], np.int16)
        np.testing.assert_array_equal(dicom_to_grey(dataset(stored, bits=12)), [[0, 128, 255]])

    def test_bits_above_those_stored_are_ignored(self):
        stored = np.array([[0, 2048, 4095]], np.uint16)
        dirty = stored | np.array([[0xF000, 0x1000, 0xA000]], np.uint16)
        made = dataset(dirty, bits=12, WindowCenter=2048, WindowWidth=4096)
        np.testing.assert_array_equal(dicom_to_grey(made), [[0, 128, 255]])

    def test_bits_above_those_stored_are_ignored_in_signed_pixels(self):
        low = np.array([[0x0800, 0x0FFF, 0x07FF]], np.uint16)  # -2048, -1, 2047 in 12 bits
        dirty = (low | np.array([[0, 0x5000, 0xF000]], np.uint16)).view(np.int16)
        made = dataset(dirty, bits=12, WindowCenter=0, WindowWidth=4096)
        np.testing.assert_array_equal(dicom_to_grey(made), [[0, 127, 255]])

    @pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
    def test_padding_is_black_and_no_part_of_the_range(self, interpretation):
        stored = np.array([[-2000, 0, 510]], np.int16)
        made = dataset(stored, PixelPaddingValue=-2000, PhotometricInterpretation=interpretation)
        shown = [0, 255] if interpretation == "MONOCHROME2" else [255, 0]
        np.testing.assert_array_equal(dicom_to_grey(made), [[0, *shown]])

    def test_voi_table(self):
        table = [0, 1023, 511, 1023]  # for the values 10 to 13; beyond, its ends
        made = dataset(np.array([[0, 10, 11, 12, 13, 4000]], np.uint16), bits=12)
        made.VOILUTSequence = [lookup_item(10, 10, table)]
        made.WindowCenter, made.WindowWidth = 5, 5  # the table comes first
        np.testing.assert_array_equal(dicom_to_grey(made), [[0, 0, 255, 127, 255, 255]])

    def test_window_or_table_first_or_neither(self):
        made = dataset(np.array([[0, 10, 11, 20, 4000]], np.uint16), bits=12)
        made.VOILUTSequence = [lookup_item(10, 8, [0, 255])]
        made.WindowCenter, made.WindowWidth = 10.5, 21  # 0 to 20
        by_table, by_window = [0, 0, 255, 255, 255], [0, 128, 140, 255, 255]
        np.testing.assert_array_equal(dicom_to_grey(made), [by_table])
        np.testing.assert_array_equal(dicom_to_grey(made, voi="window"), [by_window])
        np.testing.assert_array_equal(dicom_to_grey(made, voi="range"), [[0, 1, 1, 1, 255]])
        del made.VOILUTSequence
        np.testing.assert_array_equal(dicom_to_grey(made, voi="lut"), [by_window])
        made.WindowWidth = 0
        np.testing.assert_array_equal(dicom_to_grey(made, voi="window"), [[0, 1, 1, 1, 255]])

    def test_modality_table(self):
        made = dataset(np.array([[0, 1, 2, 9]], np.uint16), bits=12)
        made.ModalityLUTSequence = [lookup_item(0, 16, [500, 0, 1020])]
        np.testing.assert_array_equal(dicom_to_grey(made), [[125, 0, 255, 255]])

    def test_thirty_two_bits(self):
        stored = np.array([[0, 2**31, 2**32 - 1]], np.uint32)
        np.testing.assert_array_equal(dicom_to_grey(dataset(stored)), [[0, 128, 255]])

    def test_one_bit(self):
        made = dataset(np.zeros((2, 8), np.uint8), bits=1, BitsAllocated=1)
        made.PixelData = bytes([0b00001111, 0b10000000])
        grey = dicom_to_grey(made)
        np.testing.assert_array_equal(grey[0], [255] * 4 + [0] * 4)
        np.testing.assert_array_equal(grey[1], [0] * 7 + [255])


class TestOrder:
    """What the other order, averaging before the window, would do: why it is not taken."""

    @staticmethod
    def both(stored: np.ndarray, centre: float, width: float) -> tuple[np.ndarray, np.ndarray]:
        """Cells of 8 x 8 pixels: mapped and then averaged, and averaged and then mapped."""
        window = {"WindowCenter": centre, "WindowWidth": width}
        grey = dicom_to_grey(dataset(stored, bits=12, **window))
        cells = stored.reshape(3, 8, 3, 8).mean(axis=(1, 3))
        averaged = dataset(np.rint(cells).astype(np.uint16), bits=12, **window)
        first = cv2.resize(grey, (3, 3), interpolation=cv2.INTER_AREA)
        return first.astype(int), dicom_to_grey(averaged).astype(int)

    @settings(max_examples=40)
    @given(
        seed=st.integers(0, 2**32 - 1),
        low=st.integers(0, 3000),
        span=st.integers(300, 1000),
    )
    def test_where_nothing_is_clipped_they_agree(self, seed: int, low: int, span: int):
        stored = np.random.default_rng(seed).integers(low, low + span, (24, 24), dtype=np.uint16)
        first, then = self.both(stored, low + span / 2 + 0.5, span + 1)
        assert np.abs(first - then).max() <= 1

    @settings(max_examples=40)
    @given(
        seed=st.integers(0, 2**32 - 1),
        centre=st.floats(0, 4095),
        width=st.floats(2, 4096),
        share=st.floats(0, 1),
    )
    def test_the_bound(self, seed: int, centre: float, width: float, share: float):
        generator = np.random.default_rng(seed)
        stored = generator.integers(0, 4096, (24, 24), dtype=np.uint16)
        stored[generator.random((24, 24)) < share] = 0  # the shutter
        first, then = self.both(stored, centre, width)
        cells = stored.reshape(3, 8, 3, 8).swapaxes(1, 2).reshape(3, 3, 64).astype(float)
        deviation = np.abs(cells - cells.mean(axis=2, keepdims=True)).mean(axis=2)
        slope = 255 / (width - 1)
        rounding = 1.5 + slope / 2
        assert (np.abs(first - then) <= slope * deviation + rounding).all()

    def test_a_narrow_window_beside_the_shutter_is_off_by_half_the_range(self):
        """Half of a cell is black shutter, half bright lung."""
        stored = np.tile(np.array([0, 4000], np.uint16), (24, 12))
        first, then = self.both(stored, 100, 51)
        assert set(first.ravel()) <= {127, 128}
        assert set(then.ravel()) == {255}


def test_looking_up_sixteen_bits_without_opencv_s_help(monkeypatch):
    made = dataset(TWELVE_BITS.astype(np.int16) - 2048, bits=12, WindowCenter=0, WindowWidth=3000)
    expected = dicom_to_grey(made)

    def refuse(*_: object) -> None:
        raise cv2.error("Assertion failed")

    monkeypatch.setattr(cv2, "LUT", refuse)
    np.testing.assert_array_equal(dicom_to_grey(made), expected)


def test_stored_bits_in_the_upper_part_of_their_cells_are_refused():
    # earlier editions of the standard allowed them; decoders take the lowest bits all the same
    made = dataset(TWELVE_BITS << 4, bits=12)
    made.HighBit = 15
    with pytest.raises(UnreadableImage, match=r"not the lowest \(Bits Stored 12, High Bit 15\)"):
        dicom_to_grey(made)


def test_a_high_bit_beyond_the_cell_is_not_believed():
    made = dataset(TWELVE_BITS, bits=12)
    expected = dicom_to_grey(made)
    made.HighBit = 20
    np.testing.assert_array_equal(dicom_to_grey(made), expected)


class TestAgainstPydicom:
    """pydicom applies the standard's formulas to every pixel, in floating point."""

    @staticmethod
    def reference(made: Dataset, stored: np.ndarray) -> np.ndarray:
        made = copy.deepcopy(made)
        shown = apply_voi_lut(apply_modality_lut(stored, made), made).astype(float)
        if "VOILUTSequence" in made:
            low, high = 0, 2 ** made.VOILUTSequence[0].LUTDescriptor[2] - 1
        else:
            slope, intercept = made.get("RescaleSlope", 1), made.get("RescaleIntercept", 0)
            smallest = -(2 ** (made.BitsStored - 1)) if made.PixelRepresentation else 0
            low = smallest * slope + intercept
            high = (smallest + 2**made.BitsStored - 1) * slope + intercept
        return (shown - low) / (high - low) * 255

    @pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
    @pytest.mark.parametrize("signed", [False, True])
    @pytest.mark.parametrize("rescale", [None, (1.7, -900.5)])
    def test_windows(self, function, signed, rescale):
        stored = TWELVE_BITS.astype(np.int16) - 2048 if signed else TWELVE_BITS
        made = dataset(stored, bits=12, WindowCenter=333.3, WindowWidth=1500.5)
        if function:
            made.VOILUTFunction = function
        if rescale:
            made.RescaleSlope, made.RescaleIntercept = rescale
        expected = self.reference(made, stored)
        assert expected.std() > 40
        assert np.abs(dicom_to_grey(made) - expected).max() <= 0.5 + 1e-9

    @pytest.mark.parametrize("depth", [10, 12, 16])
    def test_voi_tables(self, depth):
        table = np.sqrt(np.linspace(0, 1, 3000)) * (2**depth - 1)
        made = dataset(TWELVE_BITS, bits=12)
        made.VOILUTSequence = [lookup_item(500, depth, table.astype(int).tolist())]
        expected = self.reference(made, TWELVE_BITS)
        assert np.abs(dicom_to_grey(made) - expected).max() <= 0.5 + 1e-9


class TestEncodings:
    @pytest.mark.parametrize("kind", UNCOMPRESSED + COMPRESSED)
    @pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
    def test_lossless_ones_give_the_same_pixels(self, tmp_path, capfd, kind, bits):
        made = dataset(of_bits(bits), bits=bits)
        expected = dicom_to_grey(made)
        path = tmp_path / "x.bin"  # told from its content
        path.write_bytes(encoded(kind, made, tmp_path))
        capfd.readouterr()
        grey = read_image(path)
        assert capfd.readouterr() == ("", "")
        np.testing.assert_array_equal(grey, expected)
        assert grey.flags.c_contiguous

    @pytest.mark.parametrize("kind", ["explicit", *COMPRESSED])
    def test_signed_pixels(self, tmp_path, kind):
        made = dataset(TWELVE_BITS.astype(np.int16) - 2048, bits=12)
        data = encoded(kind, made, tmp_path)
        np.testing.assert_array_equal(read_dicom(io.BytesIO(data)), dicom_to_grey(made))

    @pytest.mark.parametrize(
        ("bits", "signed"),
        [
            *((bits, False) for bits in (8, 10, 12, 14, 16)),
            *((bits, True) for bits in (10, 12, 14)),
        ],
    )
    @pytest.mark.parametrize("off_by", [1, 5])
    def test_near_lossless_jpeg_ls(self, tmp_path, bits, off_by, signed):
        # some white pixels come back above what the stored bits hold, and must stay white
        made = of_bits_as_dataset(bits, signed=signed)
        data = with_gdcm(written(made), tmp_path, "JPEGLSNearLossless", off_by=off_by)
        apart = np.abs(read_dicom(io.BytesIO(data)).astype(int) - dicom_to_grey(made))
        assert dcmread(io.BytesIO(data)).file_meta.TransferSyntaxUID == JPEGLSNearLossless
        # the standard's own bound (ISO 14495-1), in grey values, and one for rounding
        assert apart.max() <= off_by * 255 / (2**bits - 1) + 1
        if bits == 8:
            assert apart.any()

    @pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
    @pytest.mark.parametrize("signed", [False, True])
    def test_lossy_jpeg_2000(self, bits, signed):
        made = of_bits_as_dataset(bits, signed=signed)
        lossy = dcmread(io.BytesIO(written(made)))
        lossy.compress(JPEG2000, j2k_psnr=[60])  # dB: an error of 0.255 grey values on average
        grey = read_dicom(io.BytesIO(written(lossy))).astype(int)
        apart = np.abs(grey - dicom_to_grey(made))
        assert 0 < np.sqrt((apart**2).mean()) < 0.255 + 0.5
        assert apart.max() <= 3

    def test_jpeg_baseline(self):
        picture = cv2.GaussianBlur((TWELVE_BITS >> 4).astype(np.uint8), (0, 0), 3)
        frame = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        made = dataset(picture)
        made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        made.PixelData = encapsulate([frame])
        grey = read_dicom(io.BytesIO(written(made)))
        assert np.abs(grey.astype(int) - picture).max() < 8
        assert np.abs(grey.astype(int) - cv2.imdecode(np.frombuffer(frame, np.uint8), 0)).max() <= 2

    def test_colour_secondary_capture(self):
        generator = np.random.default_rng(0)
        colour = generator.integers(0, 256, (12, 9, 3), dtype=np.uint8)
        expected = colour @ np.array([0.299, 0.587, 0.114])
        assert np.abs(dicom_to_grey(dataset(colour)) - expected).max() <= 0.51
        grey = np.repeat(colour[..., :1], 3, axis=2)
        np.testing.assert_array_equal(dicom_to_grey(dataset(grey)), grey[..., 0])

    def test_without_preamble_and_meta_header(self, tmp_path):
        made = dataset(TWELVE_BITS, bits=12)
        bare = Dataset({element.tag: element for element in made})
        bare.save_as(tmp_path / "x.dcm", implicit_vr=True, little_endian=True)
        np.testing.assert_array_equal(read_image(tmp_path / "x.dcm"), dicom_to_grey(made))

    def test_one_decoder_failing_leaves_the_others(self, monkeypatch, tmp_path):
        from pydicom.pixels.decoders import JPEG2000LosslessDecoder

        def fail(*_: object) -> bytes:
            raise RuntimeError("this decoder cannot")

        made = dataset(TWELVE_BITS, bits=12)
        data = encoded("JPEG 2000", made, tmp_path)
        first, *others = JPEG2000LosslessDecoder._available
        if not others:
            pytest.skip("only one decoder of JPEG 2000 is installed")
        monkeypatch.setitem(JPEG2000LosslessDecoder._available, first, fail)
        np.testing.assert_array_equal(read_dicom(io.BytesIO(data)), dicom_to_grey(made))
        for name in others:
            monkeypatch.setitem(JPEG2000LosslessDecoder._available, name, fail)
        with pytest.raises(UnreadableImage, match="this decoder cannot"):
            read_dicom(io.BytesIO(data))


def test_the_dataset_is_not_changed():
    made = dataset(TWELVE_BITS, bits=12, RescaleSlope="2", RescaleIntercept="-5")
    made.WindowCenter, made.WindowWidth = ["100", "5"], ["300", "9"]
    made.VOILUTSequence = [lookup_item(0, 12, [1, 2, 3])]
    data = written(made)
    loaded = dcmread(io.BytesIO(data))
    before = copy.deepcopy(loaded)
    dicom_to_grey(loaded)
    assert loaded == before
    assert written(loaded) == data


class TestRefused:
    def test_without_pixels(self):
        made = dataset(TWELVE_BITS)
        del made.PixelData
        with pytest.raises(UnreadableImage, match=r"^DICOM without pixel data$"):
            dicom_to_grey(made)

    def test_several_frames(self):
        made = dataset(TWELVE_BITS, NumberOfFrames=30)
        with pytest.raises(UnreadableImage, match=r"^multi-frame DICOM with 30 frames$"):
            dicom_to_grey(made)

    def test_a_palette(self):
        made = dataset(TWELVE_BITS, PhotometricInterpretation="PALETTE COLOR")
        with pytest.raises(UnreadableImage, match="PALETTE COLOR pixels"):
            dicom_to_grey(made)

    def test_missing_elements(self):
        made = dataset(TWELVE_BITS)
        del made.Rows, made.BitsStored
        with pytest.raises(UnreadableImage, match=r"^DICOM without Rows, BitsStored$"):
            dicom_to_grey(made)

    def test_another_file_of_that_name(self, tmp_path, capfd):
        path = tmp_path / "x.dcm"
        path.write_bytes(b"<!DOCTYPE html><html>sign in</html>" * 20)
        with pytest.raises(UnreadableImage, match=r"x\.dcm: (not an image|damaged DICOM)"):
            read_image(path)
        assert capfd.readouterr() == ("", "")

    def test_missing_file(self, tmp_path):
        with pytest.raises(UnreadableImage, match="missing"):
            read_dicom(tmp_path / "x.dcm")

    @pytest.mark.parametrize("kind", ["explicit", *COMPRESSED])
    @pytest.mark.parametrize("share", [0.5, 0.8, 0.98])
    def test_truncated_files(self, tmp_path, capfd, kind, share):
        data = encoded(kind, dataset(NOISE, bits=12), tmp_path)
        (tmp_path / "x.dcm").write_bytes(data[: int(len(data) * share)])
        capfd.readouterr()
        with pytest.raises(UnreadableImage, match="truncated DICOM"):
            read_image(tmp_path / "x.dcm")
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("kind", COMPRESSED)
    def test_truncated_images_in_whole_files(self, tmp_path, capfd, kind):
        # gdcm and pylibjpeg fill the rest of a JPEG-LS or lossless JPEG image and say nothing
        made = dcmread(io.BytesIO(encoded(kind, dataset(TWELVE_BITS, bits=12), tmp_path)))
        frame = next(generate_frames(made.PixelData, number_of_frames=1))
        made.PixelData = encapsulate([frame[: len(frame) // 2]])
        capfd.readouterr()
        with pytest.raises(UnreadableImage, match="DICOM"):
            read_dicom(io.BytesIO(written(made)))
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("udacity_test1", "00000002_000"),
        ("udacity_test2", "00000001_000"),
        ("udacity_test3", "00000061_002"),
        ("udacity_test4", "00000002_000"),
        ("udacity_test5", "00000002_000"),
        ("udacity_test6", "00000002_000"),
        ("nih_google_*", "00000002_000"),
    ],
)
def test_real_files_equal_the_pictures_they_were_made_from(name, source):
    if not (SHARED / "dicom").is_dir():
        pytest.skip(f"{SHARED} is not there: real radiographs are not part of the project")
    (path,) = (SHARED / "dicom").glob(f"{name}.dcm")
    grey = read_image(path)
    assert grey.shape == (1024, 1024)
    smaller = Image.fromarray(grey).resize((256, 256), Image.Resampling.LANCZOS)
    with Image.open(SHARED / "nih_dev" / "images" / f"{source}.png") as expected:
        np.testing.assert_array_equal(smaller, expected)
