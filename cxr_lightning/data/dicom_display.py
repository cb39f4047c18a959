"""Stored DICOM values to grey values as displayed: modality, VOI LUT, window (PS3.3 C.11)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cxr_lightning.data.images import spread_to_uint8
from cxr_lightning.data.unreadable import UnreadableImage

__all__ = ["Display", "Voi", "display_values", "padding_value"]

Voi = Literal["lut", "window", "range"]
"""What comes first of what a file offers: its VOI LUT, its window, or the range of its pixels."""

Values = Callable[[NDArray[Any]], NDArray[Any]]
Display = Callable[[NDArray[Any]], NDArray[np.uint8]]


def display_values(
    dataset: Dataset,
    seen: Callable[[], NDArray[Any]],
    padding: int | None = None,
    voi: Voi = "lut",
) -> Display:
    """Return the map from stored values to grey before any MONOCHROME1 inversion.

    Parameters
    ----------
    dataset
        Its Modality and VOI LUT attributes are read.
    seen
        Returns the pixels' values, each at least once; without a modality look-up table and padding
        the smallest and the largest are enough. Called only where the range is shown: it is then
        spread, without `padding`, over 0 to 255.
    padding
        See :func:`padding_value`.
    voi
        ``lut``: the first VOI LUT, else the first window, else the range; ``window``: the window
        before the LUT; ``range``: neither.
    """
    modality = _modality(dataset)
    ways = {"lut": (_voi_lut, _window), "window": (_window, _voi_lut), "range": ()}[voi]
    for way in ways:
        if (shown := way(dataset)) is not None:
            return lambda values: shown(modality(values))
    bits = int(dataset.BitsStored)
    if bits <= 8:
        lowest = -(2 ** (bits - 1)) if dataset.PixelRepresentation else 0
        span = modality(np.arange(lowest, lowest + 2**bits))
    else:
        stored = seen()
        inside = stored if padding is None else stored[stored != padding]
        inside = inside if inside.size else stored
        ends = np.array([inside.min(), inside.max()])
        # a table need not be monotone: its ends are not its extremes
        span = modality(np.unique(inside) if dataset.get("ModalityLUTSequence") else ends)
    return lambda values: spread_to_uint8(modality(values), span.min(), span.max())


def _voi_lut(dataset: Dataset) -> Display | None:
    items = dataset.get("VOILUTSequence")
    if not items:
        return None
    table, top = _lookup_table(items[0], dataset)
    return lambda values: spread_to_uint8(table(values), 0, top)


def _window(dataset: Dataset) -> Display | None:
    window = _first_window(dataset)
    return None if window is None else lambda values: _windowed(values, *window)


def padding_value(dataset: Dataset, bits: int, signed: bool) -> int | None:
    """Return the stored value that marks pixels outside of the picture, if there is one."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    stored = int(value)
    written_as_unsigned = signed and stored >= 2 ** (bits - 1)
    return stored - 2**bits if written_as_unsigned else stored


def _modality(dataset: Dataset) -> Values:
    if items := dataset.get("ModalityLUTSequence"):
        return _lookup_table(items[0], dataset)[0]
    slope = dataset.get("RescaleSlope")
    intercept = dataset.get("RescaleIntercept")
    factor = float(slope or 1.0)  # a slope of 0 is a writer's mistake
    offset = float(intercept or 0.0)
    return lambda values: np.asarray(values * factor + offset)


def _lookup_table(item: Dataset, dataset: Dataset) -> tuple[Values, int]:
    """Return the look-up of a Modality or VOI LUT item and its highest output (PS3.3 C.11.1.1)."""
    try:
        entries, first, depth = (int(value) for value in item.LUTDescriptor)
        entries = entries or 2**16
        data = item.LUTData
        if isinstance(data, bytes):
            order = ">" if dataset.original_encoding[1] is False else "<"
            wide = len(data) >= 2 * entries
            table = np.frombuffer(data, f"{order}u2" if wide else "u1", entries)
        else:
            table = np.asarray(data, np.int64)[:entries]
    except (AttributeError, TypeError, ValueError) as error:
        raise UnreadableImage(f"DICOM with a broken look-up table: {error}") from error
    if first > 2**15 and dataset.PixelRepresentation:
        first -= 2**16  # read as unsigned although the pixels are signed
    last = len(table) - 1

    def look_up(values: NDArray[Any]) -> NDArray[Any]:
        at = (np.rint(values).astype(np.int64) - first).clip(0, last)
        return np.asarray(table[at], np.float64)

    return look_up, 2**depth - 1


def _first_window(dataset: Dataset) -> tuple[float, float, str] | None:
    """Return (centre, width, function) of the first window that is defined and not empty."""
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        function = "LINEAR"
    for centre, width in zip(
        _floats(dataset, "WindowCenter"), _floats(dataset, "WindowWidth"), strict=False
    ):
        narrowest = 1 if function == "LINEAR" else np.nextafter(0, 1)
        if np.isfinite([centre, width]).all() and width >= narrowest:
            return centre, width, function
    return None


def _windowed(
    values: NDArray[Any], centre: float, width: float, function: str
) -> NDArray[np.uint8]:
    """Apply the formulas of PS3.3 C.11.2.1.2.1 (LINEAR) and C.11.2.1.3 (SIGMOID, LINEAR_EXACT)."""
    if function == "SIGMOID":
        exponent = np.clip(-4 * (values - centre) / width, -700, 700)
        return spread_to_uint8(1 / (1 + np.exp(exponent)), 0, 1)
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:  # a LINEAR window of one value is a threshold
        return np.where(values <= centre, 0, 255).astype(np.uint8)
    return spread_to_uint8(values, centre - width / 2, centre + width / 2)


def _floats(dataset: Dataset, name: str) -> list[float]:
    value: Any = dataset.get(name)
    if value is None or value == "":
        return []
    values = value if isinstance(value, list | tuple) or hasattr(value, "append") else [value]
    with suppress(TypeError, ValueError):
        return [float(one) for one in values]
    return []
